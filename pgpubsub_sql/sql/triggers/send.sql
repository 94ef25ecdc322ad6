-- Ephemeral channels: one NOTIFY a change.
PERFORM :"helpers".pgpubsub_send_v1(:'channel', jsonb_build_object(
                'op', TG_OP, 'when', TG_WHEN, 'old', changed.old, 'new', changed.new, 'context', context:{mark}
            ))
            FROM (:{rows}) AS changed;
