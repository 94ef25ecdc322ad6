"""Our objects belong to an ordinary role."""

from __future__ import annotations

import pytest

from tests.ledger import sql
from tests.privileges.support import give_all


@pytest.fixture(autouse=True)
def roles(db: None) -> None:
    """Let everything of ours belong to an ordinary role; make a writer and one for nothing."""
    for role in ("migrator", "owner", "writer", "powerless"):
        sql(f"CREATE ROLE {role}")
    sql("ALTER SCHEMA public OWNER TO migrator")
    sql("GRANT USAGE ON SCHEMA public TO migrator, owner, writer")
    sql("GRANT CREATE ON SCHEMA public TO owner, powerless")
    give_all("migrator")
    sql("GRANT INSERT ON app_item TO writer")
