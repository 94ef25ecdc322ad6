-- Object ids of tables, as the search_path leads to them, in the order of their names; of what is not there, 0.
SELECT coalesce(to_regclass(name)::oid::bigint, 0)
FROM unnest(%(tables)s::text[]) WITH ORDINALITY AS wanted (name, position) ORDER BY position
