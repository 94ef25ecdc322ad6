-- How a channel's function stores or sends the rows of an occasion, which have the old and the new row as JSON.

-- store --
-- Durable channels: stores one message a row, for each subscription; for the one without a name if none is registered.
-- The inner query is evaluated once a message. Subscriptions are looked up in the same statement, because its snapshot
-- decides for which of them it stores.
INSERT INTO :"helpers".pgpubsub_sql_notification (channel, subscription, message, payload, key)
SELECT :'channel', coalesce(subscription.name, ''), message.number, message.payload, message.key
FROM (
    SELECT
        jsonb_build_object(
            'op', TG_OP, 'when', TG_WHEN,
            'old', changed.old, 'new', changed.new,
            'context', :{context}
        ) AS payload,
        :{key} AS key,
        nextval(:'"helpers".pgpubsub_sql_notification_id_seq') AS number
    FROM (
        :{rows}
    ) AS changed
) AS message
LEFT JOIN :"helpers".pgpubsub_sql_subscription AS subscription ON subscription.channel = :'channel';

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
FROM (
    :{rows}
) AS changed;

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
