"""What changed in the cluster from one document to the next. Pure.

Taints and labels are compared on nodes that are in both documents: a node that came or went has not changed. What
either side could not read, was not asked for, or sets aside as scattered, is no change.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET

from aggregator.drift import Change
from aggregator.names import ledger_nodes, unfold_names
from aggregator.uncollected import cluster_kinds
from common.fleet import ClusterFacts, FleetSnapshot, NodeLabel, NodeTaint
from common.fleet_api import DriftFact
from common.model import MeasurementType, Scalar, State
from common.section import restored

_Place: TypeAlias = tuple[str, str]
"""Subtype and key."""
_TOPOLOGY: Final = MeasurementType.NODE_TOPOLOGY


def cluster_drift(before: FleetSnapshot, after: FleetSnapshot) -> list[DriftFact]:
    """Facts that changed and are no node's."""
    old, new = before.cluster, after.cluster
    if old is UNSET or new is UNSET or old.id == new.id:
        return []
    if MeasurementType.K8S not in cluster_kinds(before) & cluster_kinds(after):
        return []
    old_facts, new_facts = _facts(old), _facts(new)
    changed = []
    for subtype, key in sorted(old_facts.keys() | new_facts.keys()):
        was, now = old_facts.get((subtype, key), UNSET), new_facts.get((subtype, key), UNSET)
        if (type(was), was) == (type(now), now):
            continue
        if (was is UNSET and _unread(old, subtype)) or (now is UNSET and _unread(new, subtype)):
            continue
        changed.append(DriftFact(MeasurementType.K8S, subtype, key, was, now))
    return changed


def _facts(cluster: ClusterFacts) -> dict[_Place, Scalar]:
    return {
        (subtype.subtype, key): value
        for measurement in cluster.measurements
        if measurement.type is MeasurementType.K8S
        for subtype in measurement.subtypes
        for key, value in subtype.data.items()
    }


def _unread(cluster: ClusterFacts, subtype: str) -> bool:
    return any(
        line.state is State.FAILED and (line.subtype == subtype or (not line.subtype and line.code is not None))
        for line in cluster.collection
        if line.type is MeasurementType.K8S
    )


def topology_drift(before: FleetSnapshot, after: FleetSnapshot) -> Iterator[Change]:
    """Taints and labels of nodes that changed, those of most nodes first."""
    old, new = before.cluster, after.cluster
    if old is UNSET or new is UNSET or old.id == new.id:
        return
    if _TOPOLOGY not in cluster_kinds(before) & cluster_kinds(after):
        return
    old_values, new_values = _by_place(before, old), _by_place(after, new)
    scattered = {("label", key) for key in (*old.scattered, *new.scattered)}
    stayed = ledger_nodes(before) & ledger_nodes(after)
    facts: dict[str, list[DriftFact]] = defaultdict(list)
    for place in sorted((old_values.keys() | new_values.keys()) - scattered):
        was, now = old_values.get(place, {}), new_values.get(place, {})
        for node in (was.keys() | now.keys()) & stayed if was != now else ():
            if (old_value := was.get(node, UNSET)) != (new_value := now.get(node, UNSET)):
                facts[node].append(DriftFact(_TOPOLOGY, *place, old_value, new_value))
    alike: dict[bytes, tuple[list[str], list[DriftFact]]] = {}
    for node, changed in sorted(facts.items()):
        alike.setdefault(msgspec.msgpack.encode(changed), ([], changed))[0].append(node)
    for nodes, changed in sorted(alike.values(), key=lambda change: -len(change[0])):
        yield Change(nodes, changed)


def _by_place(document: FleetSnapshot, cluster: ClusterFacts) -> Mapping[_Place, Mapping[str, str]]:
    """The value on each node that has the label, or the taint, which is one for each key and effect."""
    everybody = ledger_nodes(document)
    found: dict[_Place, dict[str, str]] = defaultdict(dict)
    entries: list[tuple[_Place, NodeTaint | NodeLabel]] = [
        *((("taint", f"{taint.key}:{taint.effect}"), taint) for taint in cluster.taints),
        *((("label", label.key), label) for label in cluster.labels),
    ]
    for place, entry in entries:
        nodes = unfold_names(entry.nodes, document.node_table) if entry.nodes else everybody
        found[place].update((node, str(restored(entry.value, node))) for node in nodes)
    return found
