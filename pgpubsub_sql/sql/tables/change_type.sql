-- Gives a column its type back; a default that may not fit has been dropped before.
ALTER TABLE :"schema".:"table" ALTER COLUMN :"column" TYPE :{type} USING CAST(:"column"::text AS :{type});
