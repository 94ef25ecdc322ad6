-- Ends a message that has queried, in one round trip. What breaks a deferred constraint, such as
-- Django's foreign keys, must break its own message; and what it has set is not for the next.
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
:{immediate}
:{restore}
RELEASE SAVEPOINT pgpubsub
