-- Deletes what its listener discarded, after its transaction was rolled back.
DELETE FROM pgpubsub_sql_notification WHERE id = %(id)s AND attempts = %(attempts_before)s
