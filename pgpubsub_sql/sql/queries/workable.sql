-- Whether a worker can work here: as whom, on a standby or not, read-only or not.
SELECT current_user, pg_is_in_recovery(), current_setting('transaction_read_only')::boolean
