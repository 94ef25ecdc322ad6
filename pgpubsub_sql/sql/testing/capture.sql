-- How the test kit records, in a transaction, the ephemeral messages that are sent in it.

-- create_captured --
-- Messages, in the numbering of stored ones, so that both have one order.
CREATE TEMPORARY TABLE pgpubsub_sql_captured (
    id bigint NOT NULL DEFAULT nextval(pg_get_serial_sequence(:'"schema".pgpubsub_sql_notification', 'id')),
    channel text NOT NULL,
    payload text NOT NULL,
    raw boolean NOT NULL
) ON COMMIT DROP;
-- The function that sends runs with its owner's privileges.
GRANT INSERT ON pg_temp.pgpubsub_sql_captured TO PUBLIC

-- recording_body --
-- The body of the function that sends ephemeral messages, while they are captured: it records a message, and sends
-- it as before. The table is missing if something has committed the transaction.
BEGIN
    IF to_regclass('pg_temp.pgpubsub_sql_captured') IS NOT NULL THEN
        INSERT INTO pg_temp.pgpubsub_sql_captured (channel, payload, raw) VALUES (channel, payload, false);
    END IF;
    :{body};
END

-- create_raw_schema --
-- A pg_notify that is found before PostgreSQL's.
CREATE SCHEMA IF NOT EXISTS pgpubsub_sql_testing;
GRANT USAGE ON SCHEMA pgpubsub_sql_testing TO PUBLIC;
CREATE OR REPLACE FUNCTION pgpubsub_sql_testing.pg_notify(channel text, payload text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $pgpubsub$
BEGIN
    IF payload <> '' AND to_regclass('pg_temp.pgpubsub_sql_captured') IS NOT NULL THEN
        INSERT INTO pg_temp.pgpubsub_sql_captured (channel, payload, raw) VALUES (channel, payload, true);
    END IF;
    PERFORM pg_catalog.pg_notify(channel, payload);
END
$pgpubsub$

-- drop_raw_schema --
DROP SCHEMA IF EXISTS pgpubsub_sql_testing CASCADE

-- savepoint --
-- A savepoint that a listener's COMMIT has ended.
SAVEPOINT :"name"

-- row --
-- A row that is stored nowhere, as triggers write it.
SELECT to_jsonb(made)::text FROM (SELECT :{columns}) AS made

-- column --
CAST(%s AS :{type}) AS :"name"
