-- The schema that the function is in now, what it has to tell, and the parts of the ordering keys.
home text;
    messages jsonb[];
    keys jsonb[];
