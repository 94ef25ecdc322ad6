-- SET would take the whole list for the name of one schema.
SELECT set_config('search_path', :'value', :'local')
