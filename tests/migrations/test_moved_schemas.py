"""Schemas that are renamed or copied, types that move: ``verify`` reports it, ``install`` repairs it."""

from __future__ import annotations

import json

import pytest

from tests.migrations.harness import Project
from tests.migrations.versions import Source, authors

TENANTS = """
for tenant in ("one", "uno", "copied"):
    DATABASES[tenant] = DATABASES["default"] | {"OPTIONS": {"options": f"-c search_path={tenant}"}}
"""


@pytest.fixture
def tenant(project: Project) -> Project:
    """A project with one tenant, ``one``, whose channel has a condition."""
    project.configure(TENANTS, apps=["pgpubsub_sql", "blog"])
    project.write(authors("insert", condition=Source("Q(new__name='Ann')")))
    project.run("makemigrations")
    project.sql("CREATE SCHEMA one")
    project.run("migrate", "--database", "one")
    return project


def write(project: Project, schema: str) -> list[tuple[str, bool]]:
    """Insert two authors, and return who was told of, and whether as stale."""
    project.sql(f"INSERT INTO {schema}.blog_author (name) VALUES ('Ann'), ('Bea')")
    rows = project.sql(f"DELETE FROM {schema}.pgpubsub_sql_notification RETURNING payload::text")
    told = [json.loads(payload) for (payload,) in rows]
    return sorted((one["new"]["name"], one.get("$stale", False)) for one in told)


WHOLE = [("Ann", True), ("Bea", True)]
CHOSEN = [("Ann", False)]


def mend(project: Project, database: str) -> None:
    """`verify` finds something, `install` mends it, and then `verify` finds nothing."""
    project.run("pgpubsub", "verify", "--database", database, code=1)
    project.run("pgpubsub", "install", "--database", database)
    project.run("pgpubsub", "verify", "--database", database)


def test_install_repairs_a_renamed_tenant_schema(tenant: Project) -> None:
    """F5"""
    assert write(tenant, "one") == CHOSEN
    tenant.sql("ALTER SCHEMA one RENAME TO uno")
    assert write(tenant, "uno") == WHOLE
    mend(tenant, "uno")
    assert write(tenant, "uno") == CHOSEN


COPY = """
DO $$
DECLARE
    text text;
BEGIN
    CREATE SCHEMA copied;
    FOR text IN SELECT relname FROM pg_class WHERE relnamespace = 'one'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('CREATE TABLE copied.%1$I (LIKE one.%1$I INCLUDING ALL)', text);
        IF text = 'django_migrations' THEN
            INSERT INTO copied.django_migrations SELECT * FROM one.django_migrations;
        END IF;
    END LOOP;
    FOR text IN SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'one'::regnamespace LOOP
        EXECUTE REPLACED;
    END LOOP;
    FOR text IN SELECT pg_get_triggerdef(pg_trigger.oid) FROM pg_trigger
        WHERE tgrelid = 'one.blog_author'::regclass AND NOT tgisinternal
    LOOP
        EXECUTE replace(text, 'one.', 'copied.');
    END LOOP;
END
$$
"""


@pytest.mark.parametrize(
    ("replaced", "told"),
    [
        ("replace(text, 'one.', 'copied.')", CHOSEN),
        ("regexp_replace(text, 'one\\.', 'copied.')", WHOLE),
    ],
    ids=["all of the text", "its name only"],
)
def test_install_repairs_a_copied_tenant_schema(
    tenant: Project, replaced: str, told: list[tuple[str, bool]]
) -> None:
    """F6"""
    tenant.sql(COPY.replace("REPLACED", replaced))
    assert write(tenant, "copied") == told
    tenant.run("pgpubsub", "install", "--database", "copied")
    tenant.run("pgpubsub", "verify", "--database", "copied")
    assert write(tenant, "copied") == CHOSEN
    assert write(tenant, "one") == CHOSEN


def test_install_finds_operators_of_a_type_that_moved(tenant: Project) -> None:
    """F5: the operators of the condition are looked up where they are now."""
    tenant.sql("CREATE TYPE one.mood AS ENUM ('Ann', 'Bea')")
    tenant.sql("ALTER TABLE one.blog_author ALTER COLUMN name TYPE one.mood USING name::one.mood")
    assert write(tenant, "one") == WHOLE
    mend(tenant, "one")
    assert write(tenant, "one") == CHOSEN
    tenant.sql("CREATE SCHEMA types")
    tenant.sql("ALTER TYPE one.mood SET SCHEMA types")
    assert write(tenant, "one") == WHOLE
    mend(tenant, "one")
    assert write(tenant, "one") == CHOSEN
