-- The row that a trigger FOR EACH ROW is called for; the one there is not is NULL.
SELECT to_jsonb(OLD) AS old, to_jsonb(NEW) AS new
