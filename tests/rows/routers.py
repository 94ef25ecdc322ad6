from typing import Any


class AtHome:
    """Models of this app are made in the default database alone.

    Wherever one may be, a check of Django's asks the server about generated columns.
    """

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == "default" if app_label == "rows" else None
