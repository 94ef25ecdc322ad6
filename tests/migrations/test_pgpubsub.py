"""``manage.py pgpubsub``: what is installed, what should be, and how to get there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.migrations.harness import Database, Project
from tests.migrations.versions import Source, blog, channel, model, on

INSERT = "INSERT INTO blog_author (name) VALUES ('Zoë')"
FUNCTION = "pgpubsub_channel_blog__authors"
TRIGGER = "pgpubsub_blog__authors_after_insert"


@pytest.fixture
def project(project: Project) -> Project:
    """With one durable channel whose trigger is installed, and one without rows."""
    reads = (
        "@dataclass\nclass Reads(pgpubsub_sql.Channel):\n    model_id: int\n    note: str = ''\n"
    )
    project.write(
        blog(
            models=model(),
            channels="from dataclasses import dataclass\n" + channel() + reads,
            listeners=on("insert"),
        )
    )
    project.run("makemigrations", "blog")
    project.run("migrate", "-v0")
    return project


def rows(project: Project, *argv: str, code: int = 0) -> list[dict[str, Any]]:
    output = project.run("pgpubsub", *argv, "--json", code=code)
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(output)[0]
    return found


def state(project: Project, name: str = "blog.Authors") -> str:
    (row,) = rows(project, "ls", name)
    return str(row["state"])


def test_ls_tells_all_of_a_channel(project: Project) -> None:
    (row,) = rows(project, "ls", "blog.Authors")
    assert row == {
        "channel": "blog.Authors",
        "class": "blog.channels.Authors",
        "model": "blog.author",
        "events": ["after_insert"],
        "level": "statement",
        "durable": True,
        "listeners": ["blog.listeners.authors_insert"],
        "state": "installed",
        "app": "blog",
    }


def test_ls_knows_what_waits_for_its_migration(project: Project) -> None:
    project.run("migrate", "blog", "zero")
    (row,) = rows(project, "ls", "blog.Authors")
    assert (row["model"], row["events"]) == ("blog.author", ["after_insert"])
    assert (row["state"], row["app"]) == ("missing", None)


def test_ls_is_a_table_for_people(project: Project) -> None:
    """F57: it was 137 columns wide."""
    head, rule, *lines = project.run("pgpubsub", "ls").splitlines()
    assert head.split() == ["channel", "model", "events", "durable", "state", "listeners"]
    assert set(rule) == {"-", " "}
    assert [line.split()[0] for line in lines] == ["blog.Authors", "blog.Reads"]
    assert "installed" in lines[0]
    assert len(rule) <= 80


def test_ls_shows_all_of_a_channel_that_is_named(project: Project) -> None:
    """F57: what the table leaves out."""
    lines = project.run("pgpubsub", "ls", "blog.Authors").splitlines()
    assert [line.split()[0] for line in lines] == [*rows(project, "ls", "blog.Authors")[0]]
    assert "class      blog.channels.Authors" in lines


@pytest.mark.parametrize("reference", ["blog.Authors", "blog.channels.Authors"])
def test_a_channel_is_named_either_way(project: Project, reference: str) -> None:
    assert state(project, reference) == "installed"


def test_a_channel_that_there_is_not_is_suggested(project: Project) -> None:
    output = project.run("pgpubsub", "ls", "blog.Author", code=1)
    assert "No channel is called 'blog.Author'. Did you mean 'blog.Authors'?" in output


WORDS = ("ls", "verify", "sql", "install", "uninstall", "enable", "disable", "prune")


@pytest.mark.parametrize("word", WORDS)
def test_every_word_suggests_a_channel(project: Project, word: str) -> None:
    output = project.run("pgpubsub", word, "blog.Author", code=1)
    assert "No channel is called 'blog.Author'. Did you mean 'blog.Authors'?" in output
    assert "No channel is called" in project.run("pgpubsub", word, "something", code=1)


def test_every_word_speaks_json(project: Project) -> None:
    for word, *argv in (
        ("disable", "--all", "--noinput"),
        ("enable",),
        ("uninstall", "--all", "--noinput"),
        ("install",),
    ):
        (row,) = rows(project, word, *argv)
        assert row["channel"] == "blog.Authors"
        assert row["done"] == f"{word}d".replace("lld", "lled")
    assert rows(project, "install") == rows(project, "prune") == rows(project, "verify") == []
    for word in ("ls", "sql"):
        assert [row["channel"] for row in rows(project, word)] == ["blog.Authors", "blog.Reads"]


def test_every_word_keeps_to_its_database(project: Project, other: Database) -> None:
    """Remedies name it, too."""
    database = ("--database", "other")
    project.configure(
        f'DATABASES["other"] = DATABASES["default"] | {{"NAME": {other.name!r}}}',
        apps=["pgpubsub_sql", "blog"],
    )
    project.run("migrate", *database)
    before = project.catalogue()
    assert other.catalogue() == before

    project.run("pgpubsub", "disable", "--all", "--noinput", *database)
    (problem,) = rows(project, "verify", *database, code=1)
    assert problem["remedy"].endswith("pgpubsub enable blog.Authors --database other")
    assert [row["state"] for row in rows(project, "ls", *database)] == ["disabled", None]
    project.run(*problem["remedy"].split("manage.py ")[1].split())
    project.run("pgpubsub", "uninstall", "--all", "--noinput", *database)
    assert other.catalogue() == frozenset()
    output = project.run("check", *database)
    assert (
        "In the database 'other', the channel blog.Authors has no trigger in the database" in output
    )
    assert "HINT: Run: python manage.py pgpubsub install blog.Authors --database other" in output
    (shown,) = rows(project, "sql", "blog.Authors", *database)
    for statement in shown["sql"]:
        other.sql(statement)
    assert other.catalogue() == before
    other.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    project.run("pgpubsub", "install", *database)
    assert other.catalogue() == before

    leave_over(other)
    assert rows(project, "verify") == []
    (problem,) = rows(project, "verify", *database, code=1)
    project.run(*problem["remedy"].split("manage.py ")[1].split(), "--noinput")
    assert "agree" in project.run("pgpubsub", "verify", *database)
    assert project.catalogue() == before


def test_everything_agrees_after_migrate(project: Project) -> None:
    assert project.run("pgpubsub", "verify") == "Code, migrations and catalogue agree.\n"
    assert rows(project, "verify") == []


DRIFT = {
    "the trigger is gone": (
        [f'DROP TRIGGER "{TRIGGER}" ON blog_author'],
        "missing",
        "Run: python manage.py pgpubsub install blog.Authors",
    ),
    "the function is gone": (
        [f'DROP FUNCTION "{FUNCTION}" CASCADE'],
        "missing",
        "Run: python manage.py pgpubsub install blog.Authors",
    ),
    "the trigger sits on another table": (
        [
            f'DROP TRIGGER "{TRIGGER}" ON blog_author',
            "CREATE TABLE blog_other (id int)",
            f'CREATE TRIGGER "{TRIGGER}" AFTER INSERT ON blog_other '
            f'FOR EACH STATEMENT EXECUTE FUNCTION "{FUNCTION}"()',
        ],
        "missing",
        "Run: python manage.py pgpubsub install blog.Authors",
    ),
    "an event too much": (
        [
            f"CREATE TRIGGER surplus AFTER TRUNCATE ON blog_author "
            f'FOR EACH STATEMENT EXECUTE FUNCTION "{FUNCTION}"()'
        ],
        "outdated",
        "Run: python manage.py pgpubsub install blog.Authors",
    ),
    "disabled": (
        [f'ALTER TABLE blog_author DISABLE TRIGGER "{TRIGGER}"'],
        "disabled",
        "Run: python manage.py pgpubsub enable blog.Authors",
    ),
    "fires on replicas only": (
        [f'ALTER TABLE blog_author ENABLE REPLICA TRIGGER "{TRIGGER}"'],
        "disabled",
        "Run: python manage.py pgpubsub enable blog.Authors",
    ),
}


@pytest.mark.parametrize(("statements", "expected", "remedy"), DRIFT.values(), ids=DRIFT)
def test_drift_of_the_catalogue_is_seen_and_repaired(
    project: Project, statements: list[str], expected: str, remedy: str
) -> None:
    for statement in statements:
        project.sql(statement)
    assert state(project) == expected
    (problem,) = rows(project, "verify", code=1)
    assert (problem["channel"], problem["remedy"]) == ("blog.Authors", remedy)
    project.run(*remedy.split("manage.py ")[1].split())
    assert project.run("pgpubsub", "verify") == "Code, migrations and catalogue agree.\n"
    assert project.told(INSERT) == [("blog.Authors", "INSERT")]


def test_install_leaves_alone_what_is_as_it_should_be(project: Project) -> None:
    before = project.catalogue()
    assert "Everything is installed already." in project.run("pgpubsub", "install")
    assert project.catalogue() == before


def test_a_function_of_somebody_else_is_never_replaced(project: Project) -> None:
    """T4, F8: a channel of another app, on another table, has the name that ours needs."""
    project.run("pgpubsub", "uninstall", "--all", "--noinput")
    of_another("shop", "blog.Authors", FUNCTION, project)
    before = project.catalogue()
    assert state(project) == "foreign"
    (problem,) = rows(project, "verify", code=1)
    assert "belongs to the channel blog.Authors of the app 'shop'" in problem["text"]
    assert "not replaced" in project.run("pgpubsub", "install", code=1)
    for argv in (
        ("uninstall", "--all", "--noinput"),
        ("disable", "--all", "--noinput"),
        ("prune",),
    ):
        project.run("pgpubsub", *argv)
    assert project.catalogue() == before


def of_another(app: str, channel: str, function: str, database: Database) -> None:
    """Have the function of a channel whose body says that it is of *app*."""
    tag = json.dumps({"app": app, "channel": channel})
    database.sql(
        f'CREATE FUNCTION "{function}"() RETURNS trigger LANGUAGE plpgsql '
        f"AS '\n-- pgpubsub_sql {tag}\nBEGIN RETURN NULL; END'"
    )


def test_a_table_that_is_gone_keeps_its_triggers(project: Project) -> None:
    """F1: install dropped those of a table that was renamed, and said that all was installed."""
    project.sql("ALTER TABLE blog_author RENAME TO renamed")
    assert state(project) == "tableless"
    (problem,) = rows(project, "verify", code=1)
    assert "watches a table that does not exist" in problem["text"]
    before = project.catalogue()
    assert "Everything is installed already." in project.run("pgpubsub", "install")
    assert project.catalogue() == before
    project.sql("ALTER TABLE renamed RENAME TO blog_author")
    assert rows(project, "verify") == []


def test_options_that_no_longer_fit(project: Project) -> None:
    """T3, T13: rows travel whole then, and ``verify`` says why, for no write fails of it."""
    models = model("Author", "age = models.IntegerField(null=True)")
    source = channel(columns=("age",), condition=Source("Q(new__age__gt=F('new__age') - 1)"))
    source = f"from django.db.models import F\n{source}"
    project.write(blog(models=models, channels=source, listeners=on("insert")))
    project.run("makemigrations")
    project.run("migrate")
    for change, back, reason in (
        ("RENAME age TO years", "RENAME years TO age", "age does not exist"),
        ("ALTER age TYPE text", "ALTER age TYPE integer USING NULL", "operator does not exist"),
    ):
        assert state(project) == "installed"
        project.sql(f"ALTER TABLE blog_author {change}")
        assert state(project) == "stale"
        (problem,) = rows(project, "verify", code=1)
        assert "so every row is sent whole: " in problem["text"]
        assert reason in problem["text"]
        assert "Change the channel's columns, watch or condition." in problem["remedy"]
        assert project.told(INSERT) == [("blog.Authors", "INSERT")]
        assert "W202" in project.run("check", "--database", "default")
        project.sql(f"ALTER TABLE blog_author {back}")
    assert rows(project, "verify") == []


def test_code_that_no_migration_knows(project: Project) -> None:
    project.write({"blog/listeners.py": "import pgpubsub_sql\n" + on("insert", "delete")})
    (problem,) = rows(project, "verify", code=1)
    assert problem["remedy"] == "Run: python manage.py makemigrations blog"
    project.run("makemigrations", "blog")
    (problem,) = rows(project, "verify", code=1)
    assert problem["remedy"] == "Run: python manage.py migrate"
    project.run("migrate", "-v0")
    assert rows(project, "verify") == []


def test_install_keeps_to_the_migrations_that_have_run(project: Project) -> None:
    """Code that is ahead of its migrations may name columns that there are not yet."""
    project.write({"blog/listeners.py": "import pgpubsub_sql\n" + on("insert", "delete")})
    project.run("makemigrations", "blog")
    project.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    project.run("pgpubsub", "install")
    assert project.catalogue().events == {"after_insert"}


def test_disable_and_enable(project: Project) -> None:
    project.run("pgpubsub", "disable", "blog.Authors", "--noinput")
    assert project.told(INSERT) == []
    project.run("pgpubsub", "enable", "blog.Authors")
    assert project.told(INSERT) == [("blog.Authors", "INSERT")]


def test_uninstall_and_install(project: Project) -> None:
    before = project.catalogue()
    project.run("pgpubsub", "uninstall", "--all", "--noinput")
    assert not project.catalogue()
    assert project.told(INSERT) == []
    project.run("pgpubsub", "install")
    assert project.catalogue() == before


QUESTIONS = {
    "uninstall": "Drop the triggers of 1 channel (blog.Authors)? Until they are installed again, "
    "no change sends a message.",
    "disable": "Disable the triggers of 1 channel (blog.Authors)? Until they are enabled again, "
    "no change sends a message.",
}


@pytest.mark.parametrize(("word", "question"), QUESTIONS.items(), ids=QUESTIONS)
def test_triggers_are_taken_away_only_with_consent(
    project: Project, word: str, question: str
) -> None:
    """F56: ``uninstall`` without arguments dropped everything, and asked nothing."""
    output = project.run("pgpubsub", word, code=1)
    assert "is selected. Name channels, as ls shows them. --all selects everything." in output
    assert "leave out either" in project.run("pgpubsub", word, "--all", "blog.Authors", code=1)
    for argv in ((word, "--all"), (word, "blog.Authors")):
        output = project.run("pgpubsub", *argv, code=1)
        assert f"{question} The answer can only be given at a terminal." in output
        assert question in project.run("pgpubsub", *argv, answers="n\n", code=1)
    assert state(project) == "installed"
    assert f"{question} [y/N] " in project.run("pgpubsub", word, "--all", answers="y\n")
    assert state(project) != "installed"


def leave_over(project: Database) -> None:
    """Have a function of ours that nothing asks for: its migration was deleted, say."""
    of_another("blog", "blog.Gone", "pgpubsub_channel_blog.Gone", project)
    of_another("shop", "shop.Theirs", "pgpubsub_channel_shop.Theirs", project)


def test_prune_shows_asks_and_drops_only_our_own(project: Project) -> None:
    """T4: two projects share a database, and neither prunes the other's triggers."""
    leave_over(project)
    (problem,) = rows(project, "verify", code=1)
    assert (problem["channel"], problem["remedy"]) == (
        "blog.Gone",
        "Run: python manage.py pgpubsub prune",
    )
    before = project.catalogue()
    assert "add --noinput" in project.run("pgpubsub", "prune", code=1)  # F56
    output = project.run("pgpubsub", "prune", answers="n\n", code=1)
    assert "Drop the leftovers of 1 channel (blog.Gone)? [y/N]" in output
    assert "shop" not in output
    assert project.catalogue() == before
    project.run("pgpubsub", "prune", answers="y\n")
    assert set(project.catalogue().functions) == {
        f"{FUNCTION}()",
        '"pgpubsub_channel_shop.Theirs"()',
    }
    assert "There is nothing to prune." in project.run("pgpubsub", "prune", "--noinput")


