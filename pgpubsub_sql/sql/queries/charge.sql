-- Writes down that a notification has failed, after its transaction was rolled back. Without effect
-- if somebody else has had it in hand since.
UPDATE pgpubsub_sql_notification
SET available_at = clock_timestamp() + %(delay)s::interval, -- NULL without a delay: parked
    attempts = %(attempts)s,
    last_error = %(last_error)s
WHERE id = %(id)s AND attempts = %(attempts)s - 1
