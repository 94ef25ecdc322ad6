-- Whether the search_path leads to the type of a column, and so to its operators; of a domain, to what is beneath.
pg_type_is_visible(pg_typeof(coalesce(:"row".:"column", NULL)))
