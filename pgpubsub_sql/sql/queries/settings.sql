-- Settings of the session, read and written by name.

-- get_setting --
-- A setting's value; the empty string if it is not set.
SELECT coalesce(current_setting(%(name)s, true), '')

-- set_setting --
-- Set for the transaction, so that nothing leaks into the next one of a kept connection, or for the session.
SELECT set_config(%(name)s, %(value)s, %(local)s)

-- set_search_path --
-- Set search_path for the transaction.
SELECT set_config('search_path', %(path)s, true)
