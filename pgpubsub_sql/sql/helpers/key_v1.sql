-- The ordering key of a message as it is stored: the JSON array of its values, NULL if all of them are
-- null, and a digest if it is too long for an index. PostgreSQL inlines it; therefore it names schemas, has no
-- SET, and is only STABLE, like convert_to().
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_key_v1(parts jsonb) RETURNS text
LANGUAGE sql STABLE
AS $pgpubsub$
SELECT CASE
    WHEN parts OPERATOR(pg_catalog.<@) '[null]'::pg_catalog.jsonb THEN NULL
    WHEN pg_catalog.octet_length(parts::pg_catalog.text) OPERATOR(pg_catalog.>) 1000 THEN
        'sha256:' OPERATOR(pg_catalog.||)
        pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(parts::pg_catalog.text, 'UTF8')), 'hex')
    ELSE parts::pg_catalog.text
END
$pgpubsub$;
