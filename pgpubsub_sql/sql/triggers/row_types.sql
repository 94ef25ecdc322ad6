-- The same of the row that a trigger FOR EACH ROW is called for; of one that there is not, the types are known, too.
stale := NOT (:{visible});
