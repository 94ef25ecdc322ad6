-- What one message of a batch has set is not for the next one, which shares its transaction.
SELECT set_config('pgpubsub.notification_context', '', true), set_config('pgpubsub.ignore', '', true)
