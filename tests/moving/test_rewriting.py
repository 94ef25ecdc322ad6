"""``python -m pgpubsub_sql.moving``: source that used django-pgpubsub."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("libcst")

from pgpubsub_sql.moving.__main__ import main
from pgpubsub_sql.moving.fields import fields_of
from pgpubsub_sql.moving.rewriting import rewrite
from tests.conftest import ROOT


def rewritten(source: str) -> str:
    changed, left = rewrite(textwrap.dedent(source).encode())
    assert left == []
    return changed.decode()


def left_of(source: str) -> list[str]:
    _, left = rewrite(textwrap.dedent(source).encode())
    return [f"{line}: {text}" for line, text in left]


SUBMODULES = {
    "pgpubsub": "Channel, TriggerChannel, notify, listener, set_notification_context",
    "pgpubsub.channel": "Channel, TriggerChannel, set_notification_context",
    "pgpubsub.listeners": "listener, pre_save_listener as pre, ListenerFilterProvider",
    "pgpubsub.notify": "notify, process_stored_notifications",
    "pgpubsub.models": "Notification",
}


@pytest.mark.parametrize("module", SUBMODULES)
def test_names_are_imported_from_the_package(module: str) -> None:
    """M13: the guide's table lacked most of them."""
    names = SUBMODULES[module]
    assert rewritten(f"from {module} import {names}\n") == f"from pgpubsub_sql import {names}\n"


def test_every_name_of_theirs_is_known() -> None:
    """M13: also those that a release of theirs would add."""
    from pgpubsub_sql.moving.names import COUNTERPARTS

    theirs = pytest.importorskip("pgpubsub.notify")
    package = sys.modules[theirs.__package__]
    public = [name for name in vars(package) if name.islower() and "_listener" in name]
    assert public
    assert {f"pgpubsub.{name}" for name in public} <= COUNTERPARTS.keys()


def test_layout_and_comments_stay() -> None:
    source = """\
        # The channels.
        from pgpubsub.channel import (  # both kinds
            Channel,
            TriggerChannel,  # rows
        )


        class  Odd ( Channel ) : pass
    """
    expected = source.replace("pgpubsub.channel", "pgpubsub_sql")
    assert rewritten(source) == textwrap.dedent(expected)


def test_uses_of_modules_are_renamed() -> None:
    source = """\
        import os, pgpubsub
        import pgpubsub.listeners
        import pgpubsub as ps

        @pgpubsub.post_insert_listener(Authors)
        @pgpubsub.listeners.listener(Reads)
        @ps.listener(Reads)
        def welcome(new):
            pgpubsub.notify(Reads, id=1)
            mock.patch.object(pgpubsub, "notify")
    """
    expected = """\
        import os, pgpubsub_sql
        import pgpubsub_sql
        import pgpubsub_sql as ps

        @pgpubsub_sql.post_insert_listener(Authors)
        @pgpubsub_sql.listener(Reads)
        @ps.listener(Reads)
        def welcome(new):
            pgpubsub_sql.notify(Reads, id=1)
            mock.patch.object(pgpubsub_sql, "notify")
    """
    assert rewritten(source) == textwrap.dedent(expected)


def test_settings_are_changed() -> None:
    """M13: logger names too."""
    source = """\
        THIRD_PARTY_APPS = ["pgtrigger", "pgpubsub"]
        INSTALLED_APPS += ('pgpubsub.apps.PgpubsubConfig',)
        LOGGING = {"loggers": {"pgpubsub": {}, "pgpubsub.listen": {"level": "INFO"}}}
        logging.getLogger("pgpubsub.listen").setLevel("ERROR")
    """
    expected = """\
        THIRD_PARTY_APPS = ["pgtrigger", "pgpubsub_sql"]
        INSTALLED_APPS += ('pgpubsub_sql',)
        LOGGING = {"loggers": {"pgpubsub_sql": {}, "pgpubsub_sql.worker": {"level": "INFO"}}}
        logging.getLogger("pgpubsub_sql.worker").setLevel("ERROR")
    """
    assert rewritten(source) == textwrap.dedent(expected)


