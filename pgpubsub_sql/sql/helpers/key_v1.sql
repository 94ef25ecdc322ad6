-- The ordering key of a message, as it is stored: the JSON array of its values, NULL where all of them are
-- null, and a digest where an index could not hold it. Its names are bound now, so it needs no SET, which
-- would keep it from being inlined.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_key_v1(parts jsonb) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN parts <@ '[null]' THEN NULL
    WHEN octet_length(parts::text) > 1000 THEN 'sha256:' || encode(sha256(convert_to(parts::text, 'UTF8')), 'hex')
    ELSE parts::text
END;
