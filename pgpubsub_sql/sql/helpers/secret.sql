-- What our functions sign messages with, and workers check them with. Whoever can read it can forge messages.
-- It is no model, so that flush leaves it alone. It has no key, so that a restore of data may add a row.
CREATE TABLE IF NOT EXISTS :"schema".pgpubsub_sql_secret (
    secret bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
