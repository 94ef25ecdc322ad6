-- Deletes what its listener discarded, after its transaction was rolled back.
DELETE FROM pgpubsub_sql_notification WHERE id = %(id)s AND (attempts = %(attempts_before)s
    OR (attempts = %(attempts_before)s + 1 AND last_error = %(died)s))
