-- How a channel's function stores or sends the rows of an occasion. The statement continues there with
-- FROM (…) AS changed, which has the old and the new row as JSON.

-- store --
-- Durable channels: stores one message a row.
INSERT INTO :"helpers".pgpubsub_sql_notification (channel, payload, key)
SELECT
    :'channel',
    jsonb_build_object(
        'op', TG_OP, 'when', TG_WHEN,
        'old', changed.old, 'new', changed.new,
        'context', :{context}
    ),
    :{key}

-- send --
-- Ephemeral channels: sends one NOTIFY a row.
PERFORM :"helpers".pgpubsub_send_v1(
    :'channel',
    jsonb_build_object(
        'op', TG_OP, 'when', TG_WHEN,
        'old', changed.old, 'new', changed.new,
        'context', :{context}
    )
)

-- stale_context --
-- Marks a row that is sent whole because the options no longer fit its table.
context, '$stale', true

-- key --
-- The ordering key of a change, as it is stored.
:"helpers".pgpubsub_key_v1(:{values})

-- key_values --
jsonb_build_array(:{values})

-- key_value --
-- Read from the JSON, where a missing column is no error.
coalesce(changed.new, changed.old) -> :'column'
