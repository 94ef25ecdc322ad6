-- Whether a database is ready for channels, and the role has its privileges.

-- place --
-- Where this connection works, in words: a worker and its command must agree.
SELECT format('schema %s of database %s', coalesce(current_schema()::text, '(none)'), current_database())

-- ready_to_listen --
-- The current schema, whether our migrations have run there, and the role. If a schema with our tables is
-- closed to this role, the search_path skips it: then also the GRANT that opens it.
SELECT current_schema(), to_regclass('pgpubsub_sql_notification') IS NOT NULL, current_user, (
    SELECT format('GRANT USAGE ON SCHEMA %I TO %I', nspname, current_user)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relname = 'pgpubsub_sql_notification' AND NOT has_schema_privilege(pg_namespace.oid, 'USAGE')
    ORDER BY nspname LIMIT 1
)

-- lacking --
-- The first of our tables that lacks some of these columns, and which; none of them if there is no such table.
SELECT wanted."table", to_regclass(wanted."table") IS NULL, string_agg(wanted.name, ', ' ORDER BY wanted.name)
FROM unnest(%(tables)s::text[], %(names)s::text[]) AS wanted ("table", name)
WHERE NOT EXISTS (
    SELECT FROM pg_attribute
    WHERE attrelid = to_regclass(wanted."table") AND attname = wanted.name AND attnum > 0 AND NOT attisdropped
)
GROUP BY wanted."table" ORDER BY 1 LIMIT 1

-- workable --
-- Whether a worker can work here: the role, whether it is a standby, whether transactions are read-only.
SELECT current_user, pg_is_in_recovery(), current_setting('transaction_read_only')::boolean

-- privileges --
-- The privileges that are needed and missing, and the statements that grant them. The role that needs one
-- is the role that is named; or else the owner of the function that is named; or else, also where that
-- function does not exist yet, the current role. Row level security counts if no policy permits a command;
-- what a policy permits is for its author to decide. Objects are looked up in the catalogue, because a
-- qualified name cannot be resolved without USAGE on its schema; those without a schema are looked up in
-- the search_path. An object that does not exist is not missing. OWNERSHIP cannot be granted: a function gets another owner.
WITH object AS (
    SELECT 'SCHEMA' AS kind, nspname::text AS schema, nspname::text AS name, oid, true AS is_visible,
        format('SCHEMA %%I', nspname) AS quoted
    FROM pg_namespace WHERE nspname = ANY (%(names)s::text[])
    UNION ALL
    SELECT 'TABLE', nspname, relname, pg_class.oid, pg_table_is_visible(pg_class.oid), format('%%I.%%I', nspname, relname)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v') AND relname = ANY (%(names)s::text[])
    UNION ALL
    SELECT 'SEQUENCE', nspname, relname, pg_class.oid, pg_table_is_visible(pg_class.oid), format('SEQUENCE %%I.%%I', nspname, relname)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind = 'S' AND relname = ANY (%(names)s::text[])
    UNION ALL
    SELECT 'FUNCTION', nspname, proname, pg_proc.oid, pg_function_is_visible(pg_proc.oid),
        format('FUNCTION %%I.%%I(%%s)', nspname, proname, oidvectortypes(proargtypes))
    FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE proname = ANY (%(names)s::text[])
), needed AS (
    SELECT wanted.need, wanted.position, wanted.function_schema, wanted.function, wanted.kind, wanted.privilege, object.oid, object.quoted, role.rolname, role.oid AS role,
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
            WHEN 'SEQUENCE' THEN has_sequence_privilege(oid, privilege || ' WITH GRANT OPTION')
            WHEN 'FUNCTION' THEN has_function_privilege(oid, privilege || ' WITH GRANT OPTION')
        END) AS is_ours_to_give
    FROM needed
    WHERE NOT CASE
        WHEN privilege = 'OWNERSHIP' THEN true
        WHEN kind = 'SCHEMA' THEN has_schema_privilege(role, oid, privilege)
        WHEN kind = 'TABLE' THEN has_table_privilege(role, oid, privilege)
        WHEN kind = 'SEQUENCE' THEN has_sequence_privilege(role, oid, privilege)
        WHEN kind = 'FUNCTION' THEN has_function_privilege(role, oid, privilege)
    END
    GROUP BY need, rolname, quoted
), foreign_owned AS (
    SELECT need, position, rolname, format('OWNERSHIP on %%s', quoted) AS missing,
        format('ALTER FUNCTION %%I.%%I(%%s) OWNER TO %%I', nspname, proname, oidvectortypes(proargtypes), pg_get_userbyid(relowner))
            AS statement,
        pg_has_role(relowner, 'USAGE') AND pg_has_role(proowner, 'USAGE') AS is_ours_to_give
    FROM needed
    JOIN pg_class ON kind = 'TABLE' AND pg_class.oid = needed.oid
    JOIN pg_namespace ON nspname = function_schema
    JOIN pg_proc ON pronamespace = pg_namespace.oid AND proname = function
    WHERE privilege = 'OWNERSHIP' AND NOT pg_has_role(role, relowner, 'USAGE')
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
SELECT * FROM ungranted UNION ALL SELECT * FROM foreign_owned UNION ALL SELECT * FROM hidden ORDER BY need, position, missing DESC

-- watched_table --
-- The schema and the name of a watched table, and the owners of its partitioned parts.
SELECT nspname::text, relname::text, array(
    SELECT DISTINCT pg_get_userbyid(member.relowner)::text
    FROM pg_partition_tree(pg_class.oid) AS tree JOIN pg_class AS member ON member.oid = tree.relid
    WHERE member.relkind = 'p' ORDER BY 1
)
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_class.oid = to_regclass(%(table)s)
