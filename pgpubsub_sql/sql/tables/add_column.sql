-- Brings back a column that somebody has dropped.
ALTER TABLE :"schema".:"table" ADD COLUMN :"column" :{definition};
