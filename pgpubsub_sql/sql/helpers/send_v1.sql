-- Sends one message of an ephemeral channel. $id keeps equal messages of a transaction apart, which
-- PostgreSQL would collapse; what is longer than a NOTIFY holds is stored and travels as a $ref.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_send_v1(channel text, payload jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
DECLARE
    envelope jsonb := jsonb_build_object('$id', gen_random_uuid(), '$schema', :'schema');
    message text := payload || envelope;
    reference bigint;
BEGIN
    IF octet_length(message) > 7999 THEN
        INSERT INTO :"schema".pgpubsub_sql_longpayload (payload, expires_at)
        VALUES (payload, clock_timestamp() + interval '1 hour')
        RETURNING id INTO reference;
        message := envelope || jsonb_build_object('$ref', reference);
    END IF;
    PERFORM pg_notify(channel, message);
END
$pgpubsub$;
