"""What changed between two documents of a fleet, as a document: nodes that changed alike, and the cluster. Pure."""

from collections.abc import Callable, Iterable, Iterator, Set

import msgspec

from aggregator.cluster_drift import cluster_drift, topology_drift
from aggregator.drift import drift
from aggregator.names import ledger_nodes
from aggregator.uncollected import cluster_kinds, uncollected
from common.diff import Incomparable
from common.fleet import FleetSnapshot
from common.fleet_api import DriftFact
from common.model import MeasurementType
from common.nodeset import fold_names


class FleetSide(msgspec.Struct, frozen=True):
    """Which document was compared."""

    run: str
    timestamp: str
    version: str


class FleetChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nodes that changed alike."""

    count: int
    nodes: str
    facts: list[DriftFact] = []
    incomparable: list[DriftFact] = []
    """What only agents of one of two versions report: it cannot be told whether it changed."""


class FleetDiff(msgspec.Struct, frozen=True, kw_only=True):
    """The result. Fields are in the order in which they are written as YAML or JSON."""

    kind: str = "FleetSnapshotDiff"
    before: FleetSide
    after: FleetSide
    added: str
    """Nodes that are in the ledger of the later document only."""
    removed: str
    cluster: list[DriftFact]
    """Facts of the cluster itself that changed."""
    changes: list[FleetChange]
    """Those of most nodes first."""
    incomparable: list[Incomparable]
    """Measurement types that only one of the documents is about."""

    @property
    def has_drift(self) -> bool:
        """Nodes that came or went are none."""
        return bool(self.cluster) or any(change.facts for change in self.changes)


def fleet_diff(
    before: FleetSnapshot, after: FleetSnapshot, is_ignored: Callable[[str], bool] = lambda name: False
) -> FleetDiff:
    """Compare two documents, stable facts only. `is_ignored` is asked about each `Type.subtype.key`."""

    def kept(facts: Iterable[DriftFact]) -> list[DriftFact]:
        return [fact for fact in facts if not is_ignored(f"{fact.type.value}.{fact.subtype}.{fact.key}")]

    found = [*drift(before, after), *topology_drift(before, after)]
    together: dict[str, FleetChange] = {}
    for change in sorted(found, key=lambda change: -len(change.nodes)):
        nodes = fold_names(change.nodes)
        known = together.setdefault(nodes, FleetChange(len(change.nodes), nodes, [], []))
        known.facts.extend(kept(change.facts))
        known.incomparable.extend(kept(change.beyond))
    old, new = ledger_nodes(before), ledger_nodes(after)
    return FleetDiff(
        before=_side(before),
        after=_side(after),
        added=fold_names(new - old),
        removed=fold_names(old - new),
        cluster=kept(cluster_drift(before, after)),
        changes=[change for change in together.values() if change.facts or change.incomparable],
        incomparable=[entry for entry in _incomparable(before, after) if not is_ignored(entry.type.value)],
    )


def _incomparable(before: FleetSnapshot, after: FleetSnapshot) -> Iterator[Incomparable]:
    old, new = _kinds(before), _kinds(after)
    for kind in MeasurementType:
        if (kind in old) != (kind in new):
            yield Incomparable(kind, "after" if kind in old else "before", "not collected")


def _kinds(document: FleetSnapshot) -> Set[MeasurementType]:
    """Measurement types that a document is about, of whatever node, or of the cluster."""
    of_nodes = {kind for kind in MeasurementType if len(uncollected(document, kind)) < len(document.groups)}
    return of_nodes | cluster_kinds(document)


def _side(document: FleetSnapshot) -> FleetSide:
    return FleetSide(document.metadata.run, document.metadata.timestamp, document.metadata.version)
