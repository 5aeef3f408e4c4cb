"""What travels over the HTTP API besides documents: requests for runs, their progress, nodes, facts, problems.

Types only, spoken by the aggregator and by every client. docs/fleet.md lists the endpoints.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.fleet import FLEET_API_VERSION, Group, NodeState, NodeTable, Outlier
from common.model import MeasurementType, Scalar

PROBLEM_TYPE: Final = "urn:eidos:problem:"
"""What the `type` of a problem begins with; one of common.errors.Code follows, or a name of HTTP's own."""
API_PATH: Final = f"/apis/{FLEET_API_VERSION}/fleets/eidos/api"
"""Where /v1 is in a cluster's own API: `API_PATH/v1/nodes` is `/v1/nodes`."""
NDJSON: Final = "application/x-ndjson"
"""The media type that asks POST /v1/runs for progress, one Progress a line."""
MOST_ITEMS: Final = 1000
"""Most items of one page."""
LONGEST_WATCH: Final = 3600
"""Most seconds of one watch."""
MOST_EXPRESSION: Final = 4096
"""Most characters of a query's expression."""
MOST_LINE: Final = 16_384
"""Bytes of a request's first line that an aggregator reads: such an expression fits, if it is ASCII."""


class RunBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/runs. All optional."""

    nodes: Annotated[str, Meta(max_length=64_000)] = ""
    """A node set; empty means all expected nodes."""
    labels: Annotated[str, Meta(max_length=4096)] = ""
    """A label selector; empty means all."""
    sections: Annotated[list[MeasurementType], Meta(max_length=5)] = []
    """Empty means all."""
    seconds: Annotated[float, Meta(gt=0, le=3600)] | None = None
    """Deadline; the aggregator has a default and a maximum."""


class RunState(StrEnum):
    """How far a run is."""

    QUEUED = "queued"
    COLLECTING = "collecting"
    FOLDING = "folding"
    DONE = "done"
    FAILED = "failed"


class Progress(msgspec.Struct, frozen=True, rename="kebab"):
    """One line of a run's progress."""

    run: str
    state: RunState
    expected: int
    answered: int
    seconds: float
    """Since it began."""
    states: dict[str, int]
    waiting: list[str]
    """Some of the nodes that have been asked and have not answered."""
    reasons: dict[str, int]
    """Why nodes failed, and how many."""
    awaited: int = 0
    """How many nodes have been asked and have not answered."""


class NodeView(msgspec.Struct, frozen=True, omit_defaults=True, rename="kebab"):
    """One node: its state in the last snapshot, and how it is now."""

    node: str
    connected: bool
    state: NodeState | UnsetType = UNSET
    """Unset before the first snapshot."""
    reason: str = ""
    facts_at: str = ""
    group: int | UnsetType = UNSET
    group_id: str = ""


class NodeList(msgspec.Struct, frozen=True, rename={"continue_after": "continue"}):
    """One page of nodes."""

    items: list[NodeView]
    continue_after: str = ""
    """Pass as `after` for the next page; empty on the last."""


class GroupList(msgspec.Struct, frozen=True, rename={"node_table": "nodeTable"}):
    """Groups of equal nodes, largest first."""

    items: list[Group]
    node_table: list[NodeTable]


class OutlierList(msgspec.Struct, frozen=True, rename={"node_table": "nodeTable"}):
    """Outliers, those that differ least first."""

    items: list[Outlier]
    node_table: list[NodeTable]


class FactValue(msgspec.Struct, frozen=True, omit_defaults=True):
    """One value of a fact and who has it. No value: not there."""

    count: int
    nodes: str
    value: Scalar | UnsetType = UNSET


