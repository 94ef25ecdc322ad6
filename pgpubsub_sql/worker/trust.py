"""Trust: which messages are believed to have changed no setting of the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgpubsub_sql.sql import query
from pgpubsub_sql.worker.baseline import Baseline


class Trust:
    """Spares a batch the SETs that restore the session, after messages that need none.

    These SETs take more than half the time of an INSERT. A message that has executed nothing but
    plain queries can have changed a setting only by a trigger or a rule, so it is believed to have
    changed none. The server is asked whether that was right at the end of the batch, and before
    settings are restored or may be changed otherwise, which would hide it. From then on, nobody in
    this batch is trusted; if it was wrong, nobody on this connection.
    """

    def __init__(self, baseline: Baseline, execute: Callable[[str, Any], list[Any]]) -> None:
        self.is_given = False
        """Whether a message was trusted, and the server has not been asked yet."""
        self._baseline = baseline
        self._execute = execute
        self._may_be_given = baseline.trusts

    def give(self) -> bool:
        """Trust the message that ends, which was plain; return whether that is possible."""
        self.is_given = self._may_be_given
        return self.is_given

    def verify(self) -> tuple[str, list[str]]:
        """Return the id of the current transaction, and the settings that have been changed."""
        names = self._baseline.unreported if self.is_given else []
        ((current, values),) = self._execute(query("current_state"), {"names": names})
        changed = self._baseline.changed(values) if names else []
        self._baseline.trusts = self._baseline.trusts and not changed
        self.is_given = self._may_be_given = False
        return current, changed
