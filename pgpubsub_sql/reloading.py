"""Modules that are loaded again: what they declared before is then a thing of the past."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

_MAIN = ("__main__", "__mp_main__")
"""A script, which may be imported besides, by another name."""


def loading() -> ModuleSpec | None:
    """Return the spec of the module that is being loaded by whoever calls, if one is."""
    frame = sys._getframe(1)
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    names = frame.f_globals
    spec = names.get("__spec__") if names.get("__name__") not in _MAIN else None
    return spec if isinstance(spec, ModuleSpec) else None


def is_outdated(spec: ModuleSpec | None) -> bool:
    """Whether the module of *spec* was loaded again since; Python gives it a new one then."""
    module = sys.modules.get(spec.name) if spec else None
    return module is not None and module.__spec__ is not spec
