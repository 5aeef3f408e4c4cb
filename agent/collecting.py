"""Collection in the resident agent: one at a time, beside the event loop, never the same hung collector twice."""

import asyncio
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from agent.collect import Answer, run, snapshot
from agent.collectors.base import Collector, Context, Options
from agent.host import Host
from common.model import Collected, FailureCode, MeasurementType, Snapshot

CLUSTER_WIDE: Final = frozenset((MeasurementType.K8S, MeasurementType.NODE_TOPOLOGY))
"""Facts of the cluster, not of the node: thousands of agents asking the API server for the same lists would be its
end. The aggregator collects them, once."""


class Guarded:
    """A collector that is left alone while an earlier collection of it has not come back.

    A thread in a hung system call cannot be stopped. In a program that stays, a new one for every collection would
    pile up behind whatever hangs.
    """

    def __init__(self, inner: Collector) -> None:
        self._inner = inner
        self._busy = threading.Lock()

    @property
    def name(self) -> str:
        """See Collector."""
        return self._inner.name

    @property
    def type(self) -> MeasurementType:
        """See Collector."""
        return self._inner.type

    def collect(self, ctx: Context) -> Collected:
        """See Collector."""
        if not self._busy.acquire(blocking=False):
            return Collected.failed(FailureCode.TIMEOUT, "an earlier collection has not ended")
        try:
            return self._inner.collect(ctx)
        finally:
            self._busy.release()


@dataclass(frozen=True, slots=True)
class Collection:
    """What one collection gave."""

    snapshot: Snapshot
    kinds: frozenset[MeasurementType]
    seconds: float
    """The slowest collector's."""


class Collecting:
    """Runs collections. A request made while one runs gets the next one, together with all others that wait."""

    def __init__(self, collectors: Iterable[Collector], host: Host, node: str, options: Options) -> None:
        self._collectors = [Guarded(collector) for collector in collectors if collector.type not in CLUSTER_WIDE]
        self._host = host
        self._node = node
        self._options = options
        self._running: asyncio.Future[Collection] | None = None
        self._next: asyncio.Task[Collection] | None = None
        self._next_kinds: set[MeasurementType] = set()
        self._next_seconds = 0.0

    @property
    def names(self) -> list[str]:
        """All collectors' names, in the order of `collection:`."""
        return [collector.name for collector in self._collectors]

    @property
    def kinds(self) -> frozenset[MeasurementType]:
        """What can be collected here."""
        return frozenset(collector.type for collector in self._collectors)

    async def collect(self, kinds: Sequence[MeasurementType], seconds: float) -> Collection:
        """Collect these measurement types (all when empty), starting after this call. Ends after about `seconds`."""
        self._next_kinds |= set(kinds) & self.kinds if kinds else self.kinds
        self._next_seconds = max(self._next_seconds, seconds)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._after_this_one(), name="collect")
        return await asyncio.shield(self._next)

    async def _after_this_one(self) -> Collection:
        if self._running is not None:
            await asyncio.wait([self._running])
        kinds, seconds = frozenset(self._next_kinds), self._next_seconds
        self._next, self._next_kinds, self._next_seconds = None, set(), 0.0
        self._running = self._in_thread(kinds, seconds)
        return await self._running

    def _in_thread(self, kinds: frozenset[MeasurementType], seconds: float) -> asyncio.Future[Collection]:
        """Collect in a thread of its own that does not hold up the program's exit."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Collection] = loop.create_future()

        def collect() -> None:
            result: Collection | Exception
            try:
                result = self._collect_now(kinds, seconds)
            except Exception as error:  # whoever waits hears of it, whatever it is
                result = error
            with suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits
                loop.call_soon_threadsafe(_settle, done, result)

        threading.Thread(target=collect, name="collect", daemon=True).start()
        return done

    def _collect_now(self, kinds: frozenset[MeasurementType], seconds: float) -> Collection:
        chosen = [collector for collector in self._collectors if collector.type in kinds]
        # Rounded, because a deadline that was missed stands in the reason, which must read the same every time.
        answers: list[Answer] = run(chosen, self._host, self._node, self._options, round(seconds, 1) or 0.1)
        slowest = max((answer.seconds for answer in answers), default=0.0)
        return Collection(snapshot(answers, self._node), kinds, slowest)


def _settle(done: "asyncio.Future[Collection]", result: Collection | Exception) -> None:
    if done.done():
        return
    if isinstance(result, Exception):
        done.set_exception(result)
    else:
        done.set_result(result)
