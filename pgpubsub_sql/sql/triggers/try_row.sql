-- Whether the columns take such values at all: a domain may refuse them.
SELECT jsonb_populate_record(CAST(NULL AS :{type}), :'row')
