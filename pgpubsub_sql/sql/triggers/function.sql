-- The function of a channel: its frame, and the pieces that do not depend on the occasion. What it does on an
-- occasion stands in insert.sql, update.sql, delete.sql, row.sql and truncate.sql.

-- function --
-- Stores or sends one message a row, and rings at most once a call.
-- A name in a query that may be a column's or a variable's is the column's.
-- All settings of the writer's session that change how a value is spelled are pinned.
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
    :{chosen_variables}
BEGIN
    :{moved}
    :{ignored}
    context := :"helpers".pgpubsub_context_v1();
    :{occasions}
    :{ring}
    IF TG_OP = 'DELETE' THEN
        RETURN OLD; -- before the fact NEW, which is NULL, would keep the row
    END IF;
    RETURN NEW;
END
$pgpubsub$;

-- chosen_variables --
-- Where options name columns: whether they no longer fit the table, and the row that was chosen.
stale boolean := false;
picked record;

-- ignored --
-- Silences the channel in a transaction that asks for it. The helper is called only if one does.
IF current_setting('pgpubsub.ignore', true) <> ''
    AND :"helpers".pgpubsub_ignored_v1(:'channel')
THEN
    -- This transaction has asked for silence.
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END IF;

-- ring --
-- Wakes the workers of a durable channel, if the last statement stored anything.
IF FOUND THEN
    PERFORM :"helpers".pgpubsub_ring(:'channel');
END IF;
