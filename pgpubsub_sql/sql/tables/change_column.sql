-- Makes one property of a column as it was made.
ALTER TABLE :"schema".:"table" ALTER COLUMN :"column" :{change};
