-- Gives a column its type back, without its default, which may not fit.
ALTER TABLE :"schema".:"table"
    ALTER COLUMN :"column" DROP DEFAULT,
    ALTER COLUMN :"column" TYPE :{type} USING CAST(:"column"::text AS :{type});
