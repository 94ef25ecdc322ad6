-- A column of the old or the new row.
:"row".:"column"
