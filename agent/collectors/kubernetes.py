"""K8s: server version, this node, images of all pods, ClusterPolicies. Source: the Kubernetes API."""

from typing import TYPE_CHECKING

from agent.cluster import ClusterAccess, Reader
from agent.collectors.base import Context
from common.errors import Code, EidosError
from common.kube import images
from common.kube.facts import node_facts, read_server
from common.kube.images import read_images
from common.kube.policies import read_policies
from common.model import Absent, Collected, MeasurementType, Ok, Outcome

if TYPE_CHECKING:
    from common.kube.client import Kube


class KubernetesCollector:
    """Asks the API server; every subtype succeeds or fails by itself."""

    name = "kubernetes"
    type = MeasurementType.K8S

    def __init__(self, cluster: ClusterAccess) -> None:
        self._cluster = cluster

    def collect(self, ctx: Context) -> Collected:
        return self._cluster.collect(
            ctx,
            [
                Reader(["server"], lambda kube, ctx: read_server(kube)),
                Reader(["node"], _read_node),
                Reader(images.SUBTYPES, lambda kube, ctx: read_images(kube)),
                Reader(["policy"], lambda kube, ctx: read_policies(kube)),
            ],
        )


async def _read_node(kube: "Kube", ctx: Context) -> dict[str, Outcome]:
    from common.kube.call import path_of
    from common.kube.types import Node

    try:
        node = await kube.get(path_of("v1", "nodes", "", ctx.node), Node)
    except EidosError as error:
        if error.code is not Code.CLUSTER_NOT_FOUND:
            raise
        return {"node": Absent(f"the cluster has no node {ctx.node}")}
    return {"node": Ok(node_facts(node.metadata.name, node.spec.provider_id, node.status.node_info))}
