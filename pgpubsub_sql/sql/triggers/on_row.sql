-- What is done where the function is called for each row.
IF TG_LEVEL = 'ROW' THEN
        :{deliver}
    END IF;
