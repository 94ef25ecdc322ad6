"""Privileges of the roles that migrate, own tables and own functions."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.migrations.cases import install
from tests.migrations.harness import Project
from tests.migrations.versions import AUTHOR, authors, blog, channel, model, on

BOTH = blog(
    models=AUTHOR,
    channels=channel("Authors") + channel("News", lock_notifications=False),
    listeners=on("insert") + on("insert", of="blog.channels.News"),
)
"""A durable channel and an ephemeral one."""


@pytest.fixture
def role(project: Project) -> Iterator[str]:
    """A role that owns the schema and nothing in it."""
    role = f"role_{project.name}"
    project.sql(f"CREATE ROLE {role} LOGIN")
    project.sql(f"ALTER SCHEMA public OWNER TO {role}")
    yield role
    project.close()
    project.sql(f"DROP OWNED BY {role} CASCADE")
    project.sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER")
    project.sql(f"DROP ROLE {role}")


def connect_as(project: Project, role: str) -> None:
    """Have the project's commands connect as another role."""
    extra = f'DATABASES["default"]["USER"] = {role!r}' if role else ""
    project.close()
    project.configure(extra, apps=["pgpubsub_sql", "blog"])


def grants(output: str) -> list[str]:
    """Return the statements that a message asks for, each of which names its objects in full."""
    return re.findall(r"((?:GRANT|CREATE POLICY) [^;]*;)", output)


def assert_agreed(project: Project) -> None:
    assert "Code, migrations and database agree." in project.run("pgpubsub", "verify")


def test_migrate_refuses_if_writes_would_fail_and_says_what_to_grant(
    project: Project, role: str
) -> None:
    """F11: our tables are another's, who has migrated them; and so is the table that is watched."""
    install(project, authors())
    project.sql(f"GRANT ALL ON django_migrations TO {role}")
    project.sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    project.sql(f"ALTER TABLE blog_author OWNER TO {role}")
    project.write(BOTH)
    project.run("makemigrations")
    connect_as(project, role)
    asked = []
    while "NotReady" in (output := project.run("migrate", code=None)):
        assert f"runs as the role '{role}', which lacks" in output
        assert project.catalogue() == frozenset()
        new = [grant for grant in grants(output) if grant not in asked]
        assert new
        for grant in new:
            project.sql(grant)
        asked += new
        project.sql("INSERT INTO blog_author (name) VALUES ('Ann')", user=role)
    assert len(asked) < 9
    assert_agreed(project)
    assert sorted(project.told("INSERT INTO blog_author (name) VALUES ('Ann')")) == [
        ("blog.Authors", "INSERT"),
        ("blog.News", "INSERT"),
    ]
    project.sql("INSERT INTO blog_author (name) VALUES (repeat('Ann', 5000))", user=role)


def test_migrate_grants_what_its_role_may_grant(project: Project, role: str) -> None:
    """F11: a function that somebody has given away is mended by the next migration."""
    install(project, BOTH)
    for (function,) in project.sql(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE starts_with(proname, 'pgpubsub_channel')"
    ):
        project.sql(f"ALTER FUNCTION {function} OWNER TO {role}")
    project.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    assert grants(project.run("pgpubsub", "verify", code=1))
    more = on("update") + on("update", of="blog.channels.News")
    install(project, BOTH | {"blog/listeners.py": BOTH["blog/listeners.py"] + more})
    assert len(project.told("INSERT INTO blog_author (name) VALUES ('Ann')")) == 2
    assert len(project.told("UPDATE blog_author SET name = 'Bea'")) == 2


