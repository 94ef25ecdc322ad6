"""System checks: what would fail at the first message fails at ``manage.py check``.

| id   | reports                                                                |
|------|------------------------------------------------------------------------|
| E001 | a channel is declared in a way that cannot work                        |
| E002 | two channels have the same name in PostgreSQL                          |
| E003 | a trigger channel has no model to watch                                |
| E004 | a listener names a channel that is not declared                        |
| E005 | a listener cannot be called with the arguments that its channel passes |
| E006 | two functions listen under one path, or one function under two         |
| E007 | a listener subscribes to row events of a channel that has no rows      |
| E008 | an option of a trigger channel does not fit its model                  |
| E009 | a trigger channel watches a table that no migration creates            |
| E010 | migrations with triggers name an app that is not installed             |
| E011 | a trigger channel is in a module that belongs to no installed app      |
| E012 | migrations depend on those of django-pgpubsub, which is not installed  |
| E013 | a batch listener is not alone in its subscription, or not durable      |
| E014 | a listener of an ephemeral channel names a subscription                |
| E015 | a listener names the subscription of the relay                        |
| E016 | a listener of an ephemeral channel begins with its history             |
| E101 | a setting of this package has an invalid value                         |
| E102 | channels are declared, but the app is not in INSTALLED_APPS            |
| E201 | a database cannot be reached (--database)                              |
| W002 | makemigrations writes no migration for a trigger channel               |
| W003 | a trigger channel watches a model that is not on PostgreSQL            |
| W004 | a channel has an attribute that looks like a misspelled option         |
| W005 | a module of channels or listeners is not imported                      |
| W006 | a trigger channel has no listener, so no trigger is installed          |
| W007 | functions still listen with django-pgpubsub                            |
| W008 | a channel overrides a method of django-pgpubsub that nobody calls      |
| W009 | django-pgpubsub is installed, too, and has a command of the same name  |
| W010 | a channel is relayed, but nothing can publish it                       |
| W011 | a listener begins with the history of a channel that keeps none        |
| W101 | a notification context outlives its transaction                        |
| W201 | migrations do not install what the code declares (--deploy)            |
| W202 | a database lacks what its migrations install (--database)              |
| W203 | an ephemeral trigger channel exposes secrets or much text (--deploy)   |
| W204 | logical replication does not fire a channel's triggers (--database)    |
| W205 | django-pgpubsub has left triggers or messages (--database)             |

To add a check: give it the next free id here and in ``docs/reference/checks.md``, write it in the
module named after what it checks, and register it below if it is a new function. E102 alone is
elsewhere, in ``installed.py``: an app that is not installed cannot register checks.
"""

from __future__ import annotations

from django.core.checks import Tags
from django.core.checks import register as _register

from pgpubsub_sql.checks.channels import check_channels
from pgpubsub_sql.checks.databases import check_databases, check_predecessor, check_replication
from pgpubsub_sql.checks.discovery import check_discovery
from pgpubsub_sql.checks.exposure import check_exposure
from pgpubsub_sql.checks.listeners import check_listeners
from pgpubsub_sql.checks.migrations import check_app_labels, check_migrations, check_unwritten
from pgpubsub_sql.checks.predecessor import check_predecessor_code
from pgpubsub_sql.checks.settings import check_settings
from pgpubsub_sql.installed import APP

ALWAYS = (
    check_app_labels,
    check_channels,
    check_discovery,
    check_listeners,
    check_migrations,
    check_predecessor_code,
    check_settings,
)
FOR_DEPLOYMENT = (check_exposure, check_unwritten)
"""Run by ``check --deploy`` only."""
OF_DATABASES = (check_databases, check_predecessor, check_replication)
"""Run by ``check --database ALIAS`` only, as they query the database."""


def register() -> None:
    """Register the checks with Django; registering them again changes nothing."""
    for check in ALWAYS:
        _register(check, APP)
    for check in FOR_DEPLOYMENT:
        _register(check, APP, deploy=True)
    for check in OF_DATABASES:
        _register(check, APP, Tags.database)
