-- What a transaction of this session gets that asks for nothing.
SELECT current_setting('transaction_isolation')
