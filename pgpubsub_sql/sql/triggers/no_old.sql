-- An old row of nothing but NULL, for conditions that ask for one.
LEFT JOIN pgpubsub_new AS old ON false
