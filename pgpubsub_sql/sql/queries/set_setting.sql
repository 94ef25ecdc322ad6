-- Local to the transaction, so that it cannot leak into the next one of a kept connection; or not.
SELECT set_config(%(name)s, %(value)s, %(local)s)
