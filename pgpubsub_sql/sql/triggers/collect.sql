-- What a function that has moved has to tell.
SELECT array_agg(jsonb_build_object(
                    'op', TG_OP, 'when', TG_WHEN, 'old', changed.old, 'new', changed.new, '$stale', true
                )), array_agg(:{key}) INTO messages, keys
                FROM (:{rows}) AS changed;
