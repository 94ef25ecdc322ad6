-- The table of subscriptions: for which of them the messages of a durable channel are stored, which are paused, and
-- which are being filled with what was stored before them: registered by the transaction fill_xid, they have all up to
-- the number filled_to, of those up to fill_until.

-- create_subscriptions --
-- It has no model, so flush leaves it alone: it is part of what is installed, like a trigger. With so much room in its
-- pages PostgreSQL probes its index; it would read the whole of a few full pages for each message that is sent.
CREATE TABLE IF NOT EXISTS :"schema".pgpubsub_sql_subscription (
    channel varchar(63) NOT NULL,
    name varchar(63) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_at timestamptz,
    fill_xid xid8,
    filled_to bigint,
    fill_until bigint,
    PRIMARY KEY (channel, name)
) WITH (fillfactor = 10);

-- drop_subscriptions --
DROP TABLE IF EXISTS :"schema".pgpubsub_sql_subscription;
