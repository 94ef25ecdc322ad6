-- The function of a channel: one message a row, at most one ring for each time it is called,
-- which is once per statement, or once per row before the fact.
-- Names of columns never meet names of variables: only the innermost SELECTs see the user's table.
-- Everything that a writer's session may set and that changes how a value is spelled is pinned.
CREATE OR REPLACE FUNCTION :"schema".:"function"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO'
SET intervalstyle = 'postgres'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $pgpubsub$
<<channel_function>>
DECLARE
    context jsonb := :"helpers".pgpubsub_context_v1();
    pairing integer := 1;
BEGIN
    :{ignored}
    IF TG_LEVEL = 'ROW' THEN
        :{each}
        :{ring}
        IF TG_OP = 'DELETE' THEN
            RETURN OLD; -- NEW is NULL, which would keep the row
        END IF;
        RETURN NEW;
    END IF;
    CASE TG_OP
    WHEN 'INSERT' THEN
        :{insert}
    WHEN 'UPDATE' THEN
        -- Old and new rows are paired by position; where their numbers differ none can be paired.
        IF (SELECT count(*) FROM pgpubsub_old) <> (SELECT count(*) FROM pgpubsub_new) THEN
            pairing := -1;
        END IF;
        :{update}
    WHEN 'DELETE' THEN
        :{delete}
    WHEN 'TRUNCATE' THEN
        :{truncate}
    END CASE;
    :{ring}
    RETURN NULL;
END
$pgpubsub$;
