-- Which process answers, what a transaction of this session gets that asks for nothing, and when the server
-- last recovered from a crash: it then resets its statistics.
SELECT pg_backend_pid(), current_setting('transaction_isolation'),
    (SELECT coalesce(extract(epoch FROM stats_reset)::text, '') FROM pg_stat_bgwriter)
