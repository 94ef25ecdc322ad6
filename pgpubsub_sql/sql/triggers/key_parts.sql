-- What makes the ordering key of a change.
jsonb_build_array(:{values})
