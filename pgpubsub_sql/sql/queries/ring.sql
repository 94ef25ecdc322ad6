-- Wakes the workers of channels, as a sender does.
SELECT pg_notify(channel, '') FROM unnest(%(channels)s::text[]) AS rung (channel)
