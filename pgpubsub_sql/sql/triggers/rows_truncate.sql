-- A TRUNCATE, which tells no rows.
SELECT NULL::jsonb AS old, NULL::jsonb AS new
