-- Whether the transaction that a row's xmax names was rolled back: whoever took the row gave it up without
-- account. The 64-bit id is made from this transaction's own. An id that seems to be of the future is none
-- of a transaction's (several that lock a row together share one), and pg_xact_status() would refuse it.
CASE
    WHEN mark = 0 THEN false
    WHEN ((pg_current_xact_id()::text::bigint - mark::text::bigint) & 4294967295) >= 2147483648 THEN false
    ELSE coalesce(pg_xact_status(greatest(
        pg_current_xact_id()::text::bigint - ((pg_current_xact_id()::text::bigint - mark::text::bigint) & 4294967295), 0
    )::text::xid8) = 'aborted', false)
END
