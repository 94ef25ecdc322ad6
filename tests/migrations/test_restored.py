"""Restored databases and tables that became partitions: ``verify`` reports, ``install`` repairs."""

from __future__ import annotations

import subprocess

import pytest

from tests.migrations.harness import Database, Project
from tests.migrations.versions import authors, model
from tests.programs import client

AGREE = "Code, migrations and database agree."
KEYED = model("Author", "id = models.BigIntegerField(primary_key=True)")
EVENTS = ("insert", "update", "delete")
EACH_ONCE = [("blog.Authors", event) for event in ("INSERT", "UPDATE", "DELETE")]
PARENT = (
    "CREATE TABLE everyone (id bigint NOT NULL, name text NOT NULL) PARTITION BY RANGE (id);"
    "ALTER TABLE everyone ATTACH PARTITION blog_author FOR VALUES FROM (0) TO (100)"
)


@pytest.fixture
def installed(project: Project) -> Project:
    """A project with one channel that tells of every row."""
    project.write(authors(*EVENTS, models=KEYED))
    project.run("makemigrations", "blog")
    project.run("migrate", "-v0")
    return project


def tell(project: Project, table: str) -> list[tuple[str, str]]:
    """Return what the three writes to *table* tell."""
    return project.told(
        f"INSERT INTO {table} (id, name) VALUES (1, 'Zoë')",
        f"UPDATE {table} SET name = 'Ann' WHERE id = 1",
        f"DELETE FROM {table} WHERE id = 1",
    )


def mend(project: Project, says: str) -> None:
    """``verify`` says so, ``install`` mends all of it at once, and then both are content."""
    output = project.run("pgpubsub", "verify", code=1)
    assert says in output, output
    project.run("pgpubsub", "install")
    assert AGREE in project.run("pgpubsub", "verify")
    assert "Everything is installed already." in project.run("pgpubsub", "install")


def restore(project: Project, *options: str) -> None:
    """Dump the database with these options, and put the dump in its place."""
    names = (f"--dbname={project.name}",)
    dump = subprocess.run([client("pg_dump"), *names, *options], capture_output=True, check=False)
    if b"server version mismatch" in dump.stderr:
        pytest.skip("This pg_dump is older than the server.")
    assert dump.returncode == 0, dump.stderr
    project.close()
    postgres = Database("postgres")
    postgres.sql(f"DROP DATABASE {project.name} WITH (FORCE)")
    postgres.sql(f"CREATE DATABASE {project.name}")
    # Triggers whose function is not in the dump are refused, as they are for people.
    psql = [client("psql"), "--no-psqlrc", "--quiet", *names]
    subprocess.run(psql, input=dump.stdout, capture_output=True, check=True)


@pytest.mark.parametrize("options", [(), ("--no-comments",), ("--no-owner", "--no-comments")])
def test_a_complete_dump_restores_everything(installed: Project, options: tuple[str, ...]) -> None:
    """F3: without comments our functions were taken for somebody else's."""
    restore(installed, *options)
    assert AGREE in installed.run("pgpubsub", "verify")
    assert tell(installed, "blog_author") == EACH_ONCE


def test_removing_every_comment_changes_nothing(installed: Project) -> None:
    """F3: nothing that we need stands in a COMMENT, whoever has made or removed one."""
    for removed in ("", "'of somebody else'", "NULL"):
        if removed:
            installed.sql(
                "DO $do$ DECLARE one regprocedure; BEGIN FOR one IN SELECT oid FROM pg_proc "
                "WHERE starts_with(proname, 'pgpubsub_') LOOP EXECUTE "
                f"format('COMMENT ON FUNCTION %s IS %s', one, $${removed}$$); END LOOP; END $do$"
            )
        assert AGREE in installed.run("pgpubsub", "verify")
        assert "foreign" not in installed.run("pgpubsub", "ls")


PARTS = {
    "tables only": (("-t", "blog_*", "-t", "pgpubsub_*", "-t", "django_migrations"), "is missing"),
    "without ours": (("-T", "pgpubsub_*"), "pgpubsub_sql_notification is missing"),
    "without privileges": (
        ("--no-privileges",),
        "Every role may execute the function pgpubsub_send_v1",
    ),
    "without triggers": (("--section=pre-data", "--section=data"), "has no trigger"),
}


@pytest.mark.parametrize(("options", "says"), PARTS.values(), ids=PARTS)
def test_install_repairs_a_partial_dump(
    installed: Project, options: tuple[str, ...], says: str
) -> None:
    """F2: after ``install`` every write failed, as there were no helpers."""
    restore(installed, *options)
    mend(installed, says)
    assert tell(installed, "blog_author") == EACH_ONCE
    is_open = "has_function_privilege('public', oid, 'EXECUTE')"
    ours = f"SELECT proname FROM pg_proc WHERE starts_with(proname, 'pgpubsub_') AND {is_open}"
    assert installed.sql(ours) == []


