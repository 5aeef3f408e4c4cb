"""The ledger: every expected node, in exactly one state, with a reason. Pure.

The state says why there is or is not an answer of *this* run; `facts_at` says when the facts known of the node were
collected. Facts of a node that did not answer are still its last known ones: a missing node is never a changed one.

    ok           answered, and every collector ended well
    partial      answered, but some collectors or subtypes could not be read
    stale        its agent is there, but could not collect anew: what is known is from before
    timeout      was asked and did not answer by the deadline
    unreachable  had an agent, whose link is down
    no-agent     no agent has ever been heard of
    not-ready    as no-agent or unreachable, and the cluster says that the node itself is not ready; or it was removed
                 from the cluster without having answered
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import replace

from aggregator.names import NodeNames
from common.fleet import LedgerLine, NodeState
from common.model import CollectionEntry, Scalar, State
from common.topology import TaintId
from common.wire import Closed

NEVER_CONNECTED: Final = "no agent has connected"
NOT_YET: Final = "its agent runs, but has not connected"
REMOVED: Final = "the node was removed from the cluster"
CONTENT_MISSING: Final = "answered, but not all of its content arrived"


class Agent(StrEnum):
    """What the cluster says of a node's agent."""

    UNKNOWN = "unknown"
    """There is no cluster to say anything."""
    RUNNING = "running"
    DOWN = "down"
    """It is not there, or does not come up."""


class Expected(msgspec.Struct, frozen=True):
    """A node that should be in the fleet, and what the cluster says of it."""

    node: str
    ready: bool = True
    reason: str = ""
    """Why the node is not ready, in the cluster's words."""
    labels: Mapping[str, str] = {}
    agent: Agent = Agent.UNKNOWN
    agent_reason: str = ""
    """Why its agent is down, in the cluster's words."""
    removed: bool = False
    """Whether it was in the cluster, and is no longer."""
    taints: tuple[TaintId, ...] = ()
    facts: Mapping[str, Scalar] = {}
    """K8s.node, as the cluster says it."""
    uid: str = ""
    """Of its Node object: another one is another machine of the same name."""


class Answer(msgspec.Struct, frozen=True):
    """What an agent reported in a run."""

    stale: bool
    complete: bool
    """Whether all content it named is here."""
    failures: str
    """Which collectors failed, as in `failures_of`; empty when all ended well."""


class Sighting(msgspec.Struct, frozen=True):
    """What is known of a node's agent when a run ends."""

    connected: bool = False
    asked: bool = False
    answer: Answer | None = None
    closed: Closed | None = None
    """Why its last link ended; None when it never had one."""
    facts_at: float | None = None
    """When the facts known of it were collected (POSIX seconds of the aggregator); None when none are known."""
    version: str = ""
    """Of the agent that collected them."""


class Entry(msgspec.Struct, frozen=True):
    """One node's line in the ledger."""

    node: str
    state: NodeState
    reason: str = ""
    facts_at: float | None = None
    fresh: bool = False
    """Whether its facts were collected by this run."""
    version: str = ""
    """Of the agent that collected its facts; empty when none are known."""


def settle(expected: Iterable[Expected], sightings: Mapping[str, Sighting], seconds: float) -> list[Entry]:
    """The ledger of a run of `seconds`, in the order of the nodes given."""
    nothing = Sighting()
    seen = [(node, sightings.get(node.node, nothing)) for node in expected]
    return [replace(_settle(node, sighting, seconds), version=sighting.version) for node, sighting in seen]


