-- What a migration tries before it installs the options of a channel.

-- plan --
-- Plans, and does not run, what the function does with the columns that the options name. Reads no table.
EXPLAIN SELECT :{old}, :{new}
FROM (SELECT (CAST(NULL AS :{type})).*) AS old CROSS JOIN (SELECT (CAST(NULL AS :{type})).*) AS new
WHERE (:{changed}) AND (:{condition})

-- some_rows --
-- A few rows of the table, with the columns that the condition names; which rows does not matter.
SELECT to_jsonb(chosen.*)::text FROM (SELECT :{columns} FROM (SELECT * FROM :{table} LIMIT 20) AS old) AS chosen

-- try_row --
-- Fails if the columns do not take such values: a domain may refuse them.
SELECT jsonb_populate_record(CAST(NULL AS :{type}), :'row')

-- try_condition --
-- Evaluates the condition on one row, which shows what a plan does not.
SELECT (:{condition})
FROM jsonb_populate_record(CAST(NULL AS :{type}), :'row') AS old
CROSS JOIN jsonb_populate_record(CAST(NULL AS :{type}), :'row') AS new
