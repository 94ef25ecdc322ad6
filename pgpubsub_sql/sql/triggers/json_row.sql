-- A row with all of its columns. The star keeps it from being a column of that name.
to_jsonb(:"row".*)
