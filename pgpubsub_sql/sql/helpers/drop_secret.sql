-- Drops the table of the secret.
DROP TABLE IF EXISTS :"schema".pgpubsub_sql_secret;
