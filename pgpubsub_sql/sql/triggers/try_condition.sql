-- What a condition says of one row, which a plan alone does not tell: whether PostgreSQL can say it at all.
SELECT (:{condition})
FROM jsonb_populate_record(CAST(NULL AS :{type}), :'row') AS old
CROSS JOIN jsonb_populate_record(CAST(NULL AS :{type}), :'row') AS new
