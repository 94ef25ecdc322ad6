-- TRUNCATE has no rows, so it is one message.
CREATE OR REPLACE TRIGGER :"trigger"
:{timing} ON :{table}
FOR EACH STATEMENT EXECUTE FUNCTION :"schema".:"function"();
