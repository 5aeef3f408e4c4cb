"""The FleetSnapshot document: every node's stable facts, folded, and the ledger of all expected nodes.

Nodes with the same facts are one *group*, named by its position in `groups`; everything else refers to groups by
folded position (`0-2,5`). A fact that is the same on every node that has its subtype stands once under `data`; one
that is not stands under `differs`, most common value first. Sets of nodes are text as ClusterShell writes it
(`gpu-[001-512],login`); names that do not fold stand once in `nodeTable` and are referred to as `@0-17`.

Types only. docs/fleet-snapshot.md describes the document for readers.
"""

from enum import StrEnum
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from common.model import CollectionEntry, FailureCode, Measurement, MeasurementType, Scalar, State

FLEET_GROUP: Final = "fleet.eidos.nvidia.com"
FLEET_VERSION: Final = "v1alpha1"
FLEET_API_VERSION: Final = f"{FLEET_GROUP}/{FLEET_VERSION}"


class NodeState(StrEnum):
    """How a node ended in a run. Exactly one per expected node."""

    OK = "ok"
    PARTIAL = "partial"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    NO_AGENT = "no-agent"
    NOT_READY = "not-ready"
    STALE = "stale"


class FleetMetadata(msgspec.Struct, frozen=True):
    """Who wrote it, for which run, and when (RFC 3339, UTC). The only part that differs when nothing did."""

    version: str
    run: str
    timestamp: str


class Summary(msgspec.Struct, frozen=True, rename="kebab"):
    """The document in numbers."""

    expected: int
    """Nodes in the ledger."""
    folded: int
    """Nodes whose facts are in the document."""
    states: dict[str, int]
    groups: int
    outliers: int
    facts: int
    """Distinct facts: keys over all measurements."""
    differing: int
    """Those of them that are not the same on all nodes, or that some have not."""
    scattered: int
    """Those left out because nearly every node has a value of its own."""


class LedgerLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """All nodes in one state for one reason."""

    state: NodeState
    count: int
    nodes: str
    reason: str = ""
    oldest: str = ""
    """When the oldest of their facts in this document were collected (RFC 3339); empty when collected by this run,
    or when the document has no facts of them."""


class AgentLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nodes whose facts were collected by agents of one version. No nodes: all that the document has facts of."""

    version: str
    count: int
    nodes: str = ""


class Group(msgspec.Struct, frozen=True):
    """Nodes whose stable facts are all the same, and whose collectors ended the same way."""

    group: int
    id: str
    """Names the group's facts: the same in every document as long as they are the same."""
    count: int
    nodes: str


class OutlierFact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact in which an outlier differs from its like. No value: not there. No key: whether the subtype is."""

    type: MeasurementType
    subtype: str
    key: str | UnsetType = UNSET
    value: Scalar | UnsetType = UNSET
    expected: Scalar | UnsetType = UNSET


class Outlier(msgspec.Struct, frozen=True):
    """A small group that differs in few facts from a larger one."""

    group: int
    count: int
    nodes: str
    like: int
    """The larger group it is nearest to."""
    facts: list[OutlierFact]


class FoldedEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """How one collector or subtype ended, and on which groups. No groups: on all."""

    collector: str
    type: MeasurementType
    state: State
    count: int
    subtype: str = ""
    code: FailureCode | None = None
    reason: str = ""
    subtypes: tuple[str, ...] = ()
    groups: str = ""


class FoldedValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of a differing fact. No value: the key is not there. No groups: all that no other value names."""

    count: int
    value: Scalar | UnsetType = UNSET
    groups: str = ""


class Differing(msgspec.Struct, frozen=True):
    """A fact that is not the same everywhere: its values, most common first."""

    key: str
    values: list[FoldedValue]


class FoldedSubtype(msgspec.Struct, frozen=True, omit_defaults=True):
    """One subtype over the fleet."""

    subtype: str
    count: int
    groups: str = ""
    """Groups that have the subtype; empty when all do."""
    data: dict[str, Scalar] = {}
    differs: list[Differing] = []
    scattered: list[str] = []
    """Keys with a value of their own on nearly every node. Their values are with each node, not in this document."""


class FoldedMeasurement(msgspec.Struct, frozen=True):
    """One measurement type over the fleet."""

    type: MeasurementType
    subtypes: list[FoldedSubtype]


class NodeTaint(msgspec.Struct, frozen=True, omit_defaults=True):
    """One taint, and who has it. No nodes: all nodes of the ledger."""

    key: str
    effect: str
    count: int
    value: str = ""
    nodes: str = ""


class NodeLabel(msgspec.Struct, frozen=True, omit_defaults=True):
    """One label with its value, and who has it. No nodes: all nodes of the ledger."""

    key: str
    value: str
    count: int
    nodes: str = ""


class ClusterFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What belongs to the cluster rather than to a node: read once for the document, by the aggregator."""

    id: str
    """Names these facts: the same in every document as long as they are the same."""
    collection: list[CollectionEntry]
    measurements: list[Measurement]
    taints: list[NodeTaint] = []
    labels: list[NodeLabel] = []
    scattered: list[str] = []
    """Labels with more than 256 values, which are left out. They are with each Node."""


class NodeTable(msgspec.Struct, frozen=True):
    """Node names that do not fold. Positions count on through all tables of a document."""

    suffix: str
    names: list[str]
    """Each without the suffix."""


class FleetSnapshot(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"api_version": "apiVersion", "node_table": "nodeTable", "left_out": "leftOut"},
):
    """The whole document. Field order is the written order."""

    kind: str = "FleetSnapshot"
    api_version: str = FLEET_API_VERSION
    metadata: FleetMetadata
    summary: Summary
    ledger: list[LedgerLine]
    agents: list[AgentLine] = []
    groups: list[Group]
    outliers: list[Outlier]
    collection: list[FoldedEntry]
    measurements: list[FoldedMeasurement]
    cluster: ClusterFacts | UnsetType = UNSET
    """Unset where there is no cluster, and when only measurement types were asked for that are not of it."""
    node_table: list[NodeTable] = []
    left_out: list[str] | UnsetType = UNSET
    """Parts that this text has not, or not whole: it is an excerpt, and the whole is stored beside it."""
