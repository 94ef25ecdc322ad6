-- What notify() sends on an ephemeral channel.
SELECT pgpubsub_publish_v1(%(channel)s, %(payload)s::jsonb)
