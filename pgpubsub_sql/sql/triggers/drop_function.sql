-- Takes the triggers along, wherever the catalogue says they are now: the table may have been renamed.
DROP FUNCTION IF EXISTS :"schema".:"function"() CASCADE;
