"""An app with the label of django-pgpubsub, for migrations that depend on its migrations.

Put ``"pgpubsub_sql.compat"`` into INSTALLED_APPS instead of ``"pgpubsub"``.
"""
