-- CREATE OR REPLACE has enabled a trigger that somebody had disabled, or made fire on replicas.
ALTER TABLE :{table} :{state} TRIGGER :"trigger";
