-- Writes down that a notification has failed, after its transaction was rolled back. Without effect
-- if somebody else has had it in hand since; one who found it given up, and could not say why, has not.
-- A failure that undid so much is not to undo it again.
UPDATE pgpubsub_sql_notification
SET available_at = clock_timestamp() + %(delay)s * interval '1 s', -- NULL without a delay: parked
    attempts = %(attempts)s,
    unreadable = coalesce(%(unreadable)s, unreadable),
    last_error = %(last_error)s,
    alone = true
WHERE id = %(id)s AND (attempts = %(attempts_before)s
    OR (attempts = %(attempts_before)s + 1 AND last_error = %(died)s))
