"""A FleetSnapshot from a run's ledger and the nodes' facts. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from aggregator.fold import Contents, NodeFacts, fold
from aggregator.fold_subtype import SubtypeFold
from aggregator.ledger import Entry, fold_ledger
from aggregator.names import NodeNames
from aggregator.outliers import outliers
from common.fleet import FleetMetadata, FleetSnapshot, Summary


def fleet_snapshot(
    metadata: FleetMetadata,
    entries: Sequence[Entry],
    nodes: Mapping[str, NodeFacts],
    contents: Contents,
    names: NodeNames,
) -> FleetSnapshot:
    """The document of one run. `nodes` holds the facts known of each node, fresh or last known."""
    folded = fold(nodes, contents, names)
    odd = outliers(folded)
    return FleetSnapshot(
        metadata=metadata,
        summary=Summary(
            expected=len(entries),
            folded=len(nodes),
            states={state.value: count for state, count in sorted(Counter(e.state for e in entries).items())},
            groups=len(folded.groups),
            outliers=len(odd),
            facts=sum(map(_facts, folded.subtypes.values())),
            differing=sum(len(subtype.keys) for subtype in folded.subtypes.values()),
            scattered=sum(len(subtype.scattered) for subtype in folded.subtypes.values()),
        ),
        ledger=fold_ledger(entries, names),
        groups=folded.groups,
        outliers=odd,
        collection=folded.collection,
        measurements=folded.measurements,
        node_table=names.table,
    )


def _facts(subtype: SubtypeFold) -> int:
    return len(subtype.common) + len(subtype.keys) + len(subtype.scattered)
