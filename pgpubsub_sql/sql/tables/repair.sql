-- What pgpubsub install does to tables of ours that somebody has changed.

-- rename_table --
ALTER TABLE :"schema".:"present" RENAME TO :"table";

-- set_logged --
-- After a crash an unlogged table is empty.
ALTER TABLE :"schema".:"table" SET LOGGED;

-- add_column --
ALTER TABLE :"schema".:"table" ADD COLUMN :"column" :{definition};

-- rename_column --
ALTER TABLE :"schema".:"table" RENAME COLUMN :"present" TO :"column";

-- change_column --
-- Restores one property of a column.
ALTER TABLE :"schema".:"table" ALTER COLUMN :"column" :{change};

-- change_type --
ALTER TABLE :"schema".:"table" ALTER COLUMN :"column" TYPE :{type} USING CAST(:"column"::text AS :{type});

-- advance_identity --
-- Makes a new identity column continue after the numbers that the table has. The column may own another
-- sequence, which numbered it before, so pg_get_serial_sequence() may find the wrong one.
SELECT setval(objid::regclass, (SELECT max(id) FROM :{quoted})) FROM pg_depend
WHERE classid = 'pg_class'::regclass AND refobjid = :'name'::regclass AND refobjsubid > 0 AND deptype = 'i'
    AND EXISTS (SELECT FROM :{quoted});

-- create_key --
ALTER TABLE :"schema".:"table" ADD PRIMARY KEY (:{columns});

-- create_index --
CREATE INDEX :"index" ON :"schema".:"table" :{definition};

-- drop_index --
-- For one that has another definition, or that nobody finished.
DROP INDEX :"schema".:"index";
