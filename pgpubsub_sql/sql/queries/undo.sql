-- Undoes what a message did, and its savepoint, in one round trip.
ROLLBACK TO SAVEPOINT pgpubsub;
RELEASE SAVEPOINT pgpubsub
