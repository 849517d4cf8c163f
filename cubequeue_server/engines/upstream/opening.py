"""The pass-through of one server process, if the settings ask for one: only then is it imported."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cubequeue_server.settings.resolve import Settings
from storage.engine import Engine

if TYPE_CHECKING:
    from cubequeue_server.engines.upstream.upstream import Upstream

_log = logging.getLogger("cubequeue")


@dataclass(slots=True, frozen=True)
class OpenUpstream:
    """The pass-through, and what makes an engine of it."""

    upstream: Upstream

    def routed(self, sql: Engine) -> Engine:
        """An engine that answers with `sql` what is answered here, and relays the rest."""
        from cubequeue_server.engines.upstream.routing import UpstreamSql  # noqa: PLC0415

        return UpstreamSql(sql, self.upstream)


def open_upstream(settings: Settings) -> OpenUpstream | None:
    """The pass-through that the settings ask for. To be called in the event loop. Raises TargetError."""
    if settings.upstream is None:
        return None
    from cubequeue_server.engines.upstream.target import make_target, warnings_of  # noqa: PLC0415
    from cubequeue_server.engines.upstream.upstream import Upstream  # noqa: PLC0415

    behind = make_target(settings.upstream, has_own_users=settings.access.demands_credentials)
    for warning in warnings_of(behind):
        _log.warning("%s", warning)
    if settings.store is not None:
        _log.warning(
            "the cache is in a shared store: if that loses the marks of pre-aggregations, Cube drops their tables;"
            " CUBEQUEUE_CACHE_KEEP and CUBEQUEUE_DROP_GUARD have no effect there"
        )
    elif settings.durability == "memory" or settings.cache_durability == "memory":
        _log.warning(
            "the cache ends with this process, and with it the marks that keep Cube from dropping tables of"
            " pre-aggregations: CUBESTORE_DATA_DIR keeps it"
        )
    return OpenUpstream(Upstream(behind))
