"""Changes of a channel's options, and of the fields that they name."""

from __future__ import annotations

import pytest

from tests.migrations.cases import Case, walk
from tests.migrations.harness import Files, Project
from tests.migrations.versions import Source, blog, channel, model, on, people, watcher

EVENTS = ("insert", "update", "delete")
INSERT, UPDATE, DELETE = ALL = [f"blog.Authors {event.upper()}" for event in EVENTS]


AGE = "age = models.IntegerField(null=True)"
YEARS = "years = models.IntegerField(null=True)"
OLD_ENOUGH = Source("Q(new__age__gte=18) | Q(new__age=None)")


def authors(*fields: str, **options: object) -> Files:
    """Return an app with one channel that tells of everything, but for its options."""
    return blog(models=model("Author", *fields), channels=channel(**options), listeners=on(*EVENTS))


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "T13: it is watched by row",
            before=authors(),
            after=authors(level="row"),
            writes=["blog: AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "F64: nobody can silence it any more",
            before=authors(),
            after=authors(ignorable=False),
            writes=["blog: AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "P13: fewer columns travel",
            before=authors(),
            after=authors(columns=("name",)),
            writes=["blog: AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "columns are listed in another order",
            before=authors(AGE, columns=("name", "age")),
            after=authors(AGE, columns=["age", "name"]),
            writes=[],
            tells=ALL,
        ),
        Case(
            "P26: something is watched",
            before=authors(AGE),
            after=authors(AGE, watch=("age",)),
            writes=["blog: AlterTrigger"],
            tells=[INSERT, DELETE],
        ),
        Case(
            "a condition is made",
            before=authors(),
            after=authors(condition=Source('Q(old__name="Bea")')),
            writes=["blog: AlterTrigger"],
            tells=[DELETE],
        ),
        Case(
            "a condition is taken away",
            before=authors(condition=Source('Q(new__name="Bea")')),
            after=authors(),
            writes=["blog: AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "a condition is another",
            before=authors(condition=Source('Q(new__name="Bea")')),
            after=authors(condition=Source('~Q(new__name="Bea")')),
            writes=["blog: AlterTrigger"],
            tells=[INSERT, DELETE],
        ),
        Case(
            "T7: a condition is written in another way",
            before=authors(condition=Source('Q(new__name="Bea", old__name="Ann")')),
            after=authors(condition=Source('Q(new__name="Bea") & Q(old__name="Ann")')),
            writes=[],
            tells=[UPDATE],
        ),
        Case(
            "P16: a key orders",
            before=authors(),
            after=authors(ordering_key="name"),
            writes=["blog: AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "P13: all travel but some",
            before=authors(AGE),
            after=authors(AGE, exclude=("age",)),
            writes=["blog: AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "what only workers look at",
            before=authors(),
            after=authors(
                retry=Source("pgpubsub_sql.Retry(max_attempts=3)"), timeout=5, batch_size=1
            ),
            writes=[],
            tells=ALL,
        ),
    ],
    ids=str,
)
def test_changing_an_option_is_one_alter_trigger(project: Project, case: Case) -> None:
    """T6, T9: every change of an option is one operation, and none is none."""
    walk(project, case)


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "T13: it is added, and named",
            before=authors(),
            after=authors(AGE, columns=("name", "age"), condition=OLD_ENOUGH),
            writes=["blog: AddField AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "it is added, and all but another travel",
            before=authors(exclude=("name",)),
            after=authors(AGE, exclude=("name",)),
            writes=["blog: AddField AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "T13: it is renamed",
            before=authors(AGE, columns=("age",), watch=("age",), condition=OLD_ENOUGH),
            after=authors(
                YEARS,
                columns=("years",),
                watch=("years",),
                condition=Source("Q(new__years__gte=18) | Q(new__years=None)"),
            ),
            writes=["blog: RenameField AlterTrigger"],
            answers="y\n",
            tells=[INSERT, DELETE],
        ),
        Case(
            "T13: its column is renamed, and it is not",
            before=authors(AGE, columns=("age",), watch=("age",), condition=OLD_ENOUGH),
            after=authors(
                'age = models.IntegerField(null=True, db_column="years")',
                columns=("age",),
                watch=("age",),
                condition=OLD_ENOUGH,
            ),
            writes=["blog: AlterField AlterTrigger"],
            tells=[INSERT, DELETE],
        ),
        Case(
            "it is renamed, and its column is not",
            before=authors(AGE, columns=("age",), condition=OLD_ENOUGH),
            after=authors(
                'years = models.IntegerField(null=True, db_column="age")',
                columns=("years",),
                condition=Source("Q(new__years__gte=18) | Q(new__years=None)"),
            ),
            writes=["blog: AlterField RenameField"],
            answers="y\n",
            tells=ALL,
        ),
        Case(
            "T3: it becomes another type",
            before=authors(AGE, condition=OLD_ENOUGH),
            after=authors(
                "age = models.TextField(null=True)",
                condition=Source('Q(new__age__gte="18") | Q(new__age=None)'),
            ),
            writes=["blog: AlterField AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "T3: it becomes another type, of which the options know nothing",
            before=authors(AGE, columns=("age",), watch=("age",)),
            after=authors("age = models.TextField(null=True)", columns=("age",), watch=("age",)),
            writes=["blog: AlterField"],
            tells=[INSERT, DELETE],
        ),
        Case(
            "T3: it becomes another type, of which the condition's SQL knows nothing",
            before=authors(AGE, condition=OLD_ENOUGH),
            after=authors("age = models.BigIntegerField(null=True)", condition=OLD_ENOUGH),
            writes=["blog: AlterField"],
            tells=ALL,
        ),
        Case(
            "T13: it goes, and is named no more",
            before=authors(AGE, columns=("name", "age"), watch=("age",), condition=OLD_ENOUGH),
            after=authors(columns=("name",)),
            writes=["blog: RemoveField AlterTrigger"],
            tells=ALL,
        ),
        Case(
            "T13: it goes, and all but another travel",
            before=authors(AGE, exclude=("name",)),
            after=authors(exclude=("name",)),
            writes=["blog: RemoveField AlterTrigger"],
            tells=ALL,
        ),
    ],
    ids=str,
)
def test_changing_a_named_field_migrates_in_any_order(project: Project, case: Case) -> None:
    """P13, P26, T1, T3, T13: in every order in which migrations may run, both ways."""
    walk(project, case)


@pytest.mark.parametrize("option", ["columns", "watch", "condition"])
def test_a_condition_that_cannot_be_planned_fails_the_migration(
    project: Project, option: str
) -> None:
    """T7: it fails the migration, which says what to do, and not every message after it."""
    project.write(
        authors(
            AGE, columns=("age",), watch=("age",), condition=Source("Q(new__age=1)"), level="row"
        )
    )
    project.run("makemigrations")
    (name,) = project.migrations()
    file = project.root / "blog/migrations" / f"{name}.py"
    fields, trigger = file.read_text().split("'columns'")
    place = "'columns'" + trigger
    before, middle, after = place.partition(f"'{option}'")
    line, rest = after.split("\n", 1)
    spoilt = line.replace('"age"', '"rage"').replace("'age'", "'rage'")
    assert spoilt != line
    file.write_text(f"{fields}{before}{middle}{spoilt}\n{rest}")
    output = project.run("migrate", code=1)
    assert "NotReady: The trigger of channel 'blog.Authors' cannot be installed on" in output
    assert "rage does not exist" in output
    assert "looked up in pg_catalog, pg_temp" in output
    assert "let the migration that creates the column run first" in output
    assert not project.has("blog_author")


# --- Fields of another app ------------------------------------------------------------------------


@pytest.fixture(params=["aardvark", "zebra"])
def label(request: pytest.FixtureRequest) -> str:
    """An app that sorts before ``people``, and one that sorts after it."""
    return str(request.param)


def across(label: str) -> list[Case]:
    """Return the cases of fields in ``people`` that a channel of the app *label* names."""

    def version(*fields: str, **options: object) -> Files:
        return people(model("Author", *fields)) | watcher(
            label, "people.Author", *EVENTS, **options
        )

    insert, update, delete = (f"{label}.Authors {event.upper()}" for event in EVENTS)
    common = {"table": "people_author", "was": "people_author", "apps": (label, "people")}
    # Between a field's migration and ours rows travel whole and unasked: stale, but never lost.
    return [
        Case(
            "one is added, and named",
            before=version(),
            after=version(AGE, columns=("age",), watch=("age",)),
            writes=["people: AddField", f"{label}: AlterTrigger"],
            tells=[insert, delete],
            **common,
        ),
        Case(
            "one is renamed",
            before=version(AGE, columns=("age",), watch=("age",)),
            after=version(YEARS, columns=("years",), watch=("years",)),
            writes=["people: RenameField", f"{label}: AlterTrigger"],
            answers="y\n",
            tells=[insert, delete],
            meanwhile=[update],
            **common,
        ),
        Case(
            "the column of one is renamed",
            before=version(AGE, columns=("age",), condition=OLD_ENOUGH),
            after=version(
                'age = models.IntegerField(null=True, db_column="years")',
                columns=("age",),
                condition=OLD_ENOUGH,
            ),
            writes=["people: AlterField", f"{label}: AlterTrigger"],
            tells=[insert, update, delete],
            **common,
        ),
        Case(
            "one becomes another type",
            before=version(AGE, condition=OLD_ENOUGH),
            after=version(
                "age = models.TextField(null=True)",
                condition=Source('Q(new__age__gte="18") | Q(new__age=None)'),
            ),
            writes=["people: AlterField", f"{label}: AlterTrigger"],
            tells=[insert, update, delete],
            **common,
        ),
        Case(
            "one goes, and with it what names it",
            before=version(AGE, watch=("age",)),
            after=people(model("Author")) | watcher(label, None),
            writes=[f"{label}: RemoveTrigger", "people: RemoveField"],
            tells=[],
            **common,
        ),
        Case(
            "one goes, and another is named instead",
            before=version(AGE, watch=("age",)),
            after=version("born = models.DateField(null=True)", watch=("born",)),
            writes=["people: RemoveField AddField", f"{label}: AlterTrigger"],
            answers="n\n",
            tells=[insert, delete],
            meanwhile=[update],
            **common,
        ),
        Case(
            "one goes before a channel that names it, one comes before a channel that names it",
            before=version(AGE, watch=("age",)),
            after=people(model("Author", "born = models.DateField(null=True)"))
            | watcher(label, "people.Author", *EVENTS, channel_name="later", watch=("born",)),
            writes=[
                f"{label}: RemoveTrigger",
                "people: RemoveField AddField",
                f"{label}: AddTrigger",
            ],
            answers="n\n",
            tells=["later INSERT", "later DELETE"],
            **common,
        ),
    ]


@pytest.mark.parametrize("number", range(len(across(""))), ids=[str(case) for case in across("")])
def test_a_named_field_of_another_app_is_migrated_in_order(
    project: Project, label: str, number: int
) -> None:
    """P24, T13: one run writes what goes before a field does, and what comes after one has come."""
    walk(project, across(label)[number])
