"""Changes of the fleet as they happen: nodes' states, runs, facts that drift from one snapshot to the next.

While anybody watches, the fleet is looked at once a second, once for all of them. Nodes that change alike are one
event. A watcher that does not take its events in time is dropped, with the reason as its last line; those of one look
are told it whole, however many they are.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from aggregator.drift_events import drift_events
from aggregator.fleet import Fleet
from aggregator.ledger import timestamp
from common.errors import Code, FleetError
from common.fleet import FleetSnapshot, NodeState
from common.fleet_api import (
    NodeChange,
    Progress,
    RunChange,
    WatchAlive,
    WatchEnd,
    WatchEnding,
    WatchEvent,
    WatchStart,
)
from common.nodeset import fold_names

MOST_WATCHERS: Final = 64
MOST_WAITING: Final = 256
"""Events of earlier looks that one watcher may be behind."""
_MOST_DOCUMENTS: Final = 8
_EVERY: Final = 1.0
_ALIVE_AFTER: Final = 15.0
_REASONS: Final = {
    WatchEnding.TIME: "the time asked for is over",
    WatchEnding.SLOW: "the events were not taken in time",
    WatchEnding.STOPPING: "the aggregator is stopping",
    WatchEnding.NOT_LEADING: "this aggregator leads no longer",
    WatchEnding.FAILED: "the aggregator can watch no longer",
}


class _State(NamedTuple):
    """What of a node is watched."""

    connected: bool
    state: NodeState | UnsetType
    reason: str


class Watcher:
    """One who watches: events that wait for it, until it is ended."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self.ended = False

    def tell(self, events: Sequence[WatchEvent]) -> None:
        """Have it get these, the events of one look."""
        if events and self._events.qsize() >= MOST_WAITING:
            return self.end(WatchEnding.SLOW)
        for event in () if self.ended else events:
            self._events.put_nowait(event)

    def end(self, code: WatchEnding) -> None:
        """Have it get this as the last."""
        if not self.ended:
            self.ended = True
            self._events.put_nowait(WatchEnd(_now(), code, _REASONS[code]))

    async def events(self) -> AsyncIterator[WatchEvent]:
        """Each event when it is there, and a sign of life when there is none for long; the end is the last."""
        while True:
            try:
                async with asyncio.timeout(_ALIVE_AFTER):
                    event = await self._events.get()
            except TimeoutError:
                event = WatchAlive(_now())
            yield event
            if isinstance(event, WatchEnd):
                return


class Watchers:
    """Everybody who watches one fleet."""

    def __init__(self, fleet: Fleet, leads: Callable[[], bool]) -> None:
        """`leads` says whether this aggregator is the one to watch."""
        self._fleet = fleet
        self._leads = leads
        self._watchers: set[Watcher] = set()
        self._looking: asyncio.Task[None] | None = None
        self._states: dict[str, _State] = {}
        self._runs: dict[str, Progress] = {}
        self._document: FleetSnapshot | None = None
        self._documents: deque[FleetSnapshot] = deque(maxlen=_MOST_DOCUMENTS)
        """Since the last look."""
        fleet.listeners.append(self._hear)

    @contextmanager
    def watching(self) -> Iterator[Watcher]:
        """A watcher, for as long as the block lasts. Raises FleetError when there are too many."""
        if len(self._watchers) >= MOST_WATCHERS:
            raise FleetError(Code.FLEET_BUSY, "too many watch already", "Try again later.")
        watcher = Watcher()
        if self._looking is None or self._looking.done():
            self._begin()
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="watch")
        watcher.tell([self._start()])
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def stop(self, code: WatchEnding) -> None:
        """End all that watch now."""
        for watcher in self._watchers:
            watcher.end(code)

    def _begin(self) -> None:
        """What is so now is no news."""
        self._states = self._seen()
        self._runs = {run.id: run.progress() for run in self._fleet.runs.remembered()}
        self._document = self._fleet.latest.document if self._fleet.latest is not None else None
        self._documents.clear()

    def _start(self) -> WatchStart:
        summary = self._document.summary.states if self._document is not None else {}
        connected = sum(state.connected for state in self._states.values())
        run = self._document.metadata.run if self._document is not None else ""
        return WatchStart(_now(), len(self._states), connected, dict(summary), run)

    async def close(self) -> None:
        """End all, and look no more: the aggregator is stopping."""
        self.stop(WatchEnding.STOPPING)
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look(self) -> None:
        try:
            while self._watchers:
                await asyncio.sleep(_EVERY)
                if not self._leads():
                    return self.stop(WatchEnding.NOT_LEADING)
                runs, nodes = self._run_changes(), self._node_changes()
                # What a run has found comes before its end: whoever has seen that has seen all.
                events = [*nodes, *await self._drift(), *runs]
                for watcher in self._watchers:
                    watcher.tell(events)
        finally:
            self.stop(WatchEnding.FAILED)  # whatever went wrong, nobody waits in vain

    def _seen(self) -> dict[str, _State]:
        latest, known = self._fleet.latest, self._fleet.hub.nodes
        entries = {entry.node: entry for entry in latest.entries} if latest is not None else {}
        states = {}
        for name in (expected.node for expected in self._fleet.expected()):
            node, entry = known.get(name), entries.get(name)
            connected = node is not None and node.link is not None
            states[name] = _State(connected, entry.state if entry else UNSET, entry.reason if entry else "")
        return states

    def _node_changes(self) -> list[WatchEvent]:
        before, self._states = self._states, self._seen()
        alike: dict[tuple[bool, _State], list[str]] = defaultdict(list)
        for name, state in self._states.items():
            if before.get(name) != state:
                alike[True, state].append(name)
        gone = _State(False, UNSET, "")
        alike[False, gone] = [name for name in before if name not in self._states]
        return [
            NodeChange(_now(), len(names), fold_names(names), expected, state.connected, state.state, state.reason)
            for (expected, state), names in alike.items()
            if names
        ]

    def _run_changes(self) -> list[WatchEvent]:
        before, self._runs = self._runs, {run.id: run.progress() for run in self._fleet.runs.remembered()}
        return [
            RunChange(_now(), progress)
            for identity, progress in self._runs.items()
            if (known := before.get(identity)) is None
            or (known.state, known.answered) != (progress.state, progress.answered)
        ]

    def _hear(self, document: FleetSnapshot) -> None:
        if self._watchers:
            self._documents.append(document)

    async def _drift(self) -> list[WatchEvent]:
        events: list[WatchEvent] = []
        while self._documents:
            before, self._document = self._document, self._documents.popleft()
            if before is not None:
                events += await asyncio.to_thread(drift_events, before, self._document, _now())
        return events


def _now() -> str:
    return timestamp(time.time())
