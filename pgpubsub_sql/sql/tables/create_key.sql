-- Makes the primary key that is not there.
ALTER TABLE :"schema".:"table" ADD PRIMARY KEY (id);
