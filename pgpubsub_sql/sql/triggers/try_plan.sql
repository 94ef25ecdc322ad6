-- Plans what is to come: a column that is not there any more fails here.
PERFORM 1 FROM (:{rows}) AS changed LIMIT 0;
