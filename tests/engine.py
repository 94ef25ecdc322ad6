"""An engine that keeps a pool for each alias, and takes settings that the driver does not know."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Lends and takes back; ``MAX_CONNS`` connections of an alias are all that there are."""

    pools: ClassVar[dict[str, list[Any]]] = {}
    lent: ClassVar[dict[str, int]] = {}

    searched = ""
    """Where it has had the session look, so that it need not do so twice."""

    def close(self) -> None:
        self.searched = ""
        super().close()

    def close_pool(self) -> None:
        raise KeyError(self.alias)  # as Django's does where the pool is an engine's own

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        allowed, alias = conn_params.pop("MAX_CONNS"), self.alias
        pool = self.pools.setdefault(alias, [])
        if not pool:
            assert self.lent.get(alias, 0) < allowed, f"all connections of {alias} are lent"
            pool.append(super().get_new_connection(conn_params))
        self.lent[alias] = self.lent.get(alias, 0) + 1
        return pool.pop()

    def _close(self) -> None:
        if self.connection is not None:
            self.pools[self.alias].append(self.connection)
            self.lent[self.alias] -= 1
