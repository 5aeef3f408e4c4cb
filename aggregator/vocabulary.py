"""Which facts are reported by agents of each version: a newer one may know more of a node, and may have dropped some.

Where a fact is missing on a node, and no node reports it whose agent is of the same version, although nodes with
agents of another version do, nobody can tell whether the node lacks it. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from aggregator.names import NodeNames, unfold_names
from aggregator.unfold import value_by_group
from aggregator.unread import NOBODY
from common.fleet import AgentLine, Differing, FleetSnapshot, FoldedMeasurement, FoldedSubtype
from common.model import MeasurementType
from common.nodeset import unfold_indexes

NO_VERSION: Final[frozenset[str]] = frozenset()


class Vocabulary:
    """Of the groups of one document; `spoken` has for each group the versions of its nodes' agents."""

    def __init__(self, measurements: Iterable[FoldedMeasurement], spoken: Sequence[frozenset[str]]) -> None:
        self.spoken = spoken
        self.is_mixed = len(NO_VERSION.union(*spoken)) > 1
        """Whether there are agents of more than one version."""
        self._subtypes = {(m.type, s.subtype): s for m in measurements for s in m.subtypes}
        self._differs: dict[tuple[MeasurementType, str], dict[str, Differing]] = {}

    @classmethod
    def of(cls, document: FleetSnapshot) -> "Vocabulary":
        """Of a document as it was published."""
        versions = version_of_nodes(document)
        groups = (unfold_names(group.nodes, document.node_table) for group in document.groups)
        return cls(document.measurements, [frozenset(versions.get(node, "") for node in nodes) for nodes in groups])

    def reporting(self, kind: MeasurementType, subtype: str, key: str = "") -> frozenset[str]:
        """The versions of the agents of all nodes that report a fact (without a key: the subtype)."""
        folded = self._subtypes.get((kind, subtype))
        if folded is None:
            return NO_VERSION
        return NO_VERSION.union(*(self.spoken[group] for group in self._having(kind, folded, key)))

    def silent(self, kind: MeasurementType, subtype: str, key: str = "") -> frozenset[int]:
        """Groups of which nobody can tell whether they lack a fact that others report."""
        reporting = self.reporting(kind, subtype, key) if self.is_mixed else NO_VERSION
        if not reporting:
            return NOBODY
        return frozenset(group for group, spoken in enumerate(self.spoken) if spoken.isdisjoint(reporting))

    def _having(self, kind: MeasurementType, folded: FoldedSubtype, key: str) -> Iterable[int]:
        having = unfold_indexes(folded.groups) if folded.groups else range(len(self.spoken))
        if not key or key in folded.data:
            return having
        place = kind, folded.subtype
        if place not in self._differs:
            self._differs[place] = {differing.key: differing for differing in folded.differs}
        differing = self._differs[place].get(key)
        return () if differing is None else (group for group, _ in value_by_group(differing, having))


def version_of_nodes(document: FleetSnapshot) -> dict[str, str]:
    """The version of the agent that collected each node's facts."""
    return {node: line.version for line in document.agents for node in _nodes(line, document)}


def _nodes(line: AgentLine, document: FleetSnapshot) -> Iterator[str]:
    for nodes in [line.nodes] if line.nodes else [group.nodes for group in document.groups]:
        yield from unfold_names(nodes, document.node_table)


def agent_lines(versions: Mapping[str, str], names: NodeNames) -> list[AgentLine]:
    """How many nodes have which version (by node), most first; who, where not all have the same."""
    nodes: dict[str, list[str]] = {}
    for node, version in versions.items():
        if version:
            nodes.setdefault(version, []).append(node)
    order = sorted(nodes, key=lambda version: (-len(nodes[version]), version))
    return [
        AgentLine(version, len(nodes[version]), names.fold(nodes[version]) if len(order) > 1 else "")
        for version in order
    ]
