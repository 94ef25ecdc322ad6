-- What became of a transaction whose connection is gone. A backend that is still in it is ended, so that it is
-- decided soon; one that waits for a standby has committed already. After a crash nobody knows: an id that was
-- not yet in the log is given to another transaction, which must not be taken for it.
SELECT coalesce(pg_xact_status(%(transaction)s::xid8), 'unknown'), (
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE backend_xid = %(transaction)s::xid8::xid AND pid <> pg_backend_pid()
)
FROM pg_stat_bgwriter WHERE coalesce(extract(epoch FROM stats_reset)::text, '') = %(recovered_at)s
