"""What belongs to the cluster itself: folded into a document, and back into what a node's own Snapshot has. Pure.

NodeTopology as existing readers know it (`value|n1,n2,…`) names every node again and again. In a FleetSnapshot taints
and labels are sets of nodes like all others, and a value that is the node's own name is `${node}`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from aggregator.ledger import Expected
from aggregator.names import NodeNames, ledger_nodes, unfold_names
from common.canonical import NAMING, Domain, content_digest, encode
from common.collection import collection_lines
from common.fleet import ClusterFacts, FleetSnapshot, FoldedSubtype, NodeLabel, NodeTaint
from common.model import (
    Collected,
    CollectionEntry,
    MeasurementType,
    Ok,
    State,
    Subtype,
    in_order,
)
from common.section import comparable, restored
from common.stability import NODE_PLACEHOLDER
from common.topology import SUBTYPES, LabelId, TaintId, encode_labels, encode_taints, is_volatile, summary_of

KUBERNETES: Final = "kubernetes"
TOPOLOGY: Final = "topology"
MOST_LABEL_VALUES: Final = 256
"""Values of one label beyond which it is set aside as scattered."""

_TOPOLOGY: Final = MeasurementType.NODE_TOPOLOGY


class Read(NamedTuple):
    """What is known of the cluster when a run ends. None: nobody asked for it."""

    kubernetes: Collected | None
    nodes: Sequence[Expected] | None
    """Those of the document."""


def fold_cluster(read: Read, names: NodeNames, most_values: int = MOST_LABEL_VALUES) -> ClusterFacts:
    """The cluster's part of a document."""
    lines: list[CollectionEntry] = []
    subtypes: list[tuple[MeasurementType, Subtype]] = []
    if read.kubernetes is not None:
        lines += collection_lines(KUBERNETES, MeasurementType.K8S, read.kubernetes)
        subtypes += [
            (MeasurementType.K8S, Subtype(name, outcome.data, outcome.context))
            for name, outcome in read.kubernetes.subtypes.items()
            if isinstance(outcome, Ok)
        ]
    taints: list[NodeTaint] = []
    labels: list[NodeLabel] = []
    scattered: list[str] = []
    if read.nodes is not None:
        tainted, labelled, distinct = _gathered(read.nodes)
        values = defaultdict(list)
        for label in sorted(labelled):
            values[label.key].append(label)
        scattered = [key for key, found in values.items() if len(found) > most_values]
        everybody = len(names.names)
        taints = [
            NodeTaint(taint.key, taint.effect, len(nodes), taint.value, _set(nodes, names, everybody))
            for taint, nodes in sorted(tainted.items())
        ]
        labels = [
            NodeLabel(*label, len(labelled[label]), _set(labelled[label], names, everybody))
            for label in chain.from_iterable(values.values())
            if len(values[label.key]) <= most_values
        ]
        lines.append(CollectionEntry(TOPOLOGY, _TOPOLOGY, State.OK, subtypes=tuple(sorted(SUBTYPES))))
        counts = summary_of(len(read.nodes), tainted, distinct)
        subtypes.append((_TOPOLOGY, Subtype("summary", counts)))
    part = ClusterFacts("", lines, in_order(subtypes), taints, labels, scattered)
    return replace(part, id=_id_of(part, names if read.nodes is not None else NodeNames(())))


def _gathered(
    nodes: Iterable[Expected],
) -> tuple[dict[TaintId, list[str]], dict[LabelId, list[str]], set[LabelId]]:
    """Who has each taint and label, without those that come and go by themselves; and all labels as on the nodes."""
    taints: dict[TaintId, list[str]] = defaultdict(list)
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in nodes:
        for item in node.labels.items():
            found[item].append(node.node)
        for taint in dict.fromkeys(node.taints):
            taints[taint].append(node.node)
    stable = {LabelId(*item): held for item, held in found.items() if not is_volatile("label", item[0])}
    labels: dict[LabelId, list[str]] = defaultdict(list)
    for (key, value), held in stable.items():
        if value in held:
            labels[LabelId(key, NODE_PLACEHOLDER)].append(value)
        if others := [node for node in held if node != value]:
            labels[LabelId(key, str(comparable(value, "")))].extend(others)
    stable_taints = {taint: held for taint, held in taints.items() if not is_volatile("taint", taint.key)}
    return stable_taints, labels, set(stable)


