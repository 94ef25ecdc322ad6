-- The same as the table has its columns now.
EXECUTE :'types' INTO stale USING OLD, NEW, TG_OP;
