-- A few rows of a table, with the columns that are named. Any will do, so none is looked for.
SELECT to_jsonb(chosen.*)::text FROM (SELECT :{columns} FROM (SELECT * FROM :{table} LIMIT 20) AS old) AS chosen
