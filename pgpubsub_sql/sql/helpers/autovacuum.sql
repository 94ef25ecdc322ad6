-- Autovacuum of the table of messages, for workers that may not vacuum it themselves.

-- tune_autovacuum --
-- Without the delays that spare other tables, and however many messages are stored: rows come and go by the million,
-- and most of the table is dead until autovacuum has been there.
ALTER TABLE IF EXISTS :"schema".pgpubsub_sql_notification SET (
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000
);

-- reset_autovacuum --
ALTER TABLE IF EXISTS :"schema".pgpubsub_sql_notification RESET (
    autovacuum_vacuum_cost_delay, autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold
);
