-- Makes the secret, unless there is one; the column's default is random.
DO $pgpubsub$
BEGIN
    IF NOT EXISTS (SELECT FROM :"schema".pgpubsub_sql_secret) THEN
        INSERT INTO :"schema".pgpubsub_sql_secret DEFAULT VALUES;
    END IF;
END
$pgpubsub$;
