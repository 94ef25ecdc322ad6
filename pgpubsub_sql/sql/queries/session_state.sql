-- Which process answers, and what a transaction of this session gets that asks for nothing.
SELECT pg_backend_pid(), current_setting('transaction_isolation')
