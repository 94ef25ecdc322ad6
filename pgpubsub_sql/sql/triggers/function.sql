-- The function of a channel: one message a row, at most one ring for each time it is called.
-- Where a name in a query may be that of a column or of a variable, it is the column's.
-- Everything that a writer's session may set and that changes how a value is spelled is pinned.
CREATE OR REPLACE FUNCTION :"schema".:"function"() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = :{search_path}
SET datestyle = 'ISO'
SET intervalstyle = 'postgres'
SET timezone = :'timezone'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $pgpubsub$
-- :{tag}
#variable_conflict use_column
<<channel_function>>
DECLARE
    context jsonb;
    pairing integer := 1;
    :{moved_variables}
    :{variables}
BEGIN
    :{moved}
    :{ignored}
    context := :"helpers".pgpubsub_context_v1();
    :{branches}
    :{ring}
    IF TG_OP = 'DELETE' THEN
        RETURN OLD; -- before the fact NEW, which is NULL, would keep the row
    END IF;
    RETURN NEW;
END
$pgpubsub$;
