-- Taken from the JSON, where a name that is not there is no error.
coalesce(changed.new, changed.old) -> :'column'
