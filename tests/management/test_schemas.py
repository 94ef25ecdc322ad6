"""``manage.py pgpubsub schema``: for those who send from elsewhere."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError

from tests.management.support import run


def test_it_describes_every_channel_on_which_others_may_send() -> None:
    """Without a database: pytest-django would refuse to connect here."""
    schema = json.loads(run("schema"))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"app.Job", "app.Shout", "app.Step", "blog.PostReads"} <= schema["properties"].keys()
    assert "app.ItemChannel" not in schema["properties"]
    assert schema["properties"]["app.Job"] == {"$ref": "#/$defs/Job"}
    assert schema["$defs"]["Job"] == {
        "type": "object",
        "properties": {
            "number": {"type": "integer"},
            "mood": {"type": "string", "default": "good"},
        },
        "required": ["number"],
    }


def test_channels_may_be_chosen() -> None:
    schema = json.loads(run("schema", "tests.app.channels.Step"))
    assert list(schema["properties"]) == ["app.Step"]


def test_typescript_types_are_printed() -> None:
    assert run("schema", "app.Job", "--typescript").splitlines() == [
        "export interface Job {",
        "  number: number;",
        "  mood?: string;",
        "}",
        "",
        "export interface Channels {",
        '  "app.Job": Job;',
        "}",
    ]


def test_nobody_sends_on_a_trigger_channel() -> None:
    with pytest.raises(CommandError, match=r"app\.ItemChannel.*only the database sends"):
        run("schema", "app.ItemChannel")


@pytest.mark.parametrize("option", ["--json", "--database=default"])
def test_it_has_no_option_that_does_nothing(option: str) -> None:
    with pytest.raises(CommandError, match=f"unrecognized arguments: {option}"):
        run("schema", option)
