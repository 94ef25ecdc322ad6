-- Stores one message of a durable channel, for each of its subscriptions, and rings. NULL for available_at means now.
-- Returns the id of its first copy.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_store_v1(
    channel text, payload jsonb, available_at timestamptz, expires_at timestamptz, key jsonb
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
DECLARE
    context jsonb := :"schema".pgpubsub_context_v1();
    stored bigint;
BEGIN
    IF channel IS NULL OR channel = '' OR octet_length(channel) > 63 THEN
        RAISE EXCEPTION 'pgpubsub: % cannot be the name of a channel', coalesce(quote_literal(channel), 'NULL')
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Use the 1 to 63 bytes that the channel declares.';
    END IF;
    IF payload IS NULL OR jsonb_typeof(payload) <> 'object' THEN
        RAISE EXCEPTION 'pgpubsub: the payload of channel % is not a JSON object', quote_literal(channel)
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Send an object of the channel''s fields.';
    END IF;
    IF context <> '{}' THEN
        payload := jsonb_build_object('$context', context) || payload;
    END IF;
    WITH copies AS (
        INSERT INTO :"schema".pgpubsub_sql_notification
            (channel, subscription, message, payload, available_at, expires_at, key)
        SELECT
            pgpubsub_store_v1.channel, coalesce(subscription.name, ''), message.number, pgpubsub_store_v1.payload,
            coalesce(pgpubsub_store_v1.available_at, clock_timestamp()), pgpubsub_store_v1.expires_at,
            :"schema".pgpubsub_key_v1(pgpubsub_store_v1.key)
        FROM (SELECT nextval(:'"schema".pgpubsub_sql_notification_id_seq') AS number) AS message
        LEFT JOIN :"schema".pgpubsub_sql_subscription AS subscription
            ON subscription.channel = pgpubsub_store_v1.channel
        RETURNING id
    )
    SELECT min(id) INTO stored FROM copies;
    IF :"schema".pgpubsub_must_notify(channel) THEN
        PERFORM pg_notify(channel, '');
    END IF;
    RETURN stored;
END
$pgpubsub$;
