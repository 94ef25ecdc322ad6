-- Silences a channel in a transaction that asks for it; the helper is called only where one asks.
IF current_setting('pgpubsub.ignore', true) <> '' AND :"helpers".pgpubsub_ignored_v1(:'channel') THEN
        IF TG_OP = 'DELETE' THEN
            RETURN OLD;
        END IF;
        RETURN NEW;
    END IF;
