-- Which of the privileges that are needed are missing, and what gives them. Each is needed by a role: the one that is
-- named, or else the one that a function runs as, or else, and where that function is yet to be made, this session's.
-- Row level security counts if no policy permits a command; what a policy permits is its author's will. Objects are
-- looked up in the catalogue, as a qualified name cannot be looked up without USAGE on its schema; those that name none,
-- as the search_path leads. What is not there is not missing.
WITH object AS (
    SELECT 'SCHEMA' AS kind, nspname::text AS schema, nspname::text AS name, oid, true AS is_visible,
        format('SCHEMA %%I', nspname) AS quoted
    FROM pg_namespace WHERE nspname = ANY (%(names)s::text[])
    UNION ALL
    SELECT 'TABLE', nspname, relname, pg_class.oid, pg_table_is_visible(pg_class.oid), format('%%I.%%I', nspname, relname)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND relname = ANY (%(names)s::text[])
    UNION ALL
    SELECT 'FUNCTION', nspname, proname, pg_proc.oid, pg_function_is_visible(pg_proc.oid),
        format('FUNCTION %%I.%%I(%%s)', nspname, proname, oidvectortypes(proargtypes))
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE proname = ANY (%(names)s::text[])
), needed AS (
    SELECT wanted.need, wanted.position, wanted.kind, wanted.privilege, object.oid, object.quoted, role.rolname, role.oid AS role,
        role.rolsuper OR role.rolbypassrls AS sees_all
    FROM unnest(
        %(needs)s::integer[], %(roles)s::text[], %(function_schemas)s::text[], %(functions)s::text[],
        %(kinds)s::text[], %(schemas)s::text[], %(names)s::text[], %(privileges)s::text[]
    ) WITH ORDINALITY AS wanted (need, role, function_schema, function, kind, schema, name, privilege, position)
    JOIN object ON (object.kind, object.name) = (wanted.kind, wanted.name)
        AND CASE WHEN wanted.schema IS NULL THEN is_visible ELSE object.schema = wanted.schema END
    JOIN pg_roles AS role ON role.rolname = coalesce(
        wanted.role,
        (SELECT pg_get_userbyid(proowner)::text FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
            WHERE nspname = wanted.function_schema AND proname = wanted.function LIMIT 1),
        current_user
    )
), ungranted AS (
    SELECT need, min(position) AS position, rolname,
        format('%%s on %%s', string_agg(privilege, ', ' ORDER BY position), quoted) AS missing,
        format('GRANT %%s ON %%s TO %%I', string_agg(privilege, ', ' ORDER BY position), quoted, rolname) AS statement,
        bool_and(CASE kind
            WHEN 'SCHEMA' THEN has_schema_privilege(oid, privilege || ' WITH GRANT OPTION')
            WHEN 'TABLE' THEN has_table_privilege(oid, privilege || ' WITH GRANT OPTION')
            WHEN 'FUNCTION' THEN has_function_privilege(oid, privilege || ' WITH GRANT OPTION')
        END) AS is_ours_to_give
    FROM needed
    WHERE NOT CASE kind
        WHEN 'SCHEMA' THEN has_schema_privilege(role, oid, privilege)
        WHEN 'TABLE' THEN has_table_privilege(role, oid, privilege)
        WHEN 'FUNCTION' THEN has_function_privilege(role, oid, privilege)
    END
    GROUP BY need, rolname, quoted
), hidden AS (
    SELECT need, min(position) AS position, rolname,
        format('a policy for %%s on %%s', string_agg(privilege, ', ' ORDER BY position), quoted) AS missing,
        format('CREATE POLICY %%I ON %%s TO %%I USING (true) WITH CHECK (true)', 'pgpubsub_sql_' || rolname, quoted, rolname)
            AS statement,
        bool_and(pg_has_role(relowner, 'USAGE')) AS is_ours_to_give
    FROM needed JOIN pg_class ON kind = 'TABLE' AND pg_class.oid = needed.oid
    WHERE relrowsecurity AND NOT sees_all
        AND (relforcerowsecurity OR NOT pg_has_role(role, relowner, 'USAGE'))
        AND privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        AND NOT EXISTS (
            SELECT FROM pg_policy CROSS JOIN unnest(polroles) AS permitted (role)
            WHERE polrelid = needed.oid AND polpermissive
                AND polcmd = ANY (ARRAY['*',
                    CASE privilege WHEN 'SELECT' THEN 'r' WHEN 'INSERT' THEN 'a' WHEN 'UPDATE' THEN 'w' ELSE 'd' END
                ])
                AND (permitted.role = 0 OR pg_has_role(needed.role, permitted.role, 'USAGE'))
        )
    GROUP BY need, rolname, quoted
)
SELECT * FROM ungranted UNION ALL SELECT * FROM hidden ORDER BY need, position, missing DESC
