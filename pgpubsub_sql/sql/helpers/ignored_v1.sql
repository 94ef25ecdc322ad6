-- Whether pgpubsub.ignore names a channel: it is a JSON array of names, or true for all channels.
-- A broken value ignores nothing. The exception block writes nothing, so it takes no transaction id.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_ignored_v1(channel text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
DECLARE
    setting text := current_setting('pgpubsub.ignore', true);
    ignored jsonb;
BEGIN
    IF setting <> '' THEN
        BEGIN
            ignored := setting::jsonb;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END IF;
    RETURN coalesce(ignored = 'true' OR (jsonb_typeof(ignored) = 'array' AND ignored ? channel), false);
END
$pgpubsub$;