@pytest.mark.parametrize("level", ["statement", "row"])
def test_install_repairs_a_table_that_became_a_partition(project: Project, level: str) -> None:
    """F4: rows that were written through the parent were told to nobody."""
    project.write(authors(*EVENTS, models=KEYED, level=level))
    project.run("makemigrations", "blog")
    project.run("migrate", "-v0")
    project.sql(PARENT)
    if level == "statement":
        assert tell(project, "everyone") == []
        mend(project, "does not fire for each row")
    assert AGREE in project.run("pgpubsub", "verify")
    assert tell(project, "everyone") == tell(project, "blog_author") == EACH_ONCE
    project.sql("ALTER TABLE everyone DETACH PARTITION blog_author")
    assert tell(project, "blog_author") == EACH_ONCE
    if level == "statement":
        mend(project, "does not fire for each statement")
        assert tell(project, "blog_author") == EACH_ONCE


def test_install_repairs_a_table_that_inherits(installed: Project) -> None:
    """F4: what a statement on the parent changes in it was told to nobody."""
    installed.sql("CREATE TABLE everyone (id bigint NOT NULL, name text NOT NULL)")
    installed.sql("ALTER TABLE blog_author INHERIT everyone")
    mend(installed, "does not fire for each row")
    assert tell(installed, "blog_author") == EACH_ONCE
    through_parent = installed.told(
        "INSERT INTO blog_author (id, name) VALUES (1, 'Zoë')",
        "UPDATE everyone SET name = 'Ann' WHERE id = 1",
        "DELETE FROM everyone WHERE id = 1",
    )
    assert through_parent == EACH_ONCE
    assert tell(installed, "everyone") == []
    installed.sql("ALTER TABLE blog_author NO INHERIT everyone")
    mend(installed, "does not fire for each statement")
    assert tell(installed, "blog_author") == EACH_ONCE


PARTITIONED = """
ALTER TABLE blog_author RENAME TO blog_author_old;
CREATE TABLE blog_author (LIKE blog_author_old) PARTITION BY RANGE (id);
ALTER TABLE blog_author ATTACH PARTITION blog_author_old FOR VALUES FROM (0) TO (100);
CREATE TABLE blog_author_new PARTITION OF blog_author FOR VALUES FROM (100) TO (200)
"""


def test_install_repairs_a_table_that_was_partitioned(installed: Project) -> None:
    """F4: the triggers have gone with the old table, which is a partition of the new one."""
    installed.sql(PARTITIONED)
    mend(installed, "has no trigger")
    tables = ("blog_author", "blog_author_old")
    assert [tell(installed, table) for table in tables] == [EACH_ONCE] * 2
    assert installed.told("INSERT INTO blog_author (id, name) VALUES (100, 'Bea')") == EACH_ONCE[:1]
    moved = installed.told("UPDATE blog_author SET id = 1 WHERE id = 100")
    assert moved == [EACH_ONCE[2], EACH_ONCE[0]]


@pytest.mark.parametrize("each", ["ROW", "STATEMENT"])
def test_install_drops_a_partitions_own_trigger(installed: Project, each: str) -> None:
    """F4: what somebody has copied from the old table tells each row once more."""
    installed.sql(PARTITIONED)
    mend(installed, "has no trigger")
    installed.sql("CREATE TABLE later (LIKE blog_author)")
    installed.sql(
        f"CREATE TRIGGER copied AFTER INSERT ON later FOR EACH {each} "
        "EXECUTE FUNCTION pgpubsub_channel_blog__authors()"
    )
    installed.sql("ALTER TABLE blog_author ATTACH PARTITION later FOR VALUES FROM (200) TO (300)")
    mend(installed, "the trigger copied on later should not be there")
    for table in ("blog_author", "later"):
        told = installed.told(f"INSERT INTO {table} (id, name) VALUES (200, 'Bea')")
        assert told == EACH_ONCE[:1]


@pytest.mark.parametrize("fires", ["DISABLE", "ENABLE REPLICA"])
def test_verify_reports_a_disabled_trigger_of_one_partition(installed: Project, fires: str) -> None:
    """F4's sibling: PostgreSQL lets the copy of one partition be silent by itself."""
    installed.sql(PARTITIONED)
    mend(installed, "has no trigger")
    trigger = "pgpubsub_blog__authors_after_insert"
    installed.sql(f"ALTER TABLE blog_author_old {fires} TRIGGER {trigger}")
    mend(installed, "has a disabled trigger")
    for table in ("blog_author", "blog_author_old"):
        assert tell(installed, table) == EACH_ONCE
