from __future__ import annotations

from tests.migrations.conftest import commands, new_project, project

__all__ = ["commands", "new_project", "project"]
