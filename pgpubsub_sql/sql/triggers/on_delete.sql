-- What is done once for all the rows of a DELETE.
IF TG_LEVEL = 'STATEMENT' AND TG_OP = 'DELETE' THEN
        :{deliver}
    END IF;
