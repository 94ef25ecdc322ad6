-- The same of a row that EXECUTE is given.
SELECT NOT (:{visible}) :{source}
