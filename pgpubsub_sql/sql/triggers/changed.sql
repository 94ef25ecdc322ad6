-- Whether one of these columns has changed. It compares what is stored, so any type will do.
ROW(:{old})::record OPERATOR(pg_catalog.*<>) ROW(:{new})::record
