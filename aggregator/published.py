"""Back from a published document to the run it came from, for an aggregator that goes on where another ended. Pure.

What was published lies where others may write. So whatever it says is checked against itself before anything is built
on it: whoever goes through groups, sets of nodes and values later may rely on them as in a document of our own.
"""

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import UNSET

from aggregator.ledger import Entry
from aggregator.names import unfold_names
from aggregator.run import Run, RunRequest
from common.document import load_document
from common.errors import Code, EidosError, InputError
from common.fleet import (
    FLEET_API_VERSION,
    AgentLine,
    FleetSnapshot,
    Group,
    LedgerLine,
    NodeLabel,
    NodeState,
    NodeTaint,
)
from common.fleet_api import RunState
from common.nodeset import unfold_indexes

_RUN: Final = re.compile(r"[0-9a-z]([-0-9a-z]{0,61}[0-9a-z])?", re.ASCII)
_ANSWERED: Final = (NodeState.OK, NodeState.PARTIAL)
_MOST_NODES: Final = 5_000_000
"""Named by taints and labels together: 20,000 nodes with 250 each."""
_MOST_GROUPS: Final = 50_000_000
"""Named by facts and values together."""


class _ContradictionError(ValueError):
    """What does not fit together."""


def read_published(content: bytes, source: str) -> FleetSnapshot:
    """The document in `content`. Raises InputError, which names `source`, unless it is one, and whole."""
    value = load_document(content, source)
    try:
        document = msgspec.convert(value, FleetSnapshot)
        _check(document)
    except (msgspec.ValidationError, _ContradictionError, EidosError) as error:
        raise InputError(Code.INPUT_MALFORMED, f"{source} is not a whole FleetSnapshot: {error}") from error
    return document


def as_run(document: FleetSnapshot) -> Run:
    """The run that a checked document came from, as far as it tells: how long it took, it does not."""
    run = Run(document.metadata.run, RunRequest(seconds=0.0))
    run.state = RunState.DONE
    run.created_at = _taken_at(document)
    run.began = time.monotonic() - max(0.0, time.time() - run.created_at)
    run.entries = sorted(
        (
            Entry(node, line.state, line.reason, fresh=line.state in _ANSWERED)
            for line in document.ledger
            for node in unfold_names(line.nodes, document.node_table)
        ),
        key=lambda entry: entry.node,
    )
    run.document = document
    run.ended.set()
    return run


def _taken_at(document: FleetSnapshot) -> float:
    return datetime.strptime(document.metadata.timestamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def _check(document: FleetSnapshot) -> None:
    """Raises _ContradictionError, EidosError for a set that is none."""
    _require((document.kind, document.api_version) == ("FleetSnapshot", FLEET_API_VERSION), "it is of another kind")
    _require(document.left_out is UNSET, "it is an excerpt")
    _require(_RUN.fullmatch(document.metadata.run) is not None, "its run has no proper name")
    try:
        _taken_at(document)
    except ValueError:
        raise _ContradictionError("its timestamp is not a time") from None
    expected = _members(document, document.ledger, "ledger")
    folded = _members(document, document.groups, "groups")
    _require(folded <= expected, "nodes of its groups are not in its ledger")
    named = [line for line in document.agents if line.nodes]
    _require(_members(document, named, "agents") <= folded, "nodes of its agents are in none of its groups")
    _check_cluster(document, expected)
    groups = range(len(document.groups))
    _require([group.group for group in document.groups] == [*groups], "its groups do not count on")
    states: Counter[str] = Counter()
    for line in document.ledger:
        states[line.state.value] += line.count
    said = document.summary
    _require(
        (said.expected, said.folded, said.groups, said.states)
        == (len(expected), len(folded), len(document.groups), dict(states)),
        "its summary says something else than its ledger and groups",
    )
    _require(all(index in groups for index in _referred(document)), "it refers to groups that it has not")


def _check_cluster(document: FleetSnapshot, expected: set[str]) -> None:
    if document.cluster is UNSET:
        return
    entries: list[NodeTaint | NodeLabel] = [*document.cluster.taints, *document.cluster.labels]
    named = 0
    for entry in entries:
        nodes = unfold_names(entry.nodes, document.node_table) if entry.nodes else expected
        named += len(nodes)
        _require(named <= _MOST_NODES, "its cluster names nodes too often")
        _require(len(nodes) == entry.count, "a set of nodes in its cluster is not as long as it says")
        _require(expected.issuperset(nodes), "nodes of its cluster are not in its ledger")


def _members(document: FleetSnapshot, sets: Sequence[AgentLine | LedgerLine | Group], part: str) -> set[str]:
    """The nodes of sets that share none."""
    members: set[str] = set()
    for each in sets:
        nodes = unfold_names(each.nodes, document.node_table)
        _require(len(nodes) == each.count, f"a set of nodes in its {part} is not as long as it says")
        before = len(members)
        members.update(nodes)
        _require(len(members) == before + len(nodes), f"a node is in its {part} twice")
    return members


def _referred(document: FleetSnapshot) -> Iterator[int]:
    """Every group that is named anywhere."""
    for outlier in document.outliers:
        yield from (outlier.group, outlier.like)
    named = 0
    for text in _index_sets(document):
        indexes = unfold_indexes(text)
        named += len(indexes)
        _require(named <= _MOST_GROUPS, "it names groups too often")
        yield from indexes


def _index_sets(document: FleetSnapshot) -> Iterable[str]:
    for entry in document.collection:
        yield entry.groups
    for measurement in document.measurements:
        for subtype in measurement.subtypes:
            yield subtype.groups
            for differing in subtype.differs:
                _require(bool(differing.values), "a fact that differs has no values")
                yield from (value.groups for value in differing.values)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _ContradictionError(otherwise)
