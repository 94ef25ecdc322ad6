-- What became of a transaction whose connection is gone. A backend that is still in it is ended, so that it is
-- decided soon; one that waits for a standby has committed already.
SELECT coalesce(pg_xact_status(%(transaction)s::xid8), 'unknown'), (
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE backend_xid = %(transaction)s::xid8::xid AND pid <> pg_backend_pid()
)
