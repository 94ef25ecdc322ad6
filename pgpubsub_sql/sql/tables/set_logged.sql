-- What is in an unlogged table is gone after a crash.
ALTER TABLE :"schema".:"table" SET LOGGED;