def test_sql_that_installs_is_what_is_installed(project: Project) -> None:
    before = project.catalogue()
    (row,) = rows(project, "sql", "blog.Authors")
    project.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    for statement in row["sql"]:
        project.sql(statement)
    assert project.catalogue() == before


def test_sql_that_sends_is_ready_to_run(project: Project) -> None:
    (row,) = rows(project, "sql", "blog.Reads")
    assert row["schema"]["title"] == "blog.Reads"
    assert row["sql"] == ["SELECT pg_notify('blog.Reads', '{\"model_id\": 1}');"]
    project.sql(row["sql"][0])
    text = project.run("pgpubsub", "sql", "blog.Reads")
    assert text.splitlines()[:2] == ["-- blog.Reads", row["sql"][0]]


def test_sql_that_sends_on_a_channel_that_refuses_raw_notify(project: Project) -> None:
    """F63: it is signed."""
    source = (project.root / "blog/channels.py").read_text(encoding="utf-8")
    closed = source.replace("model_id: int", "model_id: int\n    accept_raw_notify = False")
    assert closed != source
    project.write({"blog/channels.py": closed})
    (row,) = rows(project, "sql", "blog.Reads")
    assert row["sql"] == ["SELECT pgpubsub_publish_v1('blog.Reads', '{\"model_id\": 1}');"]
    project.sql(row["sql"][0])


