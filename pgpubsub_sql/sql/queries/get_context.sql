-- What travels beside a payload in this transaction, as somebody has set it: not always JSON.
SELECT coalesce(current_setting('pgpubsub.notification_context', true), '')
