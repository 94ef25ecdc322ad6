-- Whether this session is the one that stores what is sent by NOTIFY on a durable channel. Once it is,
-- it stays so until it ends; others are told no meanwhile.
SELECT pg_try_advisory_lock('pgpubsub_sql_notification'::regclass::oid::integer, hashtext(%(channel)s))
