-- text_exact
("new"."name" = 'Zoë')

-- text_exact_hostile
("new"."name" = E'100%_ \\ '' " \x24pgpubsub\x24 %s %(x)s {0} :''y'' ☃
')

-- text_exact_none
("new"."name" IS NULL)

-- text_exact_empty
("new"."name" = '')

-- text_iexact
(UPPER("new"."name"::text) = UPPER('zOë'))

-- text_contains
("new"."name"::text LIKE '%o%')

-- text_contains_hostile
("new"."name"::text LIKE E'%100\\%\\_ %')

-- text_icontains
(UPPER("new"."name"::text) LIKE UPPER('%Z%'))

-- text_startswith_escapes
("new"."name"::text LIKE E'100\\%\\_%')

-- text_istartswith
(UPPER("new"."name"::text) LIKE UPPER('zo%'))

-- text_endswith
("new"."name"::text LIKE '%
')

-- text_iendswith_backslash
(UPPER("new"."code"::text) LIKE UPPER(E'%\\\\A'))

-- text_regex
("new"."name"::text ~ '^Z.+$')

-- text_iregex
("new"."name"::text ~* '^z.ë')

-- text_in
("new"."name" IN ('Zoë', '%'))

-- text_in_expressions
("new"."name" IN ("old"."name", 'Zoë'))

-- text_isnull
("new"."name" IS NULL)

-- text_is_not_null
("new"."name" IS NOT NULL)

-- text_range
("new"."name" BETWEEN 'A' AND 'b')

-- text_gt
("new"."name" > 'Z')

-- text_lower
("new"."code"::text LIKE '%' || REPLACE(REPLACE(REPLACE((LOWER("old"."code")), E'\\', E'\\\\'), E'%', E'\\%'), E'_', E'\\_') || '%')

-- text_startswith_column
("new"."name"::text LIKE REPLACE(REPLACE(REPLACE(("old"."name"), E'\\', E'\\\\'), E'%', E'\\%'), E'_', E'\\_') || '%')

-- text_length
(LENGTH("new"."name") > 3)

-- text_concat
((COALESCE("new"."name", '') || COALESCE((COALESCE('%', '') || COALESCE("new"."code", '')), '')) = E'Zoë%\\a')

-- text_choice
("new"."colour" = 'r')

-- text_choices
("new"."colour" IN ('r', 'g'))

-- text_in_set
("new"."name" IN ('%', 'Zoë', 'b', 'c', 'd', 'e', 'f', 'g'))

-- text_search
((to_tsvector('simple'::regconfig, COALESCE("new"."name", '')) @@ plainto_tsquery('simple'::regconfig, 'Zoë')))

-- number_integer
("new"."number" = 7)

-- number_negative
("new"."number" = (-7))

-- number_negative_power
(((-2) * "new"."number") = (-14))

-- number_integer_enum
("new"."number" = 2)

-- number_too_big
("new"."number" > 0)

-- number_big
(("new"."number" + 1180591620717411303424) < 1180591620717411303424)

-- number_integer_gt_float
("new"."number" > 6)

-- number_decimal
("new"."amount" = 1.10)

-- number_decimal_product
(("new"."amount" * 1.1) > 1.2)

-- number_float
("new"."ratio" > 0.1)

-- number_float_exponent
("new"."ratio" < 1e+300)

-- number_float_nan
("new"."ratio" = 'nan'::float8)

-- number_float_infinity
("new"."ratio" = '-inf'::float8)

-- number_boolean
("new"."flag")

-- number_not_boolean
(NOT "new"."flag")

-- number_boolean_expression
("new"."flag" = ("old"."flag"))

-- number_rose
("new"."number" > ("old"."number" + 1))

-- number_modulo
(("new"."number" % 4) = 3)

-- number_power
(("new"."number" ^ 2) > 48)

-- number_bits
(("new"."number" & 4) = 4)

-- number_absolute
("new"."number" = (ABS("old"."number")))

-- number_greatest
(GREATEST("new"."number", "old"."number") = 7)

-- number_coalesce
(COALESCE("new"."number", "old"."number", 0) = 0)

-- number_null_if
(NULLIF("new"."number", 7) IS NULL)

-- number_cast
(("new"."number")::text = '7')

-- number_odd_name
("new"."größe it's \ {0} :x" > ("old"."größe it's \ {0} :x"))

-- number_odd_name_isnull
("old"."größe it's \ {0} :x" IS NULL)

-- time_moment
("new"."moment" = '2026-03-29 12:00:00+00:00'::timestamptz)

-- time_moment_of_another_zone
("new"."moment" >= '2026-03-29 04:00:00-08:00'::timestamptz)

-- time_moment_range
("new"."moment" BETWEEN '2026-03-29 11:00:00+00:00'::timestamptz AND '2026-03-29 12:00:00+00:00'::timestamptz)

-- time_year
("new"."moment" BETWEEN '2026-01-01 00:00:00+00:00'::timestamptz AND '2026-12-31 23:59:59.999999+00:00'::timestamptz)

-- time_year_gte
("new"."moment" >= '2026-01-01 00:00:00+00:00'::timestamptz)

-- time_iso_year
("new"."moment" BETWEEN '2025-12-29 00:00:00+00:00'::timestamptz AND '2027-01-03 23:59:59.999999+00:00'::timestamptz)

-- time_month
(EXTRACT(MONTH FROM "new"."moment" AT TIME ZONE 'UTC') = 3)

-- time_week_day
(EXTRACT(DOW FROM "new"."moment" AT TIME ZONE 'UTC') + 1 = 1)

-- time_hour_of_moment
(EXTRACT(HOUR FROM "new"."moment" AT TIME ZONE 'UTC') = 12)

-- time_second_of_moment
(EXTRACT(SECOND FROM DATE_TRUNC('second', "new"."moment" AT TIME ZONE 'UTC')) = 0)

-- time_date_of_moment
(("new"."moment" AT TIME ZONE 'UTC')::date = '2026-03-29'::date)

-- time_date_year_of_moment
(("new"."moment" AT TIME ZONE 'UTC')::date < '2026-01-01'::date)

-- time_time_of_moment
(("new"."moment" AT TIME ZONE 'UTC')::time >= '12:00:00'::time)

-- time_hour_elsewhere
(EXTRACT(HOUR FROM "new"."moment" AT TIME ZONE 'UTC-05:00') = 17)

-- time_month_began
("new"."day" >= (DATE_TRUNC('month', "old"."day")))

-- time_month_of_moment_began
(DATE_TRUNC('month', "new"."moment" AT TIME ZONE 'UTC') = (DATE_TRUNC('month', "old"."moment" AT TIME ZONE 'UTC')))

-- time_now
("new"."moment" < (STATEMENT_TIMESTAMP()))

-- time_later
("new"."moment" > ("old"."moment" + '+0 days +3600 seconds +0 microseconds'::interval))

-- time_took_long
(("new"."moment" - "old"."moment") > '+1 days +0 seconds +0 microseconds'::interval)

-- time_days_apart
((interval '1 day' * ("new"."day" - "old"."day")) > '+1 days +0 seconds +0 microseconds'::interval)

-- time_day
("new"."day" = '2026-03-29'::date)

-- time_day_long_ago
("new"."day" < '0476-09-04'::date)

-- time_day_year
("new"."day" BETWEEN '2026-01-01'::date AND '2026-12-31'::date)

-- time_day_in
("new"."day" IN ('2026-03-29'::date, '0001-01-01'::date))

-- time_date_or_moment
(("new"."moment")::date = ("new"."day"))

-- time_hour
("new"."hour" < '12:30:00.000005'::time)

-- time_hour_began
(DATE_TRUNC('hour', "new"."hour")::time = '10:00:00'::time)

-- time_hour_minute
(EXTRACT(MINUTE FROM "new"."hour") = 15)

-- time_length
("new"."length" = '+1 days +7200 seconds +0 microseconds'::interval)

-- time_length_negative
("new"."length" <= '-1 days +0 seconds +5 microseconds'::interval)

-- other_uuid
("new"."token" = '8f14e45f-ceea-467f-9575-1b2c3d4e5f60'::uuid)

-- other_uuid_text
("new"."token" = '8f14e45f-ceea-467f-9575-1b2c3d4e5f60'::uuid)

-- other_uuid_icontains
(UPPER("new"."token"::text) LIKE UPPER('%CEEA%'))

-- other_uuid_in
("new"."token" IN ('8f14e45f-ceea-467f-9575-1b2c3d4e5f60'::uuid))

-- other_bytes
("new"."blob" = E'\\x005c272573'::bytea)

-- other_memory
("new"."blob" = E'\\x005c272573'::bytea)

-- other_address
("new"."address" = '0000:0000:0000:0000:0000:0000:0000:0001'::inet)

-- other_address_startswith
(HOST("new"."address") LIKE '10.%')

-- other_address_in
("new"."address" IN ('10.0.0.1'::inet, '0000:0000:0000:0000:0000:0000:0000:0001'::inet))

-- other_key
("new"."id" > ("old"."id"))

-- other_key_isnull
("old"."id" IS NULL)

-- other_owner
("new"."owner_id" = 1)

-- other_owner_id
("new"."owner_id" = 1)

-- other_owner_pk
("new"."owner_id" IN (1, 5))

-- other_owner_isnull
("new"."owner_id" IS NULL)

-- other_owner_changed
("new"."owner_id" > ("old"."owner_id"))

-- other_parent
("new"."parent_id" = ("old"."id"))

-- json_json
("new"."data" = '{"a": [1, {"b": "c"}], "it''s": null}'::jsonb)

-- json_json_number
("new"."data" = '1.5'::jsonb)

-- json_json_contains
("new"."data" @> '{"it''s": null}'::jsonb)

-- json_json_contained_by
("new"."data" <@ '{"a": [1, {"b": "c"}], "it''s": null, "z": 1}'::jsonb)

-- json_json_key
(("new"."data" -> 'a') = '[1, {"b": "c"}]'::jsonb)

-- json_json_index
(("new"."data" #> ARRAY['a', '0']) = '1'::jsonb)

-- json_json_path
(("new"."data" #> ARRAY['a', '1', 'b']) = '"c"'::jsonb)

-- json_json_path_text
(UPPER(("new"."data" #>> ARRAY['a', '1', 'b'])::text) LIKE UPPER('%C%'))

-- json_json_path_hostile
(("new"."data" -> E'it''s %s \\') = E'"100%_ \\\\ '' \\" \x24pgpubsub\x24 %s %(x)s {0} :''y'' ☃\\n"'::jsonb)

-- json_json_path_hostile_deep
(("new"."data" #> ARRAY['a', E'it''s %s \\']) IS NULL)

-- json_json_key_null
(("new"."data" -> 'it''s') = 'null'::jsonb)

-- json_json_key_missing
(("new"."data" -> 'z') IS NULL)

-- json_json_key_present
(("new"."data" -> 'it''s') IS NOT NULL)

-- json_json_key_in
(("new"."data" #> ARRAY['a', '0']) IN ('1'::jsonb, '2'::jsonb))

-- json_json_key_gt
(("new"."data" #> ARRAY['a', '0']) > '0'::jsonb)

-- json_json_key_exact_false
(NOT (("new"."data" #> ARRAY['a', '0']) = '1'::jsonb AND "new"."data" IS NOT NULL))

-- json_json_has_key
("new"."data" ? 'it''s')

-- json_json_has_keys
("new"."data" ?& ARRAY['a', 'it''s'])

-- json_json_has_any_keys
("new"."data" ?| ARRAY['a', 'zz'])

-- json_json_isnull
("new"."data" IS NULL)

-- json_json_key_text
(("new"."data" ->> 'z') = '1')

-- json_json_key_changed
(("new"."data" -> 'a') = ("old"."data" -> 'a'))

-- json_json_key_cast
((("new"."data" ->> 'z'))::double precision > 0.5)

-- json_json_encoded
(("new"."encoded" -> 'at') = '"2026-03-29T12:00:00Z"'::jsonb)

-- json_json_non_ascii
("new"."encoded" @> '{"größe": "☃"}'::jsonb)

-- json_json_object
(JSONB_BUILD_OBJECT(('a')::text, "new"."number") = '{"a": 7}'::jsonb)

-- list_array
("new"."tags" = (ARRAY['a', 'it''s'])::text[])

-- list_array_with_none
("new"."tags" = (ARRAY['a', NULL])::text[])

-- list_array_empty
("new"."tags" = '{}'::text[])

-- list_array_contains
("new"."tags" @> (ARRAY['it''s'])::text[])

-- list_array_contained_by
("new"."tags" <@ (ARRAY['a', 'it''s', 'z'])::text[])

-- list_array_overlap
("new"."tags" && (ARRAY['z', 'a'])::text[])

-- list_array_length
(CASE WHEN "new"."tags" IS NULL THEN NULL ELSE coalesce(array_length("new"."tags", 1), 0) END = 2)

-- list_array_index
(("new"."tags")[1] = 'a')

-- list_array_slice
(("new"."tags")[1:1] = (ARRAY['a'])::text[])

-- list_array_in
("new"."tags" IN (ARRAY['a', 'it''s'], '{}'))

-- list_array_grew
(CASE WHEN "new"."tags" IS NULL THEN NULL ELSE coalesce(array_length("new"."tags", 1), 0) END > (CASE WHEN "old"."tags" IS NULL THEN NULL ELSE coalesce(array_length("old"."tags", 1), 0) END))

-- list_array_of_arrays
("new"."grid" = (ARRAY[ARRAY[1, 2], ARRAY[3, (-4)]])::integer[][])

-- list_array_of_arrays_index
(("new"."grid")[2][2] = (-4))

-- list_span
("new"."span" = '["1","5")')

-- list_span_of_range
("new"."span" = '["1","5"]')

-- list_span_contains
("new"."span" @> (3)::integer)

-- list_span_contains_range
("new"."span" @> '["2","4")')

-- list_span_contained_by
("new"."number" <@ '["0","8")'::int4range)

-- list_span_overlap
("new"."span" && '["4",)')

-- list_span_fully_lt
("new"."span" << '["100","200")')

-- list_span_adjacent
("new"."span" -|- '["5","6")')

-- list_span_startswith
(lower("new"."span") = 1)

-- list_span_isempty
(isempty("new"."span"))

-- list_span_empty
("new"."span" = 'empty')

-- list_span_unbounded
(UPPER_INF("new"."span"))

-- list_amounts_overlap
("new"."amounts" && '["2.5","2.6"]')

-- list_amounts
("new"."amounts" = '("-1.5","2.5"]')

-- list_period
("new"."period" = '["2026-03-29 12:00:00+00:00","2026-03-30 12:00:00+00:00")')

-- list_period_contains
("new"."period" @> '2026-03-29 12:00:00+00:00'::timestamptz::timestamp with time zone)

-- list_period_contains_column
("new"."period" @> ("old"."moment")::timestamp with time zone)

-- list_days
("new"."days" = '["2026-03-01","2026-04-01")')

-- list_days_contains
("new"."days" @> '2026-03-29'::date::date)

-- list_days_overlap
("new"."days" && ("old"."days"))

-- logic_and
(("new"."name" = 'Zoë' AND "new"."number" = 7))

-- logic_or
(("new"."number" = 7 OR "old"."name" = 'Zoë'))

-- logic_xor
((("new"."number" = 7 OR "old"."name" = 'Zoë') AND 1 = (CASE WHEN "new"."number" = 7 THEN 1 ELSE 0 END + CASE WHEN "old"."name" = 'Zoë' THEN 1 ELSE 0 END)))

-- logic_xor_of_three
((("new"."number" = 7 OR "old"."name" = 'Zoë' OR "new"."flag") AND 1 = (MOD(((CASE WHEN "new"."number" = 7 THEN 1 ELSE 0 END + CASE WHEN "old"."name" = 'Zoë' THEN 1 ELSE 0 END) + CASE WHEN "new"."flag" THEN 1 ELSE 0 END), 2))))

-- logic_not
(NOT ("new"."number" = 7 AND "new"."number" IS NOT NULL))

-- logic_not_and
(NOT ("new"."name" = 'Zoë' AND "new"."name" IS NOT NULL AND "new"."number" = 7 AND "new"."number" IS NOT NULL))

-- logic_not_or
(NOT (("new"."number" = 7 AND "new"."number" IS NOT NULL) OR ("old"."number" = 7 AND "old"."number" IS NOT NULL)))

-- logic_not_not
("new"."number" = 7)

-- logic_not_in
(NOT ("new"."number" IN (7, 8) AND "new"."number" IS NOT NULL))

-- logic_not_isnull
(NOT ("new"."number" IS NULL))

-- logic_not_contains
(NOT ("new"."name"::text LIKE '%o%' AND "new"."name" IS NOT NULL))

-- logic_not_of_a_column_never_null
(NOT ("old"."kind" = 1 AND "old"."kind" IS NOT NULL))

-- logic_became
(("new"."number" = 7 AND NOT ("old"."number" = 7 AND "old"."number" IS NOT NULL)))

-- logic_changed
(NOT ("new"."number" = ("old"."number") AND "new"."number" IS NOT NULL AND "old"."number" IS NOT NULL))

-- logic_changed_between_values
((NOT ("new"."number" = ("old"."number") AND "new"."number" IS NOT NULL AND "old"."number" IS NOT NULL) AND NOT ("new"."number" IS NULL AND "old"."number" IS NULL)))

-- logic_some_never
("new"."number" = 7)

-- logic_case
(CASE WHEN ("new"."number" > ("old"."number")) THEN true WHEN ("old"."id" IS NULL) THEN "new"."flag" ELSE false END)

-- logic_case_value
(CASE WHEN NOT ("new"."name" = 'Zoë' AND "new"."name" IS NOT NULL) THEN 1 ELSE 2 END IN (2, 3))

-- logic_wrapped
(("new"."number" = 7 OR "old"."flag"))

-- logic_not_wrapped
(NOT ("new"."number" > ("old"."number")))

-- logic_distinct
(("new"."number" IS DISTINCT FROM "old"."number"))
