-- The row that was chosen; of none, both are NULL.
SELECT picked.old, picked.new WHERE coalesce(picked.old, picked.new) IS NOT NULL
