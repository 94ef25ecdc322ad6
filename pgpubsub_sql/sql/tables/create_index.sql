-- Makes an index that is not there.
CREATE INDEX :"index" ON :"schema".:"table" :{definition};
