-- Empties a partition of the history if nothing in it is to be kept any longer, and says whether it did. Its owner may
-- truncate; who may only call it can delete nothing too early. Whatever has locked the partition makes it give up soon
-- (lock_not_available), since others that need it have to wait as long. Nobody writes to such a slot but workers of
-- another version, which are kept out while it looks again.
CREATE OR REPLACE FUNCTION :"schema".pgpubsub_forget_v1(slot integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET lock_timeout = '100ms'
SET enable_seqscan = off
AS $pgpubsub$
DECLARE
    part text := :'"schema".pgpubsub_sql_history' || '_' || slot;
    is_kept boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'pgpubsub: the history is emptied in READ COMMITTED transactions only'
            USING ERRCODE = 'invalid_transaction_state', HINT = 'Others would not see what was kept since they began.';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_inherits
        WHERE inhrelid = to_regclass(part) AND inhparent = :'"schema".pgpubsub_sql_history'::regclass
    ) THEN
        RETURN false; -- detached, perhaps to be kept for ever
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE kept_until > statement_timestamp())', part) INTO is_kept;
    IF is_kept THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', part);
    EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE kept_until > statement_timestamp())', part) INTO is_kept;
    IF is_kept THEN
        RETURN false;
    END IF;
    EXECUTE format('TRUNCATE %s', part);
    RETURN true;
END
$pgpubsub$;
