-- The table of the secret: our functions sign messages with it, and workers check them with it.

-- create_secret --
-- Whoever can read it can forge messages. It has no model, so flush leaves it alone. It has no key, so
-- that a restore of data may add a row.
CREATE TABLE IF NOT EXISTS :"schema".pgpubsub_sql_secret (
    secret bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);

-- fill_secret --
-- Makes the secret, unless there is one; the column's default is random.
DO $pgpubsub$
BEGIN
    IF NOT EXISTS (SELECT FROM :"schema".pgpubsub_sql_secret) THEN
        INSERT INTO :"schema".pgpubsub_sql_secret DEFAULT VALUES;
    END IF;
END
$pgpubsub$;

-- revoke_secret --
-- Default privileges may have granted it to everybody.
REVOKE ALL ON TABLE :"schema".pgpubsub_sql_secret FROM PUBLIC;

-- drop_secret --
DROP TABLE IF EXISTS :"schema".pgpubsub_sql_secret;
