-- Local to the transaction, so that it cannot leak into the next one of a kept connection.
SELECT set_config('pgpubsub.notification_context', %(context)s, true)
