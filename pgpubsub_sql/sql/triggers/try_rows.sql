-- Does what is to come, but for the writing: a condition may fail for one value and not for another.
PERFORM count(*) FROM (:{rows}) AS changed;
