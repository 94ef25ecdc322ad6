-- Plans, and does not run, what a function does with the columns that it names. Reads no table.
EXPLAIN SELECT :{old}, :{new}
FROM (SELECT (CAST(NULL AS :{type})).*) AS old CROSS JOIN (SELECT (CAST(NULL AS :{type})).*) AS new
WHERE (:{changed}) AND (:{condition})