class FactView(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact across the fleet, most common value first; or node by node when it is each node's own.

    Every node whose facts are in the document is in one of `values`, `own` and `unknown`, of this page or another.
    """

    type: MeasurementType
    subtype: str
    key: str
    values: list[FactValue] = []
    own: dict[str, Scalar] = {}
    unknown: str = ""
    """Nodes of which nobody can say whether they have it."""
    more: str = ""
    """The node to continue after, when `own` was cut."""


class QueryBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /v1/query: what GET has in its query string."""

    expression: Annotated[str, Meta(min_length=1, max_length=MOST_EXPRESSION)]
    after: Annotated[str, Meta(max_length=253)] = ""
    limit: Annotated[int, Meta(ge=1, le=MOST_ITEMS)] = 500


class Match(StrEnum):
    """What an expression gave for a node."""

    MATCHED = "matched"
    NOT_MATCHED = "not-matched"
    UNDECIDED = "undecided"


class QueryGroup(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nodes that are alike in every single fact the expression names, and in what it gave and why."""

    result: Match
    count: int
    nodes: str
    values: dict[str, Scalar] = {}
    """Single facts, by name as in the expression; without those that are not there."""
    reason: str = ""
    """Why it is undecided."""


class QueryResult(
    msgspec.Struct,
    frozen=True,
    rename={"continue_after": "continue", "not_matched": "not-matched", "left_out": "left-out"},
):
    """Which nodes an expression is true for."""

    expression: str
    run: str
    """The run whose snapshot was asked."""
    matched: int
    not_matched: int
    undecided: int
    """Nodes that lack a fact the answer depends on, or have one of another type."""
    unknown: int
    """Expected nodes of which no facts are known."""
    nodes: str
    """All that match, as one set."""
    items: list[str]
    """One page of those that match, by name."""
    continue_after: str
    """Pass as `after` for the next page; empty on the last."""
    groups: list[QueryGroup]
    """Those that match first, then the undecided; the largest first."""
    left_out: int
    """Groups beyond the first 100."""
    nowhere: list[str]
    """Facts the expression names and no node has."""


class WatchStart(msgspec.Struct, frozen=True, tag="start", tag_field="event"):
    """The first line of a watch: how things are."""

    at: str
    """RFC 3339, UTC, as in every line."""
    expected: int
    connected: int
    states: dict[str, int]
    """In the last snapshot over the whole fleet; empty before there is one."""
    run: str
    """That snapshot's run."""


class NodeChange(msgspec.Struct, frozen=True, tag="nodes", tag_field="event", omit_defaults=True, rename="kebab"):
    """Nodes that are in a new state, all for the same reason."""

    at: str
    count: int
    nodes: str
    expected: bool
    """False: they are no nodes of this fleet any more."""
    connected: bool
    state: NodeState | UnsetType = UNSET
    """In the last snapshot; unset when they are in none."""
    reason: str = ""


class RunChange(msgspec.Struct, frozen=True, tag="run", tag_field="event"):
    """A run has begun, gone on or ended."""

    at: str
    progress: Progress


class DriftFact(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact that changed. No value: not there."""

    type: MeasurementType
    subtype: str
    key: str
    before: Scalar | UnsetType = UNSET
    after: Scalar | UnsetType = UNSET


class Drift(msgspec.Struct, frozen=True, tag="drift", tag_field="event"):
    """Nodes whose facts are not what they were in the snapshot before, all changed alike; or, last, all others."""

    at: str
    run: str
    before: str
    """The run of the snapshot before."""
    count: int
    nodes: str
    facts: list[DriftFact]
    more: int
    """Facts beyond the first 50."""
    alike: bool = True
    """False: all others that changed, each in its own way, without their facts."""


class ClusterDrift(msgspec.Struct, frozen=True, tag="cluster", tag_field="event"):
    """What belongs to the cluster itself is not what it was in the snapshot before: its version, images, policies."""

    at: str
    run: str
    before: str
    """The run of the snapshot before."""
    facts: list[DriftFact]
    more: int
    """Facts beyond the first 50."""


class AgentChange(msgspec.Struct, frozen=True, tag="agents", tag_field="event", rename="kebab"):
    """Nodes whose agents are of another version than in the snapshot before. It is no drift."""

    at: str
    run: str
    before: str
    """The run of the snapshot before."""
    count: int
    nodes: str
    version_before: str
    version: str
    facts: list[DriftFact]
    """What only agents of one of the versions report, on whatever node: it cannot be told whether it changed."""
    more: int
    """Facts beyond the first 50."""
    alike: bool = True
    """False: all others with these versions, each with facts of its own, which are left out."""


class WatchAlive(msgspec.Struct, frozen=True, tag="alive", tag_field="event"):
    """Nothing happened for a while."""

    at: str


class WatchEnding(StrEnum):
    """Why a watch ended."""

    TIME = "time"
    """The time asked for is over."""
    SLOW = "slow"
    """The events were not taken in time."""
    STOPPING = "stopping"
    NOT_LEADING = "not-leading"
    FAILED = "failed"


class WatchEnd(msgspec.Struct, frozen=True, tag="end", tag_field="event"):
    """The last line: why there are no more. Without it the connection broke."""

    at: str
    code: WatchEnding
    reason: str


WatchEvent = WatchStart | NodeChange | RunChange | Drift | AgentChange | ClusterDrift | WatchAlive | WatchEnd
"""One line of GET /v1/watch."""


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457). `type` is stable; programs match it and never the text."""

    type: str
    title: str
    status: int
    detail: str = ""
    hint: str = ""
