-- Durable, AFTER INSERT and DELETE, columns = ["id", "name"], condition = Q(new__number__gt=1) | Q(old__number__gt=1).
-- Written by version 1 of the templates.

CREATE OR REPLACE FUNCTION public.pgpubsub_channel_app__items() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET datestyle = 'ISO'
SET intervalstyle = 'postgres'
SET timezone = 'UTC'
SET bytea_output = 'hex'
SET extra_float_digits = 1
AS $pgpubsub$
-- pgpubsub_sql {"app": "app", "channel": "app.Items"}
#variable_conflict use_column
<<channel_function>>
DECLARE
    context jsonb := '{}';
    pairing integer := 1;
    home text;
    messages jsonb[];
    keys jsonb[];
    stale boolean := false;
    picked record;
BEGIN
    IF quote_ident(TG_TABLE_SCHEMA) || '.' <> 'public.'
        OR to_regclass('public.pgpubsub_sql_notification') IS NULL
    THEN
        -- The table or a schema has moved. Has this function?
        SELECT nspname INTO home
        FROM pg_trigger
        JOIN pg_proc ON pg_proc.oid = tgfoid
        JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE tgrelid = TG_RELID AND tgname = TG_NAME;
        IF home <> (parse_ident('public.pgpubsub_sql_notification'))[1]
            AND to_regclass(quote_ident(home) || '.pgpubsub_sql_notification') IS NOT NULL
        THEN
            -- It has, so its names are wrong: store every row, whole, in the table beside it.
            IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'INSERT' THEN
                SELECT
                    array_agg(jsonb_build_object(
                        'op', TG_OP, 'when', TG_WHEN,
                        'old', changed.old, 'new', changed.new,
                        '$stale', true
                    )),
                    array_agg(NULL::jsonb)
                INTO messages, keys
                FROM (
                    SELECT NULL::jsonb AS old, to_jsonb(n.*) AS new
                    FROM pgpubsub_new AS n
                ) AS changed;
            END IF;
            IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'DELETE' THEN
                SELECT
                    array_agg(jsonb_build_object(
                        'op', TG_OP, 'when', TG_WHEN,
                        'old', changed.old, 'new', changed.new,
                        '$stale', true
                    )),
                    array_agg(NULL::jsonb)
                INTO messages, keys
                FROM (
                    SELECT to_jsonb(o.*) AS old, NULL::jsonb AS new
                    FROM pgpubsub_old AS o
                ) AS changed;
            END IF;
            EXECUTE format(
                'INSERT INTO %1$I.pgpubsub_sql_notification (channel, subscription, message, payload, key) '
                'SELECT $1, coalesce(subscription.name, ''''), sent.number, sent.payload, sent.key '
                'FROM ('
                    'SELECT '
                        'told.message || jsonb_build_object(''context'', %1$I.pgpubsub_context_v1()) AS payload, '
                        '%1$I.pgpubsub_key_v1(told.key) AS key, '
                        'nextval($5) AS number '
                    'FROM unnest($2, $3) AS told (message, key) '
                    'WHERE NOT ($4 AND %1$I.pgpubsub_ignored_v1($1))'
                ') AS sent '
                'LEFT JOIN %1$I.pgpubsub_sql_subscription AS subscription ON subscription.channel = $1',
                home
            ) USING
                'app.Items', messages, keys, true,
                pg_get_serial_sequence(quote_ident(home) || '.pgpubsub_sql_notification', 'id')::regclass;
            EXECUTE format('SELECT pg_notify($1, '''') WHERE %I.pgpubsub_is_notified($1)', home) USING 'app.Items';
            IF TG_OP = 'DELETE' THEN
                RETURN OLD;
            END IF;
            RETURN NEW;
        END IF;
    END IF;
    IF current_setting('pgpubsub.ignore', true) <> ''
        AND public.pgpubsub_ignored_v1('app.Items')
    THEN
        -- This transaction ignores the channel.
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END IF;
    IF current_setting('pgpubsub.notification_context', true) <> '' THEN
        context := public.pgpubsub_context_v1();
    END IF;
    IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'INSERT' THEN
        BEGIN
            -- An error here would otherwise fail the write.
            stale := NOT (
                SELECT pg_type_is_visible(pg_typeof(coalesce(changed.number, NULL)))
                FROM (SELECT) AS one
                LEFT JOIN pgpubsub_new AS changed ON false
            );
            PERFORM count(*) FROM (
                SELECT
                    NULL::jsonb AS old,
                    (SELECT to_jsonb(chosen.*) FROM (SELECT new.id, new.name) AS chosen) AS new
                FROM pgpubsub_new AS new
                LEFT JOIN pgpubsub_new AS old ON false
                WHERE ((("new"."number" > 1 OR "old"."number" > 1)))
            ) AS changed LIMIT ALL;
            PERFORM (SELECT to_jsonb(chosen.*) FROM (SELECT new.id, new.name) AS chosen) FROM pgpubsub_new AS new LIMIT 1;
        EXCEPTION WHEN OTHERS THEN
            stale := true;
        END;
        IF stale THEN
            INSERT INTO public.pgpubsub_sql_notification (channel, subscription, message, payload, key)
            SELECT 'app.Items', coalesce(subscription.name, ''), message.number, message.payload, message.key
            FROM (
                SELECT
                    jsonb_build_object(
                        'op', TG_OP, 'when', TG_WHEN,
                        'old', changed.old, 'new', changed.new,
                        'context', context, '$stale', true
                    ) AS payload,
                    NULL::text AS key,
                    nextval('public.pgpubsub_sql_notification_id_seq') AS number
                FROM (
                    SELECT NULL::jsonb AS old, to_jsonb(n.*) AS new
                    FROM pgpubsub_new AS n
                ) AS changed
            ) AS message
            LEFT JOIN public.pgpubsub_sql_subscription AS subscription ON subscription.channel = 'app.Items';
        ELSE
            INSERT INTO public.pgpubsub_sql_notification (channel, subscription, message, payload, key)
            SELECT 'app.Items', coalesce(subscription.name, ''), message.number, message.payload, message.key
            FROM (
                SELECT
                    jsonb_build_object(
                        'op', TG_OP, 'when', TG_WHEN,
                        'old', changed.old, 'new', changed.new,
                        'context', context
                    ) AS payload,
                    NULL::text AS key,
                    nextval('public.pgpubsub_sql_notification_id_seq') AS number
                FROM (
                    SELECT
                        NULL::jsonb AS old,
                        (SELECT to_jsonb(chosen.*) FROM (SELECT new.id, new.name) AS chosen) AS new
                    FROM pgpubsub_new AS new
                    LEFT JOIN pgpubsub_new AS old ON false
                    WHERE ((("new"."number" > 1 OR "old"."number" > 1)))
                ) AS changed
            ) AS message
            LEFT JOIN public.pgpubsub_sql_subscription AS subscription ON subscription.channel = 'app.Items';
        END IF;
    END IF;
    IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'DELETE' THEN
        BEGIN
            -- An error here would otherwise fail the write.
            stale := NOT (
                SELECT pg_type_is_visible(pg_typeof(coalesce(changed.number, NULL)))
                FROM (SELECT) AS one
                LEFT JOIN pgpubsub_old AS changed ON false
            );
            PERFORM count(*) FROM (
                SELECT
                    (SELECT to_jsonb(chosen.*) FROM (SELECT old.id, old.name) AS chosen) AS old,
                    NULL::jsonb AS new
                FROM pgpubsub_old AS old
                LEFT JOIN pgpubsub_old AS new ON false
                WHERE ((("new"."number" > 1 OR "old"."number" > 1)))
            ) AS changed LIMIT ALL;
            PERFORM (SELECT to_jsonb(chosen.*) FROM (SELECT old.id, old.name) AS chosen) FROM pgpubsub_old AS old LIMIT 1;
        EXCEPTION WHEN OTHERS THEN
            stale := true;
        END;
        IF stale THEN
            INSERT INTO public.pgpubsub_sql_notification (channel, subscription, message, payload, key)
            SELECT 'app.Items', coalesce(subscription.name, ''), message.number, message.payload, message.key
            FROM (
                SELECT
                    jsonb_build_object(
                        'op', TG_OP, 'when', TG_WHEN,
                        'old', changed.old, 'new', changed.new,
                        'context', context, '$stale', true
                    ) AS payload,
                    NULL::text AS key,
                    nextval('public.pgpubsub_sql_notification_id_seq') AS number
                FROM (
                    SELECT to_jsonb(o.*) AS old, NULL::jsonb AS new
                    FROM pgpubsub_old AS o
                ) AS changed
            ) AS message
            LEFT JOIN public.pgpubsub_sql_subscription AS subscription ON subscription.channel = 'app.Items';
        ELSE
            INSERT INTO public.pgpubsub_sql_notification (channel, subscription, message, payload, key)
            SELECT 'app.Items', coalesce(subscription.name, ''), message.number, message.payload, message.key
            FROM (
                SELECT
                    jsonb_build_object(
                        'op', TG_OP, 'when', TG_WHEN,
                        'old', changed.old, 'new', changed.new,
                        'context', context
                    ) AS payload,
                    NULL::text AS key,
                    nextval('public.pgpubsub_sql_notification_id_seq') AS number
                FROM (
                    SELECT
                        (SELECT to_jsonb(chosen.*) FROM (SELECT old.id, old.name) AS chosen) AS old,
                        NULL::jsonb AS new
                    FROM pgpubsub_old AS old
                    LEFT JOIN pgpubsub_old AS new ON false
                    WHERE ((("new"."number" > 1 OR "old"."number" > 1)))
                ) AS changed
            ) AS message
            LEFT JOIN public.pgpubsub_sql_subscription AS subscription ON subscription.channel = 'app.Items';
        END IF;
    END IF;
    IF FOUND AND public.pgpubsub_must_notify('app.Items') THEN
        PERFORM pg_notify('app.Items', '');
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD; -- in a BEFORE trigger NEW, which is NULL, would keep the row
    END IF;
    RETURN NEW;
END
$pgpubsub$;

REVOKE ALL ON FUNCTION public.pgpubsub_channel_app__items() FROM PUBLIC;

CREATE OR REPLACE TRIGGER pgpubsub_app__items_after_insert
AFTER INSERT ON app_item
REFERENCING NEW TABLE AS pgpubsub_new
FOR EACH STATEMENT EXECUTE FUNCTION public.pgpubsub_channel_app__items();

CREATE OR REPLACE TRIGGER pgpubsub_app__items_after_delete
AFTER DELETE ON app_item
REFERENCING OLD TABLE AS pgpubsub_old
FOR EACH STATEMENT EXECUTE FUNCTION public.pgpubsub_channel_app__items();
