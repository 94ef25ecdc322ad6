-- Default privileges may have granted it to everybody.
REVOKE ALL ON TABLE :"schema".pgpubsub_sql_secret FROM PUBLIC;
