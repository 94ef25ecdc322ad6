-- A row with all of its columns, and without the one by which it was paired.
to_jsonb(:"row".*) - 'pgpubsub_position'
