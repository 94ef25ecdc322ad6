"""What the search for channels and listeners has passed by."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from django.apps import apps
from django.conf import settings

from pgpubsub_sql.channels import (
    BaseChannel,
    Channel,
    TriggerChannel,
    declared_channels,
    dotted_path,
    model_of,
)
from pgpubsub_sql.errors import ChannelNotFound
from pgpubsub_sql.listeners import Listener, registry

MODULES = ("channels", "listeners")
"""What is imported of each installed app."""
_ALIKE = 0.8
"""From this ratio on, of difflib's, one name looks like the other misspelled."""


class Finding(NamedTuple):
    """Something that looks like a mistake."""

    text: str
    remedy: str


def overlooked() -> Iterator[Finding]:
    """Yield the files that look like channels or listeners, and that nobody has imported."""
    for config in apps.get_app_configs():
        for file in _modules(Path(config.path)):
            close = difflib.get_close_matches(_name(file).lower(), MODULES, 1, _ALIKE)
            if close and _is_overlooked(f"{config.name}.{_name(file)}", file):
                yield Finding(
                    f"{file} is not imported: only channels.py and listeners.py of an installed "
                    "app are.",
                    f"Rename it to {close[0]}.py, or import it in ready() of the app's config.",
                )
    yield from _beside_settings()


def unheard() -> Iterator[Finding]:
    """Yield the trigger channels that nobody listens to."""
    heard = {_declared(listener) for listener in registry.listeners()}
    for channel in declared_channels():
        if channel in heard or not issubclass(channel, TriggerChannel) or channel.__subclasses__():
            continue
        with suppress(AttributeError, LookupError, ValueError):  # other checks report its model
            yield Finding(
                f"{dotted_path(channel)} has no listener, so no trigger is installed, and nobody "
                f"is told when rows of {model_of(channel)._meta.label} change.",
                "Write a listener in the listeners.py of an installed app, or delete the channel.",
            )


def _beside_settings() -> Iterator[Finding]:
    """The package of a project is no app, unless somebody has made it one."""
    package = str(getattr(settings, "ROOT_URLCONF", None) or "").rpartition(".")[0]
    spec = find_spec(package) if package in sys.modules else None
    if apps.is_installed(package) or spec is None:
        return
    for place in spec.submodule_search_locations or ():
        for file in _modules(Path(place)):
            name = _name(file)
            if name in MODULES and _is_overlooked(f"{package}.{name}", file):
                yield Finding(
                    f"{file} is not imported, as {package!r} is not an installed app.",
                    f'Move it into an app, or add "{package}" to INSTALLED_APPS.',
                )


def _modules(directory: Path) -> Iterator[Path]:
    """Yield the modules in *directory* whose names begin like those that we look for."""
    with suppress(OSError):
        for path in sorted(directory.iterdir()):
            if path.name[:1].lower() in {name[0] for name in MODULES}:
                file = path / "__init__.py" if path.is_dir() else path
                if file.suffix == ".py" and file.is_file():
                    yield file


def _name(file: Path) -> str:
    return file.parent.name if file.stem == "__init__" else file.stem


def _is_overlooked(module: str, file: Path) -> bool:
    """Whether *module* is about us and was not imported."""
    with suppress(OSError):
        return module not in sys.modules and b"pgpubsub_sql" in file.read_bytes()
    return False


def _declared(listener: Listener) -> type[BaseChannel]:
    try:
        return listener.find_channel()
    except ChannelNotFound:
        return Channel  # another check reports it
