-- Local to the transaction.
SELECT set_config('search_path', %(path)s, true)
