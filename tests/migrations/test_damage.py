"""Damage to what is installed: every command reports it, and ``install`` repairs it."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.migrations.damage import DAMAGE, N, Damage
from tests.migrations.harness import Commands, Project
from tests.migrations.versions import authors

AGREE = "Code, migrations and database agree.\n"
WRITES = (
    "INSERT INTO blog_author (name) VALUES ('Zoë'), ('Ann')",
    "UPDATE blog_author SET name = 'Eve' WHERE name = 'Ann'",
)
DECLARED = [
    ("blog.Authors", "AFTER", "INSERT", None, "Zoë"),
    ("blog.Authors", "AFTER", "INSERT", None, "Ann"),
    ("blog.Authors", "AFTER", "UPDATE", "Ann", "Eve"),
]
STORED = f"""
    SELECT channel, payload::jsonb->>'when', payload::jsonb->>'op', payload::jsonb->'old'->>'name',
        payload::jsonb->'new'->>'name'
    FROM {N} WHERE payload::jsonb->'context' = '{{}}' ORDER BY id"""


@pytest.fixture(scope="module")
def installed(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project that lives through all of it, and an ordinary role that writes."""
    project = Project(tmp_path_factory.mktemp("damaged"), commands)
    project.write(authors("insert", "update"))
    project.run("makemigrations", "blog")
    project.run("migrate", "-v0")
    role = project.name
    project.sql(f"CREATE ROLE {role}_writer")
    project.sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON blog_author TO {role}_writer")
    project.sql(f"GRANT USAGE ON SEQUENCE blog_author_id_seq TO {role}_writer")
    project.sql("CREATE TABLE theirs (id integer PRIMARY KEY)")
    project.sql(
        "CREATE FUNCTION their_function() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NEW; END'"
    )
    project.sql(
        "CREATE TRIGGER their_trigger BEFORE INSERT ON blog_author "
        "FOR EACH ROW EXECUTE FUNCTION their_function()"
    )
    yield project
    project.close()
    project.sql(f"DROP OWNED BY {role}_writer CASCADE")
    project.sql(f"DROP ROLE {role}_writer")
    project.drop()


def is_told(project: Project) -> bool:
    """Whether what an ordinary role writes is told exactly as declared. All of it is undone."""
    with project.connect() as cursor:
        try:
            cursor.execute("BEGIN")
            cursor.execute(f"SET LOCAL ROLE {project.name}_writer")
            for write in WRITES:
                cursor.execute(write)
            cursor.execute("RESET ROLE")
            cursor.execute(STORED)
            return bool(cursor.fetchall() == DECLARED)
        except psycopg2.Error:
            return False
        finally:
            cursor.execute("ROLLBACK")


def do(project: Project, damage: Damage) -> None:
    for statement in damage.statements:
        project.sql(statement.replace("WRITER", f"{project.name}_writer"))


def of_others(project: Project) -> list[Any]:
    return project.sql(
        "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE tgname = 'their_trigger' "
        "UNION ALL SELECT pg_get_functiondef('their_function'::regproc), NULL "
        "UNION ALL SELECT 'theirs'::regclass::text, NULL ORDER BY 1"
    )


def problems(project: Project, *, code: int | None = None) -> list[dict[str, str]]:
    output = project.run("pgpubsub", "verify", "--json", code=code)
    found: list[dict[str, str]] = json.JSONDecoder().raw_decode(output)[0]
    return found


def mend(project: Project) -> None:
    others = of_others(project)
    project.run("pgpubsub", "install")
    assert project.run("pgpubsub", "verify") == AGREE
    assert is_told(project)
    assert "Everything is installed already." in project.run("pgpubsub", "install")
    project.sql("ALTER TABLE blog_author ENABLE TRIGGER their_trigger")  # DISABLE TRIGGER ALL
    assert [row[0] for row in of_others(project)] == [row[0] for row in others]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_all_commands_agree_about_damage(installed: Project, damage: Damage) -> None:
    """F1, F2, F10: verify, ls, check, listen and install never contradict each other."""
    installed.run("pgpubsub", "install")  # another test may have failed
    assert is_told(installed)
    do(installed, damage)
    assert is_told(installed) is not damage.is_felt
    found = problems(installed, code=1)
    assert any(damage.says in one["text"] for one in found), found
    checked = installed.run("check", "--database", "default")
    assert all(one["text"] in checked and one["remedy"] in checked for one in found)
    (row,) = json.JSONDecoder().raw_decode(
        installed.run("pgpubsub", "ls", "blog.Authors", "--json")
    )[0]
    is_own = any(one["channel"] == "blog.Authors" for one in found)
    assert (row["state"] != "installed") is is_own
    for remedy in {one["remedy"] for one in found}:
        _, _, command = remedy.partition("\n")[0].partition("Run: python manage.py ")
        installed.run(*shlex.split(command), *(["--noinput"] if "prune" in command else []))
    assert installed.run("pgpubsub", "verify") == AGREE
    mend(installed)


def test_a_table_that_is_made_again_has_its_options(installed: Project) -> None:
    options = f"SELECT reloptions FROM pg_class WHERE oid = '{N}'::regclass"
    before = installed.sql(options)
    assert before != [(None,)]
    do(installed, DAMAGE["our table is dropped"])
    installed.run("pgpubsub", "install")
    assert installed.sql(options) == before
    mend(installed)


@pytest.mark.parametrize(
    "name", ["a trigger is dropped", "a trigger is disabled", "a helper is replaced"]
)
def test_a_starting_worker_warns_of_damage(installed: Project, name: str) -> None:
    """F10: it said which channels it listens to, and nothing of those that nobody tells it of."""
    do(installed, DAMAGE[name])
    (problem,) = problems(installed, code=1)
    listening = installed.start_all("listen", "--drain", "--worker")
    assert problem["text"] in listening
    assert problem["remedy"] in listening
    mend(installed)
    assert "WARN" not in installed.start_all("listen", "--drain", "--worker")


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(names=st.lists(st.sampled_from(sorted(DAMAGE)), min_size=2, max_size=5, unique=True))
def test_install_repairs_all_kinds_of_damage_at_once(installed: Project, names: list[str]) -> None:
    """F1: verify is quiet only where a write is told as declared; after ``install`` both are so."""
    assert is_told(installed)
    for name in names:
        with contextlib.suppress(psycopg2.Error):  # an earlier one has left nothing for it
            do(installed, DAMAGE[name])
    is_quiet = installed.run("pgpubsub", "verify", code=None) == AGREE
    assert is_told(installed) or not is_quiet
    installed.run("pgpubsub", "prune", "--noinput")
    mend(installed)
