"""Channels declared in a way that cannot work: no command runs until that is corrected."""

from __future__ import annotations

import pytest

from tests.migrations.harness import Project
from tests.migrations.versions import blog, channel, model, on

LONG = "n" * 70
TWINS = """
class One(pgpubsub_sql.Channel): ...

class Two(pgpubsub_sql.Channel):
    channel_name = "blog.One"

"""
UNDECORATED = """
class Sale(pgpubsub_sql.Channel):
    number: int

"""
SALES = """
@pgpubsub_sql.listener("blog.Sale")
def sell(number): ...

"""
MISSPELLED = """
from dataclasses import dataclass

@dataclass
class Sale(pgpubsub_sql.Channel):
    number: int

"""


@pytest.mark.parametrize(
    ("channels", "listeners", "words"),
    [
        (TWINS, "", ["E002", "blog.channels.One, blog.channels.Two", "a different channel_name"]),
        (UNDECORATED, SALES, ["E001", "'number' is annotated in Sale", "Sale with @dataclass"]),
        (
            channel(model="shop.Order"),
            on("insert"),
            ["E003", "blog.channels.Authors has no model", "'shop'", "of an installed app"],
        ),
        (
            MISSPELLED,
            SALES.replace("blog.Sale", "blog.Sael"),
            [
                "E004",
                "blog.listeners.sell listens to a channel that is not declared.",
                "Did you mean 'blog.Sale'?",
            ],
        ),
        (
            MISSPELLED,
            SALES.replace("(number)", "(amount)"),
            ["E005", "blog.listeners.sell cannot be called", "no field 'amount'", "passes number"],
        ),
    ],
    ids=["one name twice", "no dataclass", "no such model", "no such channel", "no such field"],
)
def test_every_command_fails_with_the_check_that_explains_it(
    project: Project, channels: str, listeners: str, words: list[str]
) -> None:
    project.write(blog(models=model(), channels=channels, listeners=listeners))
    for command in ("makemigrations", "migrate", "listen", "pgpubsub install"):
        said = project.run(*command.split(), code=1)
        assert "SystemCheckError" in said, said
        for word in words:
            assert word in said


def test_a_name_of_more_than_63_bytes_is_shortened_everywhere_alike(project: Project) -> None:
    """It is cut, and ends in a digest; the full name still finds the channel."""
    tasks = MISSPELLED.replace("    number: int", "    number: int\n    channel_name = 'w' * 70")
    project.write(
        blog(
            models=model(),
            channels=channel(channel_name=LONG) + tasks + "    lock_notifications = True\n",
            listeners=on("insert") + SALES.replace("blog.Sale", "blog.channels.Sale"),
        )
    )
    project.run("makemigrations")
    project.run("migrate")
    project.run("shell", "-c", "import pgpubsub_sql; pgpubsub_sql.notify('w' * 70, number=1)")
    (inserted, sent) = project.told("INSERT INTO blog_author (name) VALUES ('x')")[::-1]
    assert sent == ("w" * 52 + "_" + sent[0][-10:], None)
    assert inserted == ("n" * 52 + "_" + inserted[0][-10:], "INSERT")
    assert "agree" in project.run("pgpubsub", "verify")
    assert inserted[0] in project.run("pgpubsub", "ls", LONG)
    project.run("listen", "--drain", "--worker", "--channels", LONG)
