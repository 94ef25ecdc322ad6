-- The function of a channel: its frame, and the parts that do not depend on the occasion. The others are in
-- insert.sql, update.sql, delete.sql, row.sql and truncate.sql.

-- function --
-- Stores one message per row and notifies at most once per call, or sends one NOTIFY per row.
-- If a name in a query could be a column or a variable, it is the column. Only update.sql uses the label and "pairing";
-- other functions have them, too.
-- The SET clauses fix all settings of the writer's session that change the text form of values.
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
    context jsonb := '{}';
    pairing integer := 1;
    :{moved_variables}
    :{chosen_variables}
BEGIN
    :{moved}
    :{ignored}
    IF current_setting('pgpubsub.notification_context', true) <> '' THEN
        context := :"helpers".pgpubsub_context_v1();
    END IF;
    :{occasions}
    :{ring}
    IF TG_OP = 'DELETE' THEN
        RETURN OLD; -- in a BEFORE trigger NEW, which is NULL, would keep the row
    END IF;
    RETURN NEW;
END
$pgpubsub$;

-- chosen_variables --
-- If options name columns: whether they no longer fit the table, and the row that was chosen, for row.sql alone.
stale boolean := false;
picked record;

-- ignored --
-- Returns if the transaction ignores the channel. The helper is called only if it ignores any.
IF current_setting('pgpubsub.ignore', true) <> ''
    AND :"helpers".pgpubsub_ignored_v1(:'channel')
THEN
    -- This transaction ignores the channel.
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END IF;

-- ring --
-- Wakes a sleeping worker of a durable channel if the last statement has stored anything.
IF FOUND AND :"helpers".pgpubsub_must_notify(:'channel') THEN
    PERFORM pg_notify(:'channel', '');
END IF;