def test_a_database_that_is_not_ready_is_told_so(project: Project) -> None:
    project.run("migrate", "blog", "zero", "-v0")
    project.run("migrate", "pgpubsub_sql", "zero", "-v0")
    output = project.run("pgpubsub", "verify", code=1)
    assert "Run: python manage.py migrate --database default" in output


def test_a_database_that_is_no_postgresql_is_told_so(project: Project) -> None:
    project.configure(
        """
        DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        """,
        apps=["pgpubsub_sql", "blog"],
    )
    output = project.run("pgpubsub", "verify", "--database", "lite", code=1)
    assert "The database 'lite' is SQLite; LISTEN and NOTIFY are PostgreSQL's" in output


def test_help_teaches(project: Project) -> None:
    output = project.run("pgpubsub", "--help")
    for word in ("ls", "verify", "sql", "install", "uninstall", "enable", "disable", "prune"):
        assert f"    {word} " in output
    assert "Drop functions and triggers that this project installed" in project.run(
        "pgpubsub", "prune", "--help"
    )


def test_djangos_own_options_may_come_last(project: Project) -> None:
    project.run("pgpubsub", "verify", "--no-color", "--settings", "project.settings")


def test_check_deploy_tells_of_code_that_no_migration_knows(project: Project) -> None:
    assert "W201" not in project.run("check", "--deploy")
    project.write({"blog/listeners.py": "import pgpubsub_sql\n" + on("insert", "delete")})
    output = project.run("check", "--deploy")
    assert "pgpubsub_sql.W201" in output
    assert "HINT: Run: python manage.py makemigrations blog" in output


def test_check_database_tells_of_what_is_not_installed(project: Project) -> None:
    assert "W202" not in project.run("check", "--database", "default")
    project.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    output = project.run("check", "--database", "default")
    assert (
        "In the database 'default', the channel blog.Authors has no trigger in the database"
        in output
    )
    assert "HINT: Run: python manage.py pgpubsub install blog.Authors" in output
    assert "W202" not in project.run("check")


def test_a_database_that_is_not_migrated_yet_is_no_drift(project: Project) -> None:
    project.run("migrate", "blog", "zero", "-v0")
    project.run("migrate", "pgpubsub_sql", "zero", "-v0")
    assert "W202" not in project.run("check", "--database", "default")
