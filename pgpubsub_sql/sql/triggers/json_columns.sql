-- A row with the columns that travel; of all ways to write this the fastest.
(SELECT to_jsonb(chosen.*) FROM (SELECT :{columns}) AS chosen)
