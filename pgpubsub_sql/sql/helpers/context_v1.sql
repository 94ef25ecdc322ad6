-- What is sent beside a payload: pgpubsub.notification_context, or {} if that is not a JSON object.
-- A broken value must not fail a write. The exception block writes nothing, so it takes no transaction id.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_context_v1() RETURNS jsonb
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
DECLARE
    setting text := current_setting('pgpubsub.notification_context', true);
    context jsonb := '{}';
BEGIN
    IF setting <> '' THEN
        BEGIN
            context := setting::jsonb;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END IF;
    RETURN CASE WHEN jsonb_typeof(context) = 'object' THEN context ELSE '{}' END;
END
$pgpubsub$;
