-- What a message does from here on can be undone by itself.
SAVEPOINT pgpubsub
