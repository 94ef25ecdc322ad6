-- Gives the search_path back, schema by schema; set_config() would take the whole, and twice the time.
SET :{scope} search_path = :{schemas}
