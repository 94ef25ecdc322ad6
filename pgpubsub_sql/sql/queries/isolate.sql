-- After a batch was rolled back: each of its notifications is handled alone, so that the next time what
-- undid it undoes nothing else. What somebody else has in hand by now is left to them.
UPDATE pgpubsub_sql_notification AS notification SET alone = true
FROM (
    SELECT id FROM pgpubsub_sql_notification WHERE id = ANY (%(ids)s) ORDER BY id FOR UPDATE SKIP LOCKED
) AS free
WHERE notification.id = free.id
