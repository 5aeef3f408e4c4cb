"""One run: a question to the fleet, its answers as they come, and where it stands. No I/O."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

from aggregator.ledger import Answer, Entry, Expected
from aggregator.names import unfold_names
from aggregator.selector import Selector
from common.errors import Code
from common.fleet import FleetSnapshot, Group, NodeState, Summary
from common.fleet_api import Progress, RunState
from common.model import Collected, MeasurementType

_SHOWN: Final = 5
"""Names of unanswered nodes in a progress line."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is asked. Equal requests can share a run."""

    selector: Selector = field(default_factory=Selector)
    sections: tuple[MeasurementType, ...] = ()
    """Empty means all. In the order of MeasurementType, without repeats."""
    seconds: float = 10.0


class Run:
    """One run. Its ledger grows while it collects; `entries` is final when it is done."""

    def __init__(self, identity: str, request: RunRequest) -> None:
        self.id = identity
        self.request = request
        self.state = RunState.QUEUED
        self.expected: list[Expected] = []
        self.asked: set[str] = set()
        self.answers: dict[str, Answer] = {}
        self.entries: list[Entry] = []
        self.failure = ""
        self.failure_code = Code.FLEET_FAILED
        self.created_at = time.time()
        self.began = time.monotonic()
        self.collected_after = 0.0
        """Seconds from the beginning to the last answer or the deadline."""
        self.folded_after = 0.0
        self.cluster: Collected | None = None
        """What the API server said of the cluster itself; None without one, and when nobody asked for it."""
        self.document: FleetSnapshot | None = None
        self._summary: Summary | None = None
        self.pinned = False
        """Whether its document is the fleet's last one."""
        self.ended = asyncio.Event()
        self._group_of: dict[str, Group] | None = None
        self._names: frozenset[str] = frozenset()
        self._open: set[str] = set()
        self._settled = asyncio.Event()

    @property
    def summary(self) -> Summary | None:
        """The document in numbers, which outlive it."""
        return self.document.summary if self.document else self._summary

    @property
    def took(self) -> float:
        """Seconds from the beginning to the end; 0 while it lasts, and of another aggregator's."""
        if self.state not in (RunState.DONE, RunState.FAILED):
            return 0.0
        return self.folded_after or self.collected_after

    def begin(self, expected: list[Expected]) -> None:
        """It is for these nodes."""
        self.expected = expected
        self._names = frozenset(node.node for node in expected)

    def wants(self, node: str) -> bool:
        """Whether it still waits for an answer of this node, or would if the node were connected."""
        return self.state is RunState.COLLECTING and node in self._names and node not in self.answers

    def await_answer(self, node: str) -> None:
        """The node was asked."""
        self.asked.add(node)
        if node not in self.answers:
            self._open.add(node)

    def settle_one(self, node: str, answer: Answer | None) -> None:
        """The node answered, or (None) can no longer."""
        if answer is not None:
            self.answers[node] = answer
        self._open.discard(node)
        if not self._open:
            self._settled.set()

    def forget_answers(self) -> None:
        """Its ledger is final: what it was made from need not be kept."""
        self.answers, self.asked, self.expected, self.cluster = {}, set(), [], None
        self._names, self._open = frozenset(), set()

    def forget_document(self) -> None:
        """Newer ones are asked for. Not while pinned."""
        if not self.pinned and self.document is not None:
            self._summary = self.document.summary
            self.document, self._group_of = None, None

    async def wait_settled(self, until: float) -> None:
        """Until nobody connected owes an answer, or the monotonic time given."""
        while self._open and (left := until - time.monotonic()) > 0:
            self._settled.clear()
            try:
                await asyncio.wait_for(self._settled.wait(), left)
            except TimeoutError:
                return

    def group_of(self) -> dict[str, Group]:
        """Each folded node's group, once there is a document."""
        if self._group_of is None:
            if self.document is None:
                return {}
            self._group_of = {
                node: group
                for group in self.document.groups
                for node in unfold_names(group.nodes, self.document.node_table)
            }
        return self._group_of

    def progress(self) -> Progress:
        """Where it stands."""
        if self.state in (RunState.DONE, RunState.FAILED):
            states = Counter(entry.state for entry in self.entries)
            reasons = Counter(entry.reason for entry in self.entries if entry.reason)
        else:
            states = Counter(_state_so_far(answer) for answer in self.answers.values())
            reasons = Counter(answer.failures for answer in self.answers.values() if answer.failures)
        waiting = sorted(itertools.islice(self._open, _SHOWN)) if len(self._open) > _SHOWN else sorted(self._open)
        return Progress(
            run=self.id,
            state=self.state,
            expected=len(self.entries) or len(self.expected),
            answered=sum(entry.fresh for entry in self.entries) or len(self.answers),
            seconds=round(self.took or time.monotonic() - self.began, 3),
            states={state.value: states[state] for state in NodeState if states[state]},
            waiting=waiting,
            reasons=dict(reasons.most_common(10)),
            awaited=len(self._open),
        )

    async def watch(self, every: float = 0.25) -> AsyncIterator[Progress]:
        """Progress now, whenever `every` seconds have passed, and at the end."""
        while not self.ended.is_set():
            yield self.progress()
            try:
                await asyncio.wait_for(self.ended.wait(), every)
            except TimeoutError:
                continue
        yield self.progress()


def _state_so_far(answer: Answer) -> NodeState:
    if answer.stale:
        return NodeState.STALE
    return NodeState.PARTIAL if answer.failures else NodeState.OK
