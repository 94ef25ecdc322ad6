-- Durable, AFTER INSERT, in a schema other than that of our tables.
-- Written by version 1 of the templates.
-- Needs: CREATE SCHEMA tenant;
-- Needs: CREATE TABLE tenant.app_item (LIKE app_item INCLUDING ALL);
-- Needs: SET search_path = tenant, public;

CREATE OR REPLACE FUNCTION tenant.pgpubsub_channel_app__items() RETURNS trigger
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
BEGIN
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
                SELECT NULL::jsonb AS old, to_jsonb(n.*) AS new
                FROM pgpubsub_new AS n
            ) AS changed
        ) AS message
        LEFT JOIN public.pgpubsub_sql_subscription AS subscription ON subscription.channel = 'app.Items';
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

REVOKE ALL ON FUNCTION tenant.pgpubsub_channel_app__items() FROM PUBLIC;

CREATE OR REPLACE TRIGGER pgpubsub_app__items_after_insert
AFTER INSERT ON app_item
REFERENCING NEW TABLE AS pgpubsub_new
FOR EACH STATEMENT EXECUTE FUNCTION tenant.pgpubsub_channel_app__items();
