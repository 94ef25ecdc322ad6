-- BEFORE is always per row: transition tables exist only after the fact.
CREATE OR REPLACE TRIGGER :"trigger"
BEFORE INSERT ON :{table}
FOR EACH ROW EXECUTE FUNCTION :"schema".:"function"();
