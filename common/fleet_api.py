"""What travels over the HTTP API besides documents: requests for runs, their progress, nodes, facts, problems.

Types only, spoken by the aggregator and by every client. docs/fleet.md lists the endpoints.
"""

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.fleet import Group, NodeState, NodeTable, Outlier
from common.model import MeasurementType, Scalar

PROBLEM_TYPE: Final = "urn:eidos:problem:"
"""What the `type` of a problem begins with; one of common.errors.Code follows, or a name of HTTP's own."""
NDJSON: Final = "application/x-ndjson"
"""The media type that asks POST /v1/runs for progress, one Progress a line."""
MOST_ITEMS: Final = 1000
"""Most items of one page."""
MOST_EXPRESSION: Final = 4096
"""Most characters of a query's expression."""


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
    """One fact across the fleet, most common value first; or node by node when it is each node's own."""

    type: MeasurementType
    subtype: str
    key: str
    values: list[FactValue] = []
    own: dict[str, Scalar] = {}
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
    """Nodes that are alike in every fact the expression names."""

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


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error (RFC 9457). `type` is stable; programs match it and never the text."""

    type: str
    title: str
    status: int
    detail: str = ""
    hint: str = ""
