-- Stores one message of a durable channel and rings. NULL for available_at means now.
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
    INSERT INTO :"schema".pgpubsub_sql_notification (channel, payload, available_at, expires_at, key)
    VALUES (
        channel, payload, coalesce(available_at, clock_timestamp()), expires_at, :"schema".pgpubsub_key_v1(key)
    )
    RETURNING id INTO stored;
    IF :"schema".pgpubsub_must_notify(channel) THEN
        PERFORM pg_notify(channel, '');
    END IF;
    RETURN stored;
END
$pgpubsub$;
