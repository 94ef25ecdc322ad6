-- Gives a column its type back.
ALTER TABLE :"schema".:"table" ALTER COLUMN :"column" TYPE :{type} USING CAST(:"column"::text AS :{type});
