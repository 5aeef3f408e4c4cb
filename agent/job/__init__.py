"""Deploys the one-shot snapshot Job into a cluster, waits for it, fetches its snapshot and cleans up.

Runs on the user's machine, not on the node. Speaks to Kubernetes through common.kube only.

    async with Kube(load_target()) as kube:
        deployer = Deployer(kube, Config(node_selector={"nvidia.com/gpu.present": "true"}))
        await deployer.deploy()
        await deployer.wait_for_completion(seconds=300)
        snapshot = await deployer.get_snapshot()
        await deployer.cleanup(CleanupOptions(enabled=True))
"""

from agent.job.config import CleanupOptions, Config, Toleration
from agent.job.deployer import Deployer
from common.kube.permissions import PermissionCheck

__all__ = ["CleanupOptions", "Config", "Deployer", "PermissionCheck", "Toleration"]
