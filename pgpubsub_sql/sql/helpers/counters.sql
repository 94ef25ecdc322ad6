-- The table of counters: what became of messages, minute by minute, and in total.

-- create_counters --
-- It has no model, so flush leaves it alone: totals never go back. Rows of the current minute are updated again and
-- again, which needs room in their pages, and no index that would have to be changed, too.
CREATE TABLE IF NOT EXISTS :"schema".pgpubsub_sql_counter (
    minute timestamptz NOT NULL,
    channel varchar(63) NOT NULL,
    subscription varchar(63) NOT NULL,
    listener text NOT NULL,
    worker smallint NOT NULL,
    handled bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    parked bigint NOT NULL DEFAULT 0,
    discarded bigint NOT NULL DEFAULT 0,
    expired bigint NOT NULL DEFAULT 0,
    seconds double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (minute, channel, subscription, listener, worker)
) WITH (fillfactor = 50);

-- drop_counters --
DROP TABLE IF EXISTS :"schema".pgpubsub_sql_counter;
