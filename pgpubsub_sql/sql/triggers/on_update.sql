-- What is done once for all the rows of an UPDATE. Old and new rows are paired by position; where
-- their numbers differ, the positions of the old ones become negative, so that none is paired.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'UPDATE' THEN
        IF (SELECT count(*) FROM pgpubsub_old) <> (SELECT count(*) FROM pgpubsub_new) THEN
            pairing := -1;
        END IF;
        :{deliver}
    END IF;
