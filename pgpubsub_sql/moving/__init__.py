"""``python -m pgpubsub_sql.moving``: the source of a project that used django-pgpubsub."""
