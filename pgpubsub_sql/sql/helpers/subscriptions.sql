-- The table of subscriptions: for which of them the messages of a durable channel are stored, and which are paused.

-- create_subscriptions --
-- It has no model, so flush leaves it alone: it is part of what is installed, like a trigger. With so much room in its
-- pages PostgreSQL probes its index; it would read the whole of a few full pages for each message that is sent.
CREATE TABLE IF NOT EXISTS :"schema".pgpubsub_sql_subscription (
    channel varchar(63) NOT NULL,
    name varchar(63) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_at timestamptz,
    PRIMARY KEY (channel, name)
) WITH (fillfactor = 10);

-- drop_subscriptions --
DROP TABLE IF EXISTS :"schema".pgpubsub_sql_subscription;
