-- The numbers that a new identity column gives begin beyond those that there are.
SELECT setval(pg_get_serial_sequence(:'name', 'id'), max(id)) FROM :{quoted} HAVING max(id) IS NOT NULL;
