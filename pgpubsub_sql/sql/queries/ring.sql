-- Wakes the workers of a channel, as a sender does.
SELECT pg_notify(%(channel)s, '')
