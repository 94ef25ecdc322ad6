-- Sends one message of an ephemeral channel. $schema is read from a qualified name, which a tool that copies
-- the schema as text changes, too. $id distinguishes equal messages of a transaction, which PostgreSQL would
-- merge. What is too long for a NOTIFY is stored and sent as a $ref. $sig proves to workers that this function
-- sent the message, on this channel and from this session. It comes first, so that they can verify the rest of
-- the text as it was received.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_send_v1(channel text, payload jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
DECLARE
    envelope jsonb := jsonb_build_object(
        '$id', gen_random_uuid(), '$schema', (parse_ident(:'"schema".pgpubsub_send_v1'))[1]
    );
    message text := payload || envelope;
    signing bytea;
    signature bytea;
    reference bigint;
BEGIN
    IF octet_length(message) > 7923 THEN -- a NOTIFY holds 7,999 bytes, 76 of them for the signature
        INSERT INTO :"schema".pgpubsub_sql_longpayload (payload, expires_at)
        VALUES (payload, clock_timestamp() + interval '1 hour')
        RETURNING id INTO reference;
        message := envelope || jsonb_build_object('$ref', reference);
    END IF;
    SELECT secret INTO signing FROM :"schema".pgpubsub_sql_secret;
    IF signing IS NULL AND current_setting('transaction_read_only') = 'off' THEN -- somebody emptied the table
        INSERT INTO :"schema".pgpubsub_sql_secret DEFAULT VALUES RETURNING secret INTO signing;
    END IF;
    signature := sha256(signing || sha256(signing || convert_to(pg_backend_pid() || message || channel, 'UTF8')));
    PERFORM pg_notify(
        channel, coalesce('{"$sig": "' || encode(signature, 'hex') || '", ' || right(message, -1), message)
    );
END
$pgpubsub$;
