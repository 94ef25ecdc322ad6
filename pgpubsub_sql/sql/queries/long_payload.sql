-- A message of an ephemeral channel that was too long for its NOTIFY.
SELECT payload::text FROM pgpubsub_sql_longpayload WHERE id = %(id)s
