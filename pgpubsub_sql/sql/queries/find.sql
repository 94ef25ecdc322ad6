-- What a dead worker had in hand, once the server has noticed its death.
SELECT channel, attempts, created_at FROM pgpubsub_sql_notification WHERE id = %(id)s FOR UPDATE
