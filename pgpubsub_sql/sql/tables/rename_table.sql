-- Gives a table its name back.
ALTER TABLE :"schema".:"present" RENAME TO :"table";
