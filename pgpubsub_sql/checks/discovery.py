"""Checks of modules that nothing imports and channels without listeners: W005 and W006."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks

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
"""Modules imported from each installed app."""
_SIMILARITY = 0.8
"""Least difflib ratio at which one name looks like a misspelling of another."""


def check_discovery(**kwargs: Any) -> list[checks.CheckMessage]:
    """W005 and W006: is every channels and listeners module imported, and every channel used?"""
    return [*_misnamed_modules(), *_modules_beside_settings(), *_without_listener()]


def _misnamed_modules() -> Iterator[checks.CheckMessage]:
    for config in apps.get_app_configs():
        for file in _candidates(Path(config.path)):
            close = difflib.get_close_matches(_name(file).lower(), MODULES, 1, _SIMILARITY)
            if close and _is_overlooked(f"{config.name}.{_name(file)}", file):
                yield checks.Warning(
                    f"{file} is not imported: only channels.py and listeners.py of an installed "
                    "app are.",
                    hint=f"Rename it to {close[0]}.py, or import it in ready() of the app's "
                    "config.",
                    id="pgpubsub_sql.W005",
                )


def _modules_beside_settings() -> Iterator[checks.CheckMessage]:
    """Look in the project's own package, which people take for an app although it is none."""
    package = str(getattr(settings, "ROOT_URLCONF", None) or "").rpartition(".")[0]
    spec = find_spec(package) if package in sys.modules else None
    if apps.is_installed(package) or spec is None:
        return
    for place in spec.submodule_search_locations or ():
        for file in _candidates(Path(place)):
            name = _name(file)
            if name in MODULES and _is_overlooked(f"{package}.{name}", file):
                yield checks.Warning(
                    f"{file} is not imported: {package!r} is not an installed app.",
                    hint=f'Move it into an app, or add "{package}" to INSTALLED_APPS.',
                    id="pgpubsub_sql.W005",
                )


def _without_listener() -> Iterator[checks.CheckMessage]:
    used = {_channel_of(listener) for listener in registry.listeners()}
    for channel in declared_channels():
        if channel in used or not issubclass(channel, TriggerChannel) or channel.__subclasses__():
            continue
        with suppress(AttributeError, LookupError, ValueError):  # other checks report its model
            yield checks.Warning(
                f"{dotted_path(channel)} has no listener, so no trigger is installed and nothing "
                f"is sent when rows of {model_of(channel)._meta.label} change.",
                hint="Write a listener in the listeners.py of an installed app, or delete the "
                "channel.",
                id="pgpubsub_sql.W006",
            )


def _channel_of(listener: Listener) -> type[BaseChannel]:
    try:
        return listener.find_channel()
    except ChannelNotFound:
        return Channel  # E004


def _candidates(directory: Path) -> Iterator[Path]:
    """Yield the modules in *directory* whose first letter is that of one in MODULES."""
    with suppress(OSError):
        for path in sorted(directory.iterdir()):
            if path.name[:1].lower() in {name[0] for name in MODULES}:
                file = path / "__init__.py" if path.is_dir() else path
                if file.suffix == ".py" and file.is_file():
                    yield file


def _name(file: Path) -> str:
    return file.parent.name if file.stem == "__init__" else file.stem


def _is_overlooked(module: str, file: Path) -> bool:
    """Whether *module* mentions this package but was not imported."""
    with suppress(OSError):
        return module not in sys.modules and b"pgpubsub_sql" in file.read_bytes()
    return False
