-- Functions of a schema by their signatures, in that order; NULLs for what is not there.
SELECT
    pg_get_function_arguments(pg_proc.oid), pg_get_function_result(pg_proc.oid), lanname::text, prosecdef,
    provolatile::text, coalesce(proconfig, '{}'), prosrc,
    has_function_privilege('public', pg_proc.oid, 'EXECUTE')
FROM unnest(%(signatures)s::text[]) WITH ORDINALITY AS wanted (signature, position)
LEFT JOIN pg_proc ON pg_proc.oid = to_regprocedure(quote_ident(%(schema)s) || '.' || signature)
LEFT JOIN pg_language ON pg_language.oid = prolang
ORDER BY position
