"""A run over a fleet that has just been installed, as the last step of what the installation's progress shows."""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from cli.install_progress import Progress
from common.errors import Code, FleetError
from common.fleet_api import Progress as RunProgress
from common.fleet_api import RunBody

if TYPE_CHECKING:
    from cli.fleet_client import FleetClient
    from common.fleet import FleetSnapshot

_SERVED_WITHIN: Final = 15.0
_AGAIN_AFTER: Final = 0.5
_NOT_SERVED: Final = frozenset((Code.FLEET_NOT_FOUND, Code.FLEET_UNREACHABLE))


async def take_through_cluster(flags: dict[str, Any], progress: Progress, body: RunBody) -> "FleetSnapshot":
    """Ask every node through the cluster's own API. Raises EidosError."""
    from cli.fleet_client import connected
    from cli.fleet_transport import ClusterConnection
    from installer.workflow import Phase

    def hear(run: RunProgress) -> None:
        if run.expected:
            progress.detail(f"{run.answered}/{run.expected} nodes answered")

    progress.phase(Phase.FIRST_RUN)
    async with connected(ClusterConnection(flags["kubeconfig"], flags["context"])) as client:
        document = await take_once_served(client, body, hear)
    progress.finish()
    return document


async def take_once_served(
    client: "FleetClient", body: RunBody, hear: Callable[[RunProgress], None]
) -> "FleetSnapshot":
    """A run through an API server that may not have heard yet that the fleet is served, though another has.

    Raises EidosError.
    """
    from cli.fleet_run import take_quietly

    until = time.monotonic() + _SERVED_WITHIN
    while True:
        try:
            return (await take_quietly(client, body, hear))[0]
        except FleetError as error:
            if error.code not in _NOT_SERVED or time.monotonic() > until:
                raise
        await asyncio.sleep(_AGAIN_AFTER)
