-- The rows of an UPDATE: both transition tables are filled in the same order, whatever the statement.
SELECT before.old, after.new
            FROM (SELECT row_number() OVER () * channel_function.pairing AS position, to_jsonb(o.*) AS old FROM pgpubsub_old AS o) AS before
            FULL JOIN (SELECT row_number() OVER () AS position, to_jsonb(n.*) AS new FROM pgpubsub_new AS n) AS after
            ON before.position = after.position
            ORDER BY abs(coalesce(before.position, after.position))
