"""A FleetSnapshot from a run's ledger and the folded facts. Pure."""

from collections import Counter
from collections.abc import Sequence

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from aggregator.fold import Folded
from aggregator.fold_subtype import SubtypeFold
from aggregator.ledger import Entry, fold_ledger
from aggregator.names import NodeNames
from aggregator.outliers import outliers
from aggregator.unread import Unread
from aggregator.vocabulary import Vocabulary, agent_lines
from common.fleet import ClusterFacts, FleetMetadata, FleetSnapshot, Summary


def fleet_snapshot(
    metadata: FleetMetadata,
    entries: Sequence[Entry],
    folded: Folded,
    names: NodeNames,
    cluster: ClusterFacts | UnsetType = UNSET,
) -> FleetSnapshot:
    """The document of one run. `folded` holds the facts known of each node, fresh or last known."""
    versions = {entry.node: entry.version for entry in entries}
    spoken = [frozenset(versions.get(node, "") for node in nodes) for nodes in folded.members]
    nodes = sum(group.count for group in folded.groups)
    document = FleetSnapshot(
        metadata=metadata,
        summary=Summary(
            expected=len(entries),
            folded=nodes,
            states={state.value: count for state, count in sorted(Counter(e.state for e in entries).items())},
            groups=len(folded.groups),
            outliers=0,
            facts=sum(map(_facts, folded.subtypes.values())),
            differing=sum(_differing(subtype, nodes) for subtype in folded.subtypes.values()),
            scattered=sum(len(subtype.scattered) for subtype in folded.subtypes.values()),
        ),
        ledger=fold_ledger(entries, names),
        agents=agent_lines({node: versions.get(node, "") for nodes in folded.members for node in nodes}, names),
        groups=folded.groups,
        outliers=[],
        collection=folded.collection,
        measurements=folded.measurements,
        cluster=cluster,
        node_table=names.table,
    )
    odd = outliers(folded, Unread(document), Vocabulary(folded.measurements, spoken))
    return replace(document, summary=replace(document.summary, outliers=len(odd)), outliers=odd)


def _differing(subtype: SubtypeFold, nodes: int) -> int:
    """Facts that some of so many nodes have otherwise, or not at all."""
    return len(subtype.keys) + (len(subtype.common) if subtype.count < nodes else 0)


def _facts(subtype: SubtypeFold) -> int:
    return len(subtype.common) + len(subtype.keys) + len(subtype.scattered)