def _set(nodes: Sequence[str], names: NodeNames, everybody: int) -> str:
    return "" if len(nodes) == everybody else names.fold(nodes)


def _id_of(part: ClusterFacts, names: NodeNames) -> str:
    """Whose taints and labels they are is part of it, the text about subtypes is none."""
    facts = [(m.type, s.subtype, s.data) for m in part.measurements for s in m.subtypes]
    content = [facts, part.collection, part.taints, part.labels, part.scattered, names.names]
    return content_digest(Domain.CLUSTER, encode(content), NAMING).hex()[:12]


class Unfolded(NamedTuple):
    """The cluster's part as a node's own Snapshot has it."""

    lines: list[CollectionEntry]
    subtypes: list[tuple[MeasurementType, Subtype]]


def unfold_cluster(
    document: FleetSnapshot, kinds: Iterable[MeasurementType] = MeasurementType, most_nodes: int = 0
) -> Unfolded:
    """Of these measurement types, with at most so many nodes named in one entry (0: all).

    Labels that the document names as scattered are named as left out.
    """
    part = document.cluster
    if part is UNSET:
        return Unfolded([], [])
    wanted = set(kinds)
    subtypes = [(m.type, subtype) for m in part.measurements if m.type in wanted for subtype in m.subtypes]
    if _TOPOLOGY in wanted and any(line.type is _TOPOLOGY for line in part.collection):
        subtypes += [(_TOPOLOGY, subtype) for subtype in _topology(document, part, most_nodes)]
    return Unfolded([line for line in part.collection if line.type in wanted], subtypes)


def _topology(document: FleetSnapshot, part: ClusterFacts, most_nodes: int) -> list[Subtype]:
    def nodes_of(entry: NodeTaint | NodeLabel) -> list[str]:
        return unfold_names(entry.nodes, document.node_table) if entry.nodes else everybody

    everybody = sorted(ledger_nodes(document))
    taints = {TaintId(taint.key, taint.effect, taint.value): nodes_of(taint) for taint in part.taints}
    labels: dict[LabelId, list[str]] = defaultdict(list)
    for label in part.labels:
        for node in nodes_of(label):
            labels[LabelId(label.key, str(restored(label.value, node)))].append(node)
    left_out = f"labels with more than {MOST_LABEL_VALUES} values: {', '.join(part.scattered)}"
    return [
        Subtype("label", encode_labels(labels, most_nodes), {"left-out": left_out} if part.scattered else {}),
        Subtype("taint", encode_taints(taints, most_nodes)),
    ]


def with_node(lines: Sequence[CollectionEntry], node_is_known: bool) -> list[CollectionEntry]:
    """The cluster's lines of `collection:` on a node whose K8s.node is known, or not."""
    if not node_is_known:
        return list(lines)
    mine = next((line for line in lines if line.collector == KUBERNETES and not line.subtype), None)
    if mine is None:
        return [CollectionEntry(KUBERNETES, MeasurementType.K8S, State.OK, subtypes=("node",)), *lines]
    # Where everything else failed, each for its own reason, there is something now.
    state = State.PARTIAL if mine.state is State.FAILED and mine.code is None else mine.state
    merged = replace(mine, state=state, subtypes=tuple(sorted({*mine.subtypes, "node"})))
    return [merged if line is mine else line for line in lines]


def cluster_subtypes(
    document: FleetSnapshot, kinds: Iterable[MeasurementType]
) -> Iterator[tuple[MeasurementType, FoldedSubtype]]:
    """The cluster's facts as if every node had them: what a question about a fact sees."""
    for kind, subtype in unfold_cluster(document, kinds).subtypes:
        data = {key: comparable(value, "") for key, value in subtype.data.items()}
        yield kind, FoldedSubtype(subtype.subtype, document.summary.folded, data=data)
