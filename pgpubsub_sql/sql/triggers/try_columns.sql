-- Makes what travels of one row: a column that PostgreSQL now computes when it is read fails only then.
PERFORM :{json} FROM :{table} AS :"row" LIMIT 1;
