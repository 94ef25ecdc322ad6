-- Durable channels: one stored row a change.
INSERT INTO :"helpers".pgpubsub_sql_notification (channel, payload, key)
            SELECT :'channel', jsonb_build_object(
                'op', TG_OP, 'when', TG_WHEN, 'old', changed.old, 'new', changed.new, 'context', context:{mark}
            ), :{key}
            FROM (:{rows}) AS changed;
