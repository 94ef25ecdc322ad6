-- One event a trigger: PostgreSQL allows transition tables for a single one. REPLACE locks out writers, not readers.
CREATE OR REPLACE TRIGGER :"trigger"
AFTER DELETE ON :{table}
REFERENCING OLD TABLE AS pgpubsub_old
FOR EACH STATEMENT EXECUTE FUNCTION :"schema".:"function"();
