-- One event a trigger: PostgreSQL allows transition tables for a single one. REPLACE locks out writers, not readers.
CREATE OR REPLACE TRIGGER :"trigger"
AFTER UPDATE ON :{table}
REFERENCING OLD TABLE AS pgpubsub_old NEW TABLE AS pgpubsub_new
FOR EACH STATEMENT EXECUTE FUNCTION :"schema".:"function"();
