"""A run over a fleet that has just been installed, as the last step of what the installation's progress shows."""

from typing import TYPE_CHECKING, Any

from cli.install_progress import Progress
from common.fleet_api import Progress as RunProgress
from common.fleet_api import RunBody

if TYPE_CHECKING:
    from common.fleet import FleetSnapshot


async def take_through_cluster(flags: dict[str, Any], progress: Progress, body: RunBody) -> "FleetSnapshot":
    """Ask every node through the cluster's own API. Raises EidosError."""
    from cli.fleet_client import connected
    from cli.fleet_run import take_quietly
    from cli.fleet_transport import ClusterConnection
    from installer.workflow import Phase

    def hear(run: RunProgress) -> None:
        if run.expected:
            progress.detail(f"{run.answered}/{run.expected} nodes answered")

    progress.phase(Phase.FIRST_RUN)
    async with connected(ClusterConnection(flags["kubeconfig"], flags["context"])) as client:
        document, _ = await take_quietly(client, body, hear)
    progress.finish()
    return document
