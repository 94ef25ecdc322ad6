-- Where options name columns: whether these do not fit the table any more, and the row that was chosen.
stale boolean := false;
    picked record;