def test_migrate_names_the_grant_that_its_role_lacks(project: Project, role: str) -> None:
    """F11: tables that belong to one role, and migrations that run as another."""
    install(project, authors())
    project.sql(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    project.sql(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    project.sql(f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO {role}")
    project.sql(f"REVOKE TRIGGER ON blog_author FROM {role}")
    project.write(authors("insert"))
    project.run("makemigrations")
    connect_as(project, role)
    output = project.run("migrate", code=None)
    assert f"cannot be installed by the role '{role}', which lacks TRIGGER on public.blog" in output
    (grant,) = grants(output)
    assert grant == f"GRANT TRIGGER ON public.blog_author TO {role};"
    project.sql(grant)
    project.run("migrate")
    assert project.told("INSERT INTO blog_author (name) VALUES ('Ann')") == [
        ("blog.Authors", "INSERT")
    ]


def test_install_by_a_role_that_does_not_own_our_functions_says_who_may(
    project: Project, role: str
) -> None:
    """F12: a restored or shared database, mended by somebody who may not."""
    install(project, authors("insert"))
    project.sql("GRANT ALL ON SCHEMA public TO PUBLIC")
    for kind in ("TABLES", "SEQUENCES"):
        project.sql(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {role}")
    (function,) = project.catalogue().functions
    project.sql(f"ALTER FUNCTION {function} RESET timezone")
    connect_as(project, role)
    output = project.run("pgpubsub", "install", code=1)
    assert "PostgreSQL refused: must be owner of function" in output
    assert "Connect as the role that runs migrate" in output
    assert "Traceback" not in output


def test_install_says_what_has_the_name_of_our_index(project: Project) -> None:
    """F12: somebody keeps the old table under another name, and its index with it."""
    install(project, authors("insert"))
    project.sql("DROP INDEX pgpubsub_sql_available")
    project.sql("CREATE TABLE pgpubsub_sql_available ()")
    output = project.run("pgpubsub", "install", code=1)
    assert 'PostgreSQL refused: relation "pgpubsub_sql_available" already exists.' in output
    assert "Rename the object that has this name" in output
    assert "Traceback" not in output
    project.sql("ALTER TABLE pgpubsub_sql_available RENAME TO archive")
    project.run("pgpubsub", "install")
    assert_agreed(project)


# --- Partitions -----------------------------------------------------------------------------------

PARTITIONED = """
    DROP TABLE blog_author;
    CREATE TABLE blog_author (
        id bigint GENERATED BY DEFAULT AS IDENTITY, name text, PRIMARY KEY (id)
    ) PARTITION BY RANGE (id);
    CREATE TABLE other PARTITION OF blog_author DEFAULT;
    CREATE TABLE deep PARTITION OF blog_author FOR VALUES FROM (90) TO (99) PARTITION BY LIST (id);
"""

PARTITIONING = [
    "CREATE TABLE low PARTITION OF blog_author FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE high (LIKE blog_author INCLUDING ALL EXCLUDING IDENTITY)",
    "ALTER TABLE blog_author ATTACH PARTITION high FOR VALUES FROM (10) TO (20)",
    "CREATE TABLE deepest PARTITION OF deep FOR VALUES IN (95)",
    "CREATE TABLE copied (LIKE blog_author INCLUDING ALL)",
]


def test_the_owner_of_a_table_can_create_and_attach_partitions(project: Project, role: str) -> None:
    """F11: "permission denied for function", as PostgreSQL makes triggers of the parent's there."""
    install(project, authors())
    project.sql(PARTITIONED)
    project.sql(f"ALTER TABLE blog_author OWNER TO {role}; ALTER TABLE deep OWNER TO {role}")
    install(project, authors("insert"))
    assert "GRANT EXECUTE" in project.run("sqlmigrate", "blog", project.migrations()[-1])
    for statement in PARTITIONING:
        project.sql(statement, user=role)
    assert_agreed(project)
    for number in (1, 11, 95):
        project.sql(f"INSERT INTO blog_author VALUES ({number}, 'Ann')", user=role)
    assert len(project.stored()) == 3
    project.sql("INSERT INTO copied VALUES (1, 'Ann')", user=role)
    assert project.stored() == []


def test_verify_reports_an_owner_who_cannot_create_partitions(project: Project, role: str) -> None:
    """F11: the table changes its owner after it is watched. Its name has a meaning in Python."""
    models = model("Author", meta='db_table = "blog_{author}"')
    install(project, authors(models=models))
    project.sql(PARTITIONED.replace("blog_author", '"blog_{author}"'))
    install(project, authors("insert", models=models))
    project.sql(f"ALTER TABLE deep OWNER TO {role}")
    output = project.run("pgpubsub", "verify", code=1)
    assert f"watches blog_{{author}}, whose owner '{role}' lacks EXECUTE on FUNCTION" in output
    assert "can neither create nor attach partitions" in output
    project.run("pgpubsub", "install")
    assert_agreed(project)
    project.sql("CREATE TABLE deepest PARTITION OF deep FOR VALUES IN (95)", user=role)


def test_the_owner_of_a_plain_table_needs_no_privilege(project: Project, role: str) -> None:
    """F11: copying it, or making it a partition, calls no trigger of its own."""
    install(project, authors("insert"))
    project.sql(f"ALTER TABLE blog_author OWNER TO {role}")
    assert_agreed(project)
    for statement in (
        "CREATE TABLE copied (LIKE blog_author INCLUDING ALL)",
        "CREATE TABLE parent (LIKE blog_author) PARTITION BY RANGE (id)",
        "ALTER TABLE blog_author ALTER id DROP IDENTITY",
        "ALTER TABLE parent ATTACH PARTITION blog_author DEFAULT",
        "ALTER TABLE parent DETACH PARTITION blog_author",
    ):
        project.sql(statement, user=role)
    project.sql("INSERT INTO blog_author VALUES (1, 'Ann')", user=role)
    assert project.stored() == [("blog.Authors", "INSERT")]


# --- Operators ------------------------------------------------------------------------------------


WORD = """
    CREATE SCHEMA extensions;
    CREATE TYPE extensions.word AS ENUM ('1', 'ann', 'Ann');
    CREATE FUNCTION extensions.same(extensions.word, extensions.word) RETURNS boolean
        LANGUAGE sql IMMUTABLE AS 'SELECT lower($1::text) = lower($2::text)';
    CREATE OPERATOR extensions.= (
        LEFTARG = extensions.word, RIGHTARG = extensions.word, FUNCTION = extensions.same
    );
    ALTER TABLE blog_author ALTER name TYPE extensions.word USING NULL
"""
"""A type whose operator is in its own schema, as that of citext is."""

NAMED_ANN = "from django.db.models import Q\n\n" + channel("Authors").replace(
    "lock_notifications", 'condition = Q(new__name="ann")\n    lock_notifications'
)


def test_the_functions_owner_needs_usage_on_the_schema_of_a_type(
    project: Project, role: str
) -> None:
    """F11: PostgreSQL passes a schema by without USAGE, and nobody said why rows went whole."""
    connect_as(project, role)
    install(project, authors())
    project.sql(WORD)
    project.sql(f"GRANT USAGE ON SCHEMA extensions TO {role}")
    write, other = (f"INSERT INTO blog_author (name) VALUES ('{name}')" for name in ("Ann", "1"))
    project.write(blog(models=AUTHOR, channels=NAMED_ANN, listeners=on("insert")))
    project.run("makemigrations")
    project.run("migrate")
    assert project.told(write)
    assert not project.told(other)
    assert_agreed(project)
    project.sql(f"REVOKE USAGE ON SCHEMA extensions FROM {role}")
    assert project.told(write)
    assert project.told(other)
    connect_as(project, "")
    output = project.run("pgpubsub", "verify", code=1)
    assert "without USAGE on SCHEMA extensions; so every row is sent whole" in output
    for grant in grants(output):
        project.sql(grant)
    assert project.told(write)
    assert not project.told(other)
    assert_agreed(project)