def test_names_with_and_without_a_counterpart_are_parted() -> None:
    """M13"""
    source = b"# Why.\nfrom pgpubsub.channel import registry, Channel, ChannelNotFound  # three\n"
    changed, left = rewrite(source)
    assert changed.decode() == (
        "# Why.\n"
        "from pgpubsub.channel import registry\n"
        "from pgpubsub_sql import Channel\n"
        "from pgpubsub_sql.errors import ChannelNotFound  # three\n"
    )
    ((line, text),) = left
    assert line == 2
    assert text.startswith("pgpubsub.channel.registry has no counterpart. manage.py pgpubsub ls")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("from pgpubsub.channel import locate_channel", "1: pgpubsub.channel.locate_channel has"),
        ("from pgpubsub.listen import listen_to_channels", "pgpubsub_sql.testing"),
        ("from pgpubsub.triggers import LockableNotify", "Give events= and when="),
        ("from pgpubsub.listeners import *", "imports everything from pgpubsub.listeners"),
        ("from pgpubsub import listen", "1: pgpubsub.listen has no counterpart"),
        ("import pgpubsub.triggers as t", "1: pgpubsub.triggers has no counterpart"),
        ("import pgpubsub\npgpubsub.triggers.Notify()", "2: pgpubsub.triggers.Notify has"),
        ("import pgpubsub\npgpubsub.trigger_listener(A, trigger=t)", "2: trigger= has"),
        ("import pgpubsub\nname = A.listen_safe_name()", "2: listen_safe_name has"),
        ("import pgpubsub\none.db_version", "2: db_version has no counterpart"),
        ("patch('pgpubsub.notify.notify')", "1: The string 'pgpubsub.notify.notify' names it"),
        ("import pgpubsub\nsuper().__post_init__()", "remove super().__post_init__()"),
        (
            "from pgpubsub import Channel\nclass A(Channel):\n    def serialize(self): ...",
            "3: Nobody calls the method serialize()",
        ),
    ],
)
def test_what_has_no_counterpart_is_listed_by_its_line(source: str, named: str) -> None:
    """M8, M13: nothing said so."""
    (found,) = left_of(source)
    assert named in found


def test_a_module_that_only_looks_like_it_stays() -> None:
    source = "import pgpubsub_sql\nfrom pgpubsubs import x\nfrom . import pgpubsub\nname = 'a'\n"
    assert rewritten(source) == source


def test_a_migration_is_listed_and_never_changed(tmp_path: Path, capsys: object) -> None:
    """M6"""
    source = 'from pgpubsub import Channel\ndependencies = [("pgpubsub", "0001_initial")]\n'
    changed, left = rewrite(source.encode(), is_migration=True)
    assert changed.decode() == source
    assert [(line, "pgpubsub_sql.compat" in text) for line, text in left] == [(2, True)]


CHANNELS = b"""
import pgpubsub
class Reads(pgpubsub.Channel):
    number: int
    note: str
    share: float
"""


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ("pgpubsub.notify(Reads, number='5', note='a')", "number of Reads is int"),
        ("pgpubsub.notify(channels.Reads, number=True, share=1)", "number of Reads is int"),
        ("pgpubsub.notify('shop.channels.Reads', number=1, note=5)", "note of Reads is str"),
        ("pgpubsub.notify(Reads, number=1, note=note, share=1.5)", ""),
        ("pgpubsub.notify(Others, number='5')", ""),
    ],
)
def test_a_literal_that_is_refused_now_is_listed(call: str, field: str) -> None:
    """M11: it raised at run time only."""
    source = f"import pgpubsub\n{call}\n".encode()
    _, left = rewrite(source, fields=fields_of(CHANNELS))
    assert [line for line, _ in left] == [2] * bool(field)
    assert all(field in text for _, text in left)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "blog/channels.py": "from pgpubsub import Channel\r\n",
        "blog/broken.py": "import pgpubsub\ndef (:\n",
        "blog/tests.py": "from pgpubsub.channel import registry\n",
        "blog/other.py": "import os\n",
        "blog/reads.py": "import pgpubsub\nclass Reads(pgpubsub.Channel):\n    number: int\n",
        "blog/sends.py": "import pgpubsub\npgpubsub.notify(Reads, number='5')\n",
        ".venv/site.py": "import pgpubsub\n",
    }
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(source.encode())
    return tmp_path


def test_a_diff_is_shown_and_nothing_written(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tree.rglob("*.py")}
    assert main([str(tree)]) == 1
    output = capsys.readouterr().out
    assert "-from pgpubsub import Channel" in output
    assert "+from pgpubsub_sql import Channel" in output
    assert f"{tree}/blog/broken.py: it cannot be read as Python" in output
    assert f"{tree}/blog/tests.py:1: pgpubsub.channel.registry has no counterpart" in output
    assert f"{tree}/blog/sends.py:2: The field number of Reads is int" in output
    assert "site.py" not in output
    assert {path: path.read_bytes() for path in before} == before


def test_write_writes_the_changes_once(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tree), "--write"])
    assert (tree / "blog/channels.py").read_bytes() == b"from pgpubsub_sql import Channel\r\n"
    assert f"Changed {tree}/blog/channels.py" in capsys.readouterr().out
    assert main([str(tree / "blog/channels.py"), "--write"]) == 0
    assert capsys.readouterr().out == ""


def test_a_path_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["/nowhere"])
    assert "there is no /nowhere" in capsys.readouterr().err


def test_without_libcst_the_extra_is_named() -> None:
    program = (
        "import runpy, sys; sys.modules['libcst'] = None; "
        "runpy.run_module('pgpubsub_sql.moving', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "This needs libcst. Run: pip install 'pgpubsub-sql[moving]'\n"
