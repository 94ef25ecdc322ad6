-- The ordering key: a JSON array of the values; NULL if there is none among them.
nullif(jsonb_build_array(:{values})::text, :'empty')
