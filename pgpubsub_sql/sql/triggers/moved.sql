-- The first step of a channel's function. Names in a body are text: after a schema was renamed or copied, they lead
-- nowhere, or to another tenant's tables.

-- moved --
-- If the function is no longer in the schema that it was made for, stores every row, whole, in the table beside it.
-- An ephemeral channel stores, too: the helper that sends has moved along, and its body names the old schema.
-- A tool that copies a schema as text replaces "acme." everywhere. So the literals here hold it, too: the dot ends the
-- first, and parse_ident() reads the schema of the second. $5 is the sequence of ids, which may have any name in a copy.
IF quote_ident(TG_TABLE_SCHEMA) || '.' <> :'watched'
    OR to_regclass(:'"home".pgpubsub_sql_notification') IS NULL
THEN
    -- The table or a schema has moved. Has this function?
    SELECT nspname INTO home
    FROM pg_trigger
    JOIN pg_proc ON pg_proc.oid = tgfoid
    JOIN pg_namespace ON pg_namespace.oid = pronamespace
    WHERE tgrelid = TG_RELID AND tgname = TG_NAME;
    IF home <> (parse_ident(:'"home".pgpubsub_sql_notification'))[1]
        AND to_regclass(quote_ident(home) || '.pgpubsub_sql_notification') IS NOT NULL
    THEN
        -- It has, so its names are wrong: store every row, whole, in the table beside it.
        :{occasions}
        EXECUTE format(
            'INSERT INTO %1$I.pgpubsub_sql_notification (channel, subscription, message, payload, key) '
            'SELECT $1, coalesce(subscription.name, ''''), sent.number, sent.payload, sent.key '
            'FROM ('
                'SELECT '
                    'told.message || jsonb_build_object(''context'', %1$I.pgpubsub_context_v1()) AS payload, '
                    '%1$I.pgpubsub_key_v1(told.key) AS key, '
                    'nextval($5) AS number '
                'FROM unnest($2, $3) AS told (message, key) '
                'WHERE NOT ($4 AND %1$I.pgpubsub_ignored_v1($1))'
            ') AS sent '
            'LEFT JOIN %1$I.pgpubsub_sql_subscription AS subscription ON subscription.channel = $1',
            home
        ) USING
            :'channel', messages, keys, :{ignorable},
            pg_get_serial_sequence(quote_ident(home) || '.pgpubsub_sql_notification', 'id')::regclass;
        EXECUTE format('SELECT pg_notify($1, '''') WHERE %I.pgpubsub_is_notified($1)', home) USING :'channel';
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END IF;
END IF;

-- moved_variables --
-- The function's present schema, the messages to store, and the values of their ordering keys.
home text;
messages jsonb[];
keys jsonb[];

-- collect --
-- Takes the place of `store` or `send` on each occasion.
SELECT
    array_agg(jsonb_build_object(
        'op', TG_OP, 'when', TG_WHEN,
        'old', changed.old, 'new', changed.new,
        '$stale', true
    )),
    array_agg(:{key})
INTO messages, keys
FROM (
    :{rows}
) AS changed;
