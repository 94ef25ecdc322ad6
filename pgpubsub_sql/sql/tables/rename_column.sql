-- Gives a column its name back.
ALTER TABLE :"schema".:"table" RENAME COLUMN :"present" TO :"column";
