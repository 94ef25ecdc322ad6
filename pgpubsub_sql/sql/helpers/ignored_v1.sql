-- Whether pgpubsub.ignore silences a channel: a JSON array that names it, or true for all of them.
-- A broken value silences nothing. The handler writes nothing, so it takes no transaction id.
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
