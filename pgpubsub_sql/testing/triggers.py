"""A test of one line: is what the code declares what the migrations install?"""

from __future__ import annotations

from collections.abc import Iterator

from django.db import connections, router

from pgpubsub_sql.installed import APP
from pgpubsub_sql.migrations_ops.audit import audit


def assert_triggers_installed(*, using: str | None = None) -> None:
    """Assert that code, migrations and the test's database agree about triggers.

    ::

        class TriggersTest(TestCase):
            databases = "__all__"

            def test_triggers(self):
                assert_triggers_installed()

    It fails, for example, if somebody has changed a channel and not run ``makemigrations``. Without
    *using*, it looks at each database that may have our tables, and once at those with mirrors.

    Raises :class:`AssertionError` with each difference and its remedy, and :class:`NotReady` if a
    database has no tables of ours.
    """
    found = [
        f"  {problem.sentence} {problem.remedy}"
        for alias in ([using] if using else _databases())
        for problem in audit(connections[alias]).all_problems()
    ]
    if found:
        raise AssertionError("Code, migrations and database differ:\n" + "\n".join(found))


def _databases() -> Iterator[str]:
    for alias in connections:
        connection = connections[alias]
        is_looked_at = (
            connection.vendor == "postgresql" and not (connection.settings_dict["TEST"]["MIRROR"])
        )
        if is_looked_at and router.allow_migrate(alias, APP, model_name="notification"):
            yield alias
