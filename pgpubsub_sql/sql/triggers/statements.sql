-- Statements on the functions and triggers of channels.

-- drop_function --
-- Also drops its triggers, wherever the catalogue has them: the table may have been renamed.
DROP FUNCTION IF EXISTS :"schema".:"function"() CASCADE;

-- revoke_function --
-- Otherwise any role could make a table of its own call the function, and send on the channel with its owner's rights.
REVOKE ALL ON FUNCTION :"schema".:"function"() FROM PUBLIC;

-- grant_function --
-- For those who make or attach partitions: PostgreSQL creates the parent's triggers there in their name.
GRANT EXECUTE ON FUNCTION :"schema".:"function"() TO :"role";

-- drop_trigger --
-- For an event that the channel no longer has.
DROP TRIGGER IF EXISTS :"trigger" ON :{table};

-- restore_trigger --
-- CREATE OR REPLACE enables a trigger that somebody had disabled, or made fire on replicas.
ALTER TABLE :{table} :{state} TRIGGER :"trigger";
