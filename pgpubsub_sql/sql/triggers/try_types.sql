-- An operator that is not found gives way to another: without that of citext, a condition means that of text.
stale := NOT (SELECT :{visible} FROM (SELECT) AS one LEFT JOIN :{table} AS changed ON false);
