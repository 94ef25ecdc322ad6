"""``manage.py pgpubsub ls | verify | sql``: what is declared and what is installed."""

from __future__ import annotations

import pytest

from tests.management.projects import FUNCTION, INSERT, TRIGGER, rows, state
from tests.migrations.harness import Project
from tests.migrations.versions import Source, blog, channel, model, on


def test_ls_json_has_everything_about_a_channel(project: Project) -> None:
    (row,) = rows(project, "ls", "blog.Authors")
    assert row == {
        "channel": "blog.Authors",
        "class": "blog.channels.Authors",
        "model": "blog.author",
        "triggers": ["after_insert"],
        "level": "statement",
        "durable": True,
        "listeners": ["blog.listeners.authors_insert"],
        "subscriptions": [],
        "state": "installed",
        "app": "blog",
    }


def test_ls_shows_a_channel_whose_migration_has_not_run(project: Project) -> None:
    project.run("migrate", "blog", "zero")
    (row,) = rows(project, "ls", "blog.Authors")
    assert (row["model"], row["triggers"]) == ("blog.author", ["after_insert"])
    assert (row["state"], row["app"]) == ("missing", None)


def test_ls_prints_a_table_of_80_columns(project: Project) -> None:
    """F57: it was 137 columns wide."""
    head, rule, *lines = project.run("pgpubsub", "ls").splitlines()
    assert head.split() == ["channel", "model", "triggers", "durable", "state", "listeners"]
    assert set(rule) == {"-", " "}
    assert [line.split()[0] for line in lines] == ["blog.Authors", "blog.Reads"]
    assert "installed" in lines[0]
    assert len(rule) <= 80


def test_ls_prints_everything_about_a_named_channel(project: Project) -> None:
    """F57: including what the table leaves out."""
    lines = project.run("pgpubsub", "ls", "blog.Authors").splitlines()
    names = [name for name in rows(project, "ls", "blog.Authors")[0] if name != "subscriptions"]
    assert [line.split()[0] for line in lines] == names
    assert "class      blog.channels.Authors" in lines


@pytest.mark.parametrize("reference", ["blog.Authors", "blog.channels.Authors"])
def test_a_channel_is_named_by_its_name_or_its_module_path(
    project: Project, reference: str
) -> None:
    assert state(project, reference) == "installed"


def test_verify_reports_nothing_after_migrate(project: Project) -> None:
    assert project.run("pgpubsub", "verify") == "Code, migrations and database agree.\n"
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
def test_verify_reports_drift_and_its_remedy_repairs_it(
    project: Project, statements: list[str], expected: str, remedy: str
) -> None:
    for statement in statements:
        project.sql(statement)
    assert state(project) == expected
    (problem,) = rows(project, "verify", code=1)
    assert (problem["channel"], problem["remedy"]) == ("blog.Authors", remedy)
    project.run(*remedy.split("manage.py ")[1].split())
    assert project.run("pgpubsub", "verify") == "Code, migrations and database agree.\n"
    assert project.told(INSERT) == [("blog.Authors", "INSERT")]


def test_verify_reports_options_that_no_longer_fit_the_table(project: Project) -> None:
    """T3, T13: rows are then sent whole; no write fails, so ``verify`` has to say why."""
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


def test_verify_reports_code_without_its_migration(project: Project) -> None:
    project.write({"blog/listeners.py": "import pgpubsub_sql\n" + on("insert", "delete")})
    (problem,) = rows(project, "verify", code=1)
    assert problem["remedy"] == "Run: python manage.py makemigrations blog"
    project.run("makemigrations", "blog")
    (problem,) = rows(project, "verify", code=1)
    assert problem["remedy"] == "Run: python manage.py migrate"
    project.run("migrate", "-v0")
    assert rows(project, "verify") == []


def test_sql_prints_what_migrations_install(project: Project) -> None:
    before = project.catalogue()
    (row,) = rows(project, "sql", "blog.Authors")
    project.sql(f'DROP FUNCTION "{FUNCTION}" CASCADE')
    for statement in row["sql"]:
        project.sql(statement)
    assert project.catalogue() == before


def test_sql_prints_a_statement_that_sends(project: Project) -> None:
    (row,) = rows(project, "sql", "blog.Reads")
    assert row["schema"]["title"] == "blog.Reads"
    assert row["sql"] == ["SELECT pg_notify('blog.Reads', '{\"model_id\": 1}');"]
    project.sql(row["sql"][0])
    text = project.run("pgpubsub", "sql", "blog.Reads")
    assert text.splitlines()[:2] == ["-- blog.Reads", row["sql"][0]]


def test_sql_prints_a_signed_statement_for_a_channel_that_refuses_raw_notify(
    project: Project,
) -> None:
    """F63: it is signed."""
    source = (project.root / "blog/channels.py").read_text(encoding="utf-8")
    closed = source.replace("model_id: int", "model_id: int\n    accept_raw_notify = False")
    assert closed != source
    project.write({"blog/channels.py": closed})
    (row,) = rows(project, "sql", "blog.Reads")
    assert row["sql"] == ["SELECT pgpubsub_publish_v1('blog.Reads', '{\"model_id\": 1}');"]
    project.sql(row["sql"][0])
