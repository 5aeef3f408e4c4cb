"""NodeTopology: labels and taints of all nodes of the cluster, and who has them. Source: the Node API."""

from typing import TYPE_CHECKING

from agent.cluster import ClusterAccess, Reader
from agent.collectors.base import Context
from common.model import Collected, MeasurementType, Outcome
from common.topology import SUBTYPES, TaintId, Topology

if TYPE_CHECKING:
    from common.kube.client import Kube
    from common.kube.types import LabelledNode


class TopologyCollector:
    """Lists the nodes."""

    name = "topology"
    type = MeasurementType.NODE_TOPOLOGY

    def __init__(self, cluster: ClusterAccess) -> None:
        self._cluster = cluster

    def collect(self, ctx: Context) -> Collected:
        return self._cluster.collect(ctx, [Reader(SUBTYPES, _read_nodes)])


async def _read_nodes(kube: "Kube", ctx: Context) -> dict[str, Outcome]:
    from common.kube.call import path_of
    from common.kube.types import LabelledNode

    topology, _ = await kube.fold(path_of("v1", "nodes"), LabelledNode, Topology, _add)
    return topology.outcomes(ctx.options.max_nodes_per_entry)


def _add(topology: Topology, node: "LabelledNode") -> None:
    taints = (TaintId(taint.key, taint.effect, taint.value) for taint in node.spec.taints)
    topology.add(node.metadata.name, node.metadata.labels, taints)
