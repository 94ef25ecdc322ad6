-- A body holds names as text. Where its schema was renamed, or it was copied into another, they lead nowhere or to
-- somebody else's tables. Then all is stored in the table that is beside the function now, as a stale one tells it.
IF quote_ident(TG_TABLE_SCHEMA) || '.' <> :'watched' OR to_regclass(:'"home".pgpubsub_sql_notification') IS NULL THEN
        SELECT nspname INTO home FROM pg_trigger
        JOIN pg_proc ON pg_proc.oid = tgfoid JOIN pg_namespace ON pg_namespace.oid = pronamespace
        WHERE tgrelid = TG_RELID AND tgname = TG_NAME;
        IF home <> (parse_ident(:'"home".pgpubsub_sql_notification'))[1]
            AND to_regclass(quote_ident(home) || '.pgpubsub_sql_notification') IS NOT NULL THEN
            :{branches}
            EXECUTE format(
                'INSERT INTO %1$I.pgpubsub_sql_notification (channel, payload, key) '
                'SELECT $1, message || jsonb_build_object(''context'', %1$I.pgpubsub_context_v1()), '
                '%1$I.pgpubsub_key_v1(key) FROM unnest($2, $3) AS told (message, key) '
                'WHERE NOT ($4 AND %1$I.pgpubsub_ignored_v1($1))', home
            ) USING :'channel', messages, keys, :{ignorable};
            PERFORM pg_notify(:'channel', '');
            IF TG_OP = 'DELETE' THEN
                RETURN OLD;
            END IF;
            RETURN NEW;
        END IF;
    END IF;
