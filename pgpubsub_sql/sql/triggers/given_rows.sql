-- Where EXECUTE finds what elsewhere are variables of the function.
FROM (SELECT ($1).*) AS old, (SELECT ($2).*) AS new, (SELECT $3 AS TG_OP) AS called