def _settle(node: Expected, seen: Sighting, seconds: float) -> Entry:
    answer = seen.answer
    if answer is not None:
        state, reason = _answered(answer)
        return Entry(node.node, state, reason, seen.facts_at, fresh=state in (NodeState.OK, NodeState.PARTIAL))
    if node.removed:  # its agent goes with it, sooner or later
        return Entry(node.node, NodeState.NOT_READY, REMOVED, seen.facts_at)
    if seen.connected and seen.asked:
        return Entry(node.node, NodeState.TIMEOUT, f"no answer within {seconds:g} s", seen.facts_at)
    if seen.connected:
        return Entry(node.node, NodeState.STALE, "its agent connected after the run began", seen.facts_at)
    if not node.ready:
        return Entry(node.node, NodeState.NOT_READY, node.reason or "the node is not ready", seen.facts_at)
    why = node.agent_reason if node.agent is Agent.DOWN else ""
    if seen.closed is not None:
        reason = f"link down: {why or _LINK_DOWN[seen.closed]}"
        return Entry(node.node, NodeState.UNREACHABLE, reason, seen.facts_at)
    unheard = NOT_YET if node.agent is Agent.RUNNING else NEVER_CONNECTED
    return Entry(node.node, NodeState.NO_AGENT, why or unheard, seen.facts_at)


def _answered(answer: Answer) -> tuple[NodeState, str]:
    if answer.stale:
        return NodeState.STALE, "its collectors did not end in time"
    if not answer.complete:
        return NodeState.TIMEOUT, CONTENT_MISSING
    return (NodeState.PARTIAL, answer.failures) if answer.failures else (NodeState.OK, "")


_LINK_DOWN: Final[Mapping[Closed, str]] = {
    Closed.GOING_AWAY: "the agent stopped",
    Closed.LOST: "the connection was lost",
    Closed.SILENT: "the agent fell silent",
    Closed.SLOW_READER: "the agent did not read what it was sent",
    Closed.BAD_FRAME: "the agent sent a frame that is no message",
    Closed.TOO_LARGE: "the agent sent more than it may",
    Closed.TOO_MANY_FRAMES: "the agent sent too many frames",
    Closed.OUT_OF_TURN: "the agent said what it was not asked",
    Closed.WRONG_CONTENT: "the agent sent content that does not match its digest",
    Closed.PROTOCOL: "the agent speaks another version of the protocol",
    Closed.UNAUTHORIZED: "the agent's token was refused",
    Closed.EXPIRED: "the agent's token expired",
    Closed.OTHER_NODE: "the agent renewed with another node's token",
    Closed.DUPLICATE: "the agent was a second one of its node",
    Closed.REPLACED: "the agent gave way to a newer one",
    Closed.FULL: "the aggregator has no room for more agents",
}


def failures_of(outcome: Sequence[CollectionEntry]) -> str:
    """What failed, for the ledger: collectors and subtypes by name, so that equal failures fold. Empty when nothing.

    A node without GPUs or systemd is not partial: absent is not failed. A collector is not named beside its subtypes.
    """
    failed = [entry for entry in outcome if entry.state is State.FAILED]
    told = {entry.collector for entry in failed if entry.subtype}
    alike: dict[str, set[str]] = defaultdict(set)
    for entry in failed:
        if entry.subtype or entry.code or entry.collector not in told:
            alike[entry.code or ""].add(_name(entry))
    return "; ".join(", ".join(sorted(alike[code])) + (f" ({code})" if code else "") for code in sorted(alike))


def _name(entry: CollectionEntry) -> str:
    if not entry.subtype or entry.subtype == entry.collector:
        return entry.collector
    return f"{entry.collector}.{entry.subtype}"


def fold_ledger(entries: Iterable[Entry], names: NodeNames) -> list[LedgerLine]:
    """Nodes in the same state for the same reason on one line; states in their order, larger lines first."""
    alike: dict[tuple[NodeState, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        alike[entry.state, entry.reason].append(entry)
    order = list(NodeState)
    keys = sorted(alike, key=lambda key: (order.index(key[0]), -len(alike[key]), key[1]))
    return [_line(state, reason, alike[state, reason], names) for state, reason in keys]


def _line(state: NodeState, reason: str, entries: Sequence[Entry], names: NodeNames) -> LedgerLine:
    old = [entry.facts_at for entry in entries if entry.facts_at is not None and not entry.fresh]
    return LedgerLine(
        state=state,
        count=len(entries),
        nodes=names.fold(entry.node for entry in entries),
        reason=reason,
        oldest=timestamp(min(old)) if old else "",
    )


def timestamp(seconds: float) -> str:
    """POSIX seconds as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
