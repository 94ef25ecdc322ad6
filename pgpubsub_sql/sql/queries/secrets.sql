-- What signatures are checked with: one row, or several after a restore of data.
SELECT secret FROM pgpubsub_sql_secret
