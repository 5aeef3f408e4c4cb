"""What the cluster says beside the agents: for runs, for their documents, and for one node's Snapshot."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from msgspec.structs import replace

from aggregator.cluster_facts import Read, Unfolded, fold_cluster, unfold_cluster, with_node
from aggregator.ledger import Expected
from aggregator.names import NodeNames
from aggregator.node_objects import SUBTYPE
from aggregator.run import Run
from common.fleet import ClusterFacts, FleetSnapshot
from common.model import Collected, MeasurementType, Scalar, Snapshot, Subtype, in_order

_HEADROOM: Final = 0.9
"""Share of a run's deadline that reading may take."""
_MOST_NODES: Final = 100
"""Nodes named in one entry of NodeTopology of a node's Snapshot, as with --max-nodes-per-entry: all labels of 5,000
nodes with all their names are 11 MB, in the Snapshot of every single node."""


class ReadCluster(Protocol):
    """Asks the API server."""

    async def __call__(self, seconds: float) -> Collected:
        """K8s without what belongs to nodes. Whatever goes wrong is an outcome, within these seconds."""


class ClusterSide:
    """One cluster's, or nothing where there is no cluster."""

    def __init__(self, expected: Callable[[], list[Expected]], read: ReadCluster | None) -> None:
        self._expected = expected
        self._read = read
        self._index: tuple[list[Expected], dict[str, Expected]] = ([], {})
        self._unfolded: tuple[FleetSnapshot, Unfolded] | None = None
        self._folded: tuple[NodeNames, object, ClusterFacts] | None = None

    async def read(self, run: Run) -> None:
        """What a run asks of it, once, however many nodes there are."""
        if self._read is not None and _asks(run, MeasurementType.K8S):
            run.cluster = await self._read(run.request.seconds * _HEADROOM)

    def known(self, run: Run) -> Read | None:
        """What is known when a run has ended. None where there is no cluster, or the run is not about it."""
        if self._read is None:
            return None
        asks_topology = _asks(run, MeasurementType.NODE_TOPOLOGY)
        if run.cluster is None and not asks_topology:
            return None
        return Read(run.cluster, self._asked(run) if asks_topology else None)

    def folded(self, read: Read, names: NodeNames) -> ClusterFacts:
        """A document's part. Where the last one was about the same it still holds: labels fold slowly.

        Called by one thread at a time.
        """
        nodes = None if read.nodes is None else [(node.node, node.labels, node.taints) for node in read.nodes]
        last, about = self._folded, (read.kubernetes, nodes)
        if last is None or last[0] is not names or last[1] != about:
            last = self._folded = (names, about, fold_cluster(read, names))
        return last[2]

    def nodes(self, run: Run) -> Mapping[str, Mapping[str, Scalar]]:
        """K8s.node of each node of a run that asks for it."""
        if self._read is None or not _asks(run, MeasurementType.K8S):
            return {}
        return {node.node: node.facts for node in self._asked(run)}

    def node(self, name: str) -> Mapping[str, Scalar]:
        """K8s.node as it is now; empty where nothing is known of it."""
        told = self._now().get(name) if self._read is not None else None
        return told.facts if told is not None else {}

    def complete(self, snapshot: Snapshot, last: FleetSnapshot | None) -> Snapshot:
        """A node's Snapshot with what its agent cannot know: K8s.node, and the cluster as in the document given."""
        told = self.node(snapshot.metadata.source_node)
        lines, subtypes = self._unfold(last) if last is not None else Unfolded([], [])
        if not told and not lines:
            return snapshot
        mine: list[tuple[MeasurementType, Subtype]] = [(m.type, s) for m in snapshot.measurements for s in m.subtypes]
        if told:
            mine.append((MeasurementType.K8S, Subtype(SUBTYPE, dict(told))))
        collection = [*snapshot.collection, *with_node(lines, node_is_known=bool(told))]
        return replace(snapshot, collection=collection, measurements=in_order([*mine, *subtypes]))

    def _asked(self, run: Run) -> list[Expected]:
        """A run's nodes as the cluster says now. One that was removed meanwhile has not changed: it is as it was."""
        now = self._now()
        return [now.get(node.node, node) for node in run.expected]

    def _now(self) -> dict[str, Expected]:
        expected = self._expected()
        if self._index[0] is not expected:
            self._index = expected, {node.node: node for node in expected}
        return self._index[1]

    def _unfold(self, document: FleetSnapshot) -> Unfolded:
        """Made once for each document: it names every node many times."""
        if self._unfolded is None or self._unfolded[0] is not document:
            self._unfolded = document, unfold_cluster(document, most_nodes=_MOST_NODES)
        return self._unfolded[1]


def _asks(run: Run, kind: MeasurementType) -> bool:
    return not run.request.sections or kind in run.request.sections
