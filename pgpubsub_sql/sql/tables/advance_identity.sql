-- The numbers that a new identity column gives begin beyond those that there are. The column may own another
-- sequence, too, which has given them before: so it is not looked for by pg_get_serial_sequence().
SELECT setval(objid::regclass, (SELECT max(id) FROM :{quoted})) FROM pg_depend
WHERE classid = 'pg_class'::regclass AND refobjid = :'name'::regclass AND refobjsubid > 0 AND deptype = 'i'
    AND EXISTS (SELECT FROM :{quoted});
