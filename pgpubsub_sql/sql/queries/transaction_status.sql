-- What became of a transaction that somebody has ended.
SELECT pg_xact_status(%(transaction)s::xid8)
