"""What each endpoint takes and gives, for the OpenAPI document. What it does is said by its handler's docstring."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aggregator.api.requests import DEFAULT_ITEMS, MOST_NAME
from common.fleet import FleetSnapshot, NodeState
from common.fleet_api import (
    LONGEST_WATCH,
    MOST_EXPRESSION,
    MOST_ITEMS,
    NDJSON,
    FactView,
    GroupList,
    NodeList,
    OutlierList,
    Progress,
    QueryBody,
    QueryResult,
    RunBody,
    WatchEvent,
)
from common.model import Snapshot

JSON: Final = "application/json"
YAML: Final = "application/yaml"
TEXT: Final = "text/plain"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. Those in the path are required."""

    name: str
    where: str
    """query, path or header."""
    text: str
    schema: Mapping[str, Any]
    example: object = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """An answer: what it means and its type by media type."""

    text: str
    types: Mapping[str, Any] = field(default_factory=dict)
    """None is text; of application/x-ndjson the type of a line, which may be a union."""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint."""

    answers: Mapping[int, Content]
    parameters: tuple[Parameter, ...] = ()
    body: type | None = None
    body_required: bool = False
    body_example: object = None
    problems: tuple[int, ...] = ()
    """Statuses of problems beyond those that every endpoint of /v1 has."""
    is_open: bool = False
    """Whether anyone may ask."""


def _document(text: str, kind: type, tagged: bool = False) -> dict[int, Content]:
    headers = {"ETag": "Names this answer in this format; give it as If-None-Match."} if tagged else {}
    answers = {200: Content(text, {JSON: kind, YAML: kind}, headers)}
    return answers | ({304: Content("The caller has this answer already.", headers=headers)} if tagged else {})


_IF_NONE_MATCH: Final = Parameter(
    "If-None-Match", "header", "The ETag of an answer that the caller has.", {"type": "string"}
)
_AFTER: Final = Parameter(
    "after",
    "query",
    "Begin after this name: the `continue` of the page before.",
    {"type": "string", "maxLength": MOST_NAME},
)
_LIMIT: Final = Parameter(
    "limit", "query", "Items of one page.",
    {"type": "integer", "minimum": 1, "maximum": MOST_ITEMS, "default": DEFAULT_ITEMS},
)  # fmt: skip
_NODE: Final = Parameter("node", "path", "A node's name.", {"type": "string", "minLength": 1}, "gpu-017")
_RUN: Final = Parameter("run", "path", "A run's id.", {"type": "string", "minLength": 1}, "69201ad4-7")
_STATE: Final = Parameter(
    "state", "query", "Only nodes in these states, separated by commas.",
    {"type": "array", "minItems": 1, "items": {"type": "string", "enum": [state.value for state in NodeState]}},
    ["timeout", "stale"],
)  # fmt: skip
_FACT: Final = Parameter(
    "fact", "path", "Type.subtype.key.", {"type": "string", "minLength": 1}, "OS.release.VERSION_ID"
)
_EXPRESSION: Final = Parameter(
    "expression", "query", "In CEL.", {"type": "string", "minLength": 1, "maxLength": MOST_EXPRESSION},
    'OS.release.VERSION_ID != "22.04"', required=True,
)  # fmt: skip
_PREFER: Final = Parameter("Prefer", "header", "`respond-async`: do not wait for the run's end.", {"type": "string"})

OPERATIONS: Final[Mapping[str, Operation]] = {
    "GET /livez": Operation({200: Content("It runs.", {TEXT: None})}, is_open=True),
    "GET /readyz": Operation(
        {200: Content("It serves.", {TEXT: None}), 503: Content("It does not, and why.", {TEXT: None})}, is_open=True
    ),
    "GET /metrics": Operation({200: Content("Samples.", {TEXT: None})}),
    "GET /v1/openapi.json": Operation({200: Content("This document.", {JSON: dict})}),
    "GET /v1/openapi.yaml": Operation({200: Content("This document.", {YAML: dict})}),
    "POST /v1/runs": Operation(
        {
            200: Content(
                "The run has ended: its document, or with application/x-ndjson its progress, a line each.",
                {JSON: FleetSnapshot, YAML: FleetSnapshot, NDJSON: Progress},
                {"Location": "The run. Not with application/x-ndjson, where every line names it."},
            ),
            202: Content(
                "With `Prefer: respond-async`: the run has been started.",
                {JSON: Progress, YAML: Progress},
                {"Location": "The run."},
            ),
        },
        (_PREFER,),
        RunBody,
        body_example={"nodes": "gpu-[001-016]", "seconds": 10},
        problems=(404, 408, 413, 415, 429),
    ),
    "GET /v1/runs/{run}": Operation(_document("Where it stands.", Progress), (_RUN,), problems=(404,)),
    "GET /v1/runs/{run}/snapshot": Operation(
        _document("Its document.", FleetSnapshot, tagged=True), (_RUN, _IF_NONE_MATCH), problems=(404, 429)
    ),
    "GET /v1/snapshot": Operation(
        _document("The document.", FleetSnapshot, tagged=True), (_IF_NONE_MATCH,), problems=(404,)
    ),
    "GET /v1/nodes": Operation(_document("One page.", NodeList), (_STATE, _AFTER, _LIMIT)),
    "GET /v1/nodes/{node}": Operation(_document("Its snapshot.", Snapshot), (_NODE,), problems=(404,)),
    "GET /v1/groups": Operation(_document("The groups.", GroupList, tagged=True), (_IF_NONE_MATCH,), problems=(404,)),
    "GET /v1/outliers": Operation(
        _document("The outliers.", OutlierList, tagged=True), (_IF_NONE_MATCH,), problems=(404,)
    ),
    "GET /v1/facts/{fact}": Operation(
        _document("Its values.", FactView), (_FACT, _AFTER, _LIMIT), problems=(404, 429)
    ),
    "GET /v1/query": Operation(
        _document("The nodes.", QueryResult), (_EXPRESSION, _AFTER, _LIMIT), problems=(404, 429)
    ),
    "GET /v1/watch": Operation(
        {200: Content("The changes.", {NDJSON: WatchEvent})},
        (
            Parameter(
                "seconds", "query", "How long at most.", {"type": "integer", "minimum": 1, "maximum": LONGEST_WATCH}
            ),
        ),
        problems=(429,),
    ),
    "POST /v1/query": Operation(
        _document("The nodes.", QueryResult),
        body=QueryBody,
        body_required=True,
        body_example={"expression": 'semver(GPU.smi.driver) < semver("570")', "limit": 100},
        problems=(404, 408, 413, 415, 429),
    ),
}
"""By method and path, as in OpenAPI."""
