"""The channels that an audit knows, by name: for commands and the admin, which show them so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pgpubsub_sql.migrations_ops.audit import Audit
from pgpubsub_sql.migrations_ops.problems import InstallState
from pgpubsub_sql.migrations_ops.recorded_triggers import Key
from pgpubsub_sql.sql.catalogue import InstalledFunction
from pgpubsub_sql.sql.trigger import Trigger


def expected_keys(found: Audit) -> dict[str, Key]:
    """Return the channels whose triggers should be installed, by name."""
    return {key[1]: key for key in sorted(found.expected)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnownChannels:
    """What an audit has found, by the name of the channel."""

    found: Audit
    keys: Mapping[str, Key]
    """Channels whose triggers should be installed."""
    triggers: Mapping[str, Trigger]
    """Triggers that are declared or should be installed."""
    installed: Mapping[str, InstalledFunction]
    """What is installed in this schema, including what belongs to another project."""

    @classmethod
    def of(cls, found: Audit) -> KnownChannels:
        """Return what *found* has."""
        here = [one for one in found.functions.values() if one.is_current]
        return cls(
            found=found,
            keys=expected_keys(found),
            triggers={key[1]: one for key, one in (found.declared | found.expected).items()},
            installed={one.channel or one.name: one for one in here} | dict(found.owned),
        )

    def function_of(self, name: str) -> InstalledFunction | None:
        """Return the function that is installed for a channel, or has the name of its function."""
        trigger = self.triggers.get(name)
        return self.found.functions.get(trigger.function) if trigger else self.installed.get(name)

    def state_of(self, name: str) -> InstallState | None:
        """Return the state of a channel's installation; None if it has nothing to install."""
        if key := self.keys.get(name):
            return self.found.state_of(key)
        if name in self.found.owned:
            return InstallState.LEFTOVER
        if name in self.triggers:
            return InstallState.MISSING  # its migration has not run
        return InstallState.FOREIGN if self.function_of(name) else None
