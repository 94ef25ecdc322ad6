-- Takes away long messages that every listener has had the time to read.
DELETE FROM pgpubsub_sql_longpayload WHERE expires_at < clock_timestamp()
