-- A new row of nothing but NULL, for conditions that ask for one.
LEFT JOIN pgpubsub_old AS new ON false
