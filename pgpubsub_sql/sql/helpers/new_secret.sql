-- Makes the secret; the column's default is random.
INSERT INTO :"schema".pgpubsub_sql_secret DEFAULT VALUES;
