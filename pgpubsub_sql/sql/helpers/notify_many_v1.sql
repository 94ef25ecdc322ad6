-- For notify_many(): sends messages in order, with one INSERT for all that are durable, and one ring a channel.
-- Messages are numbered once they are sorted.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_notify_many_v1(
    channels text[], payloads jsonb[], durable boolean[], keys jsonb[]
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
<<many>>
DECLARE
    context jsonb := :"schema".pgpubsub_context_v1();
BEGIN
    context := CASE WHEN context = '{}' THEN '{}' ELSE jsonb_build_object('$context', context) END;
    IF true = ANY (durable) THEN -- in a read-only transaction an INSERT of nothing is refused, too
        INSERT INTO :"schema".pgpubsub_sql_notification (channel, subscription, message, payload, key)
        SELECT message.channel, coalesce(subscription.name, ''), message.number, message.payload, message.key
        FROM (
            SELECT
                sorted.channel, many.context || sorted.payload AS payload, :"schema".pgpubsub_key_v1(sorted.key) AS key,
                nextval(:'"schema".pgpubsub_sql_notification_id_seq') AS number
            FROM (
                SELECT * FROM unnest(channels, payloads, durable, keys)
                WITH ORDINALITY AS sent (channel, payload, is_durable, key, position)
                WHERE sent.is_durable ORDER BY sent.position
            ) AS sorted
        ) AS message
        LEFT JOIN :"schema".pgpubsub_sql_subscription AS subscription ON subscription.channel = message.channel
        ORDER BY message.number;
        PERFORM pg_notify(durable_channel.name, '') FROM (
            SELECT DISTINCT message.channel
            FROM unnest(channels, durable) AS message (channel, is_durable)
            WHERE message.is_durable ORDER BY message.channel
        ) AS durable_channel (name)
        WHERE :"schema".pgpubsub_must_notify(durable_channel.name);
    END IF;
    PERFORM :"schema".pgpubsub_send_v1(message.channel, many.context || message.payload) FROM (
        SELECT * FROM unnest(channels, payloads, durable)
        WITH ORDINALITY AS message (channel, payload, is_durable, position)
        WHERE NOT message.is_durable ORDER BY message.position
    ) AS message;
END
$pgpubsub$;
