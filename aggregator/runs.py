"""Runs: started, shared, queued, conducted, ended at the deadline at the latest.

Equal requests made while one is collecting share its run. A few runs collect at once, some wait, more are refused:
hundreds of callers at once cost no more than that.
"""

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from msgspec.structs import replace

from aggregator import websocket
from aggregator.hub import Hub
from aggregator.ledger import Agent, Answer, Expected, Sighting, settle
from aggregator.nodes import Node
from aggregator.run import Run, RunRequest
from aggregator.settings import RunSettings
from common import wire
from common.errors import Code, FleetError, UsageError
from common.fleet_api import RunState
from common.wire import Collect

_log: Final = logging.getLogger(__name__)

_HEADROOM: Final = 0.9
"""Share of the deadline that agents are given, so that what they say in time also arrives in time."""


class Runs:
    """Starts, shares, queues and ends runs. A `Listener` of the hub."""

    def __init__(
        self,
        hub: Hub,
        expected: Callable[[], list[Expected]],
        finish: Callable[[Run], Coroutine[Any, Any, None]],
        settings: RunSettings,
        beside: Callable[[Run], Coroutine[Any, Any, None]],
    ) -> None:
        """`expected` says which nodes there should be; `finish` makes the document of a run whose ledger is final.

        `beside` is done while the nodes are asked. It ends by the run's deadline.
        """
        self._hub = hub
        self._expected = expected
        self._finish = finish
        self._beside = beside
        self._settings = settings
        self._active: dict[str, Run] = {}
        self._queued: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._number = itertools.count(1)
        # Not the time alone: replicas of one fleet may start in the same second, and a run is found by its id.
        self._epoch = f"{int(time.time()):x}{secrets.token_hex(2)}"
        self.warm_up()
        self.finished: dict[str, Run] = {}
        """The last runs, oldest first."""

    def start(self, request: RunRequest) -> Run:
        """The run that answers this request: a new one, or one that is already asking the same.

        Raises FleetError (busy) when too many wait already or all have been ended, UsageError when the request makes
        no sense.
        """
        if self._ending:  # callers were let in earlier: reading who and what they are takes time
            raise FleetError(Code.FLEET_BUSY, f"no run can start: {self._ending}", "Try again later.")
        self._settings.check_deadline(request.seconds)
        for run in (*self._active.values(), *self._queued.values()):
            if run.request == request and run.state in (RunState.QUEUED, RunState.COLLECTING):
                self._hub.counts.runs["joined"] += 1
                return run
        if len(self._active) >= self._settings.at_once and len(self._queued) >= self._settings.queued:
            self._hub.counts.runs["refused"] += 1
            raise FleetError(
                Code.FLEET_BUSY, f"{len(self._active) + len(self._queued)} runs are under way", "Try again later."
            )
        if not request.selector.names_any(self._expected()):  # refuses here, to the caller, what cannot be read
            raise UsageError(
                f"the fleet has no node {request.selector.nodes[:100]!r}", "eidos fleet nodes lists its nodes."
            )
        run = Run(f"{self._epoch}-{next(self._number)}", request)
        if len(self._active) >= self._settings.at_once:
            self._queued[run.id] = run
            asyncio.get_running_loop().call_later(request.seconds, self._give_up, run.id)
        else:
            self._begin(run)
        return run

    @property
    def under_way(self) -> bool:
        """Whether any run collects or folds."""
        return bool(self._active)

    def find(self, identity: str) -> Run | None:
        """A run by its id, while it is remembered."""
        return self._active.get(identity) or self._queued.get(identity) or self.finished.get(identity)

    def remembered(self) -> list[Run]:
        """Those that have ended and are remembered, then those under way."""
        return [*self.finished.values(), *self._active.values(), *self._queued.values()]

    def warm_up(self) -> None:
        """From now on runs may start, and for a while wait for agents that have not come back yet."""
        self._ending = ""
        self._warm_at = time.monotonic() + self._settings.warming

    async def end_all(self, why: str) -> None:
        """End all runs as failed, and let none start before the next `warm_up`."""
        self._ending = why
        for run in self._queued.values():
            self._end(run, why)
        self._queued.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for run in self._active.values():  # a task that is cancelled before its first step takes none
            self._end(run, why)
        self._active.clear()

    def _give_up(self, identity: str) -> None:
        """A run that still waits at its deadline does not begin any more."""
        run = self._queued.pop(identity, None)
        if run is not None:
            run.failure_code = Code.FLEET_BUSY
            self._end(
                run, f"it could not begin within its deadline of {run.request.seconds:g} s: others are under way"
            )

    def _begin(self, run: Run) -> None:
        self._active[run.id] = run
        run.state = RunState.COLLECTING
        run.began = time.monotonic()
        task = asyncio.get_running_loop().create_task(self._conduct(run), name=f"run-{run.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _conduct(self, run: Run) -> None:
        """From Collect to document."""
        beside = asyncio.get_running_loop().create_task(self._beside(run), name=f"beside-{run.id}")
        try:
            await self._collect(run)
            await beside
            run.state = RunState.FOLDING
            await self._finish(run)
            run.folded_after = time.monotonic() - run.began
            self._end(run, "")
        except asyncio.CancelledError:
            self._end(run, self._ending)
            raise
        except Exception as error:  # a defect in folding must not leave callers waiting for ever
            _log.exception("run failed", extra={"run": run.id})
            self._end(run, f"{type(error).__name__}: {error}")
        finally:
            beside.cancel()
            self._active.pop(run.id, None)
            if self._queued and len(self._active) < self._settings.at_once:
                self._begin(self._queued.pop(next(iter(self._queued))))

    async def _collect(self, run: Run) -> None:
        until = run.began + run.request.seconds
        run.begin(run.request.selector.select(self._expected()))
        frame = self._frame(run, run.request.seconds)
        for number, node in enumerate(run.expected):
            self._ask(run, self._hub.nodes.get(node.node), frame)
            if number % 256 == 255:
                await asyncio.sleep(0)  # answers are read meanwhile
        await run.wait_settled(until)
        while self._missing(run) and time.monotonic() < min(until, self._warm_at):
            await asyncio.sleep(0.1)  # just started: agents are still coming back
            await run.wait_settled(until)
        run.collected_after = time.monotonic() - run.began
        run.entries = settle(
            self._as_now(run.expected),
            {node.node: self._sighting(run, node.node) for node in run.expected},
            run.request.seconds,
        )

    def _as_now(self, asked: list[Expected]) -> list[Expected]:
        """The nodes of a run with what the cluster says of them at its end."""
        now = {node.node: node for node in self._expected()}
        return [now.get(node.node) or replace(node, removed=True) for node in asked]

    def _missing(self, run: Run) -> bool:
        nodes = self._hub.nodes
        return any(  # without its Hello an agent was not asked
            (seen := nodes.get(node.node)) is None or seen.link is None or not seen.link.schema
            for node in run.expected
            if node.agent in (Agent.UNKNOWN, Agent.RUNNING)
        )

    def _frame(self, run: Run, seconds: float) -> bytes:
        collect = Collect(run.id, list(run.request.sections), max(0.05, seconds * _HEADROOM))
        return websocket.frame(wire.encode(collect))

    def _ask(self, run: Run, node: Node | None, frame: bytes) -> None:
        if node is not None and node.link is not None and node.link.schema:
            run.await_answer(node.name)
            node.link.ask(run.id, frame)

    def _sighting(self, run: Run, name: str) -> Sighting:
        node = self._hub.nodes.get(name)
        answer = run.answers.get(name)
        if node is None:
            return Sighting()
        if answer is None and node.pending is not None and run.id in node.pending.runs:
            answer = Answer(stale=False, complete=False, failures="")
        return Sighting(
            connected=node.link is not None and bool(node.link.schema),  # without its Hello it is on its way still
            asked=name in run.asked,
            answer=answer,
            closed=node.closed,
            facts_at=node.known.at if node.known else None,
            version=node.known.version if node.known else "",
        )

    def _end(self, run: Run, failure: str) -> None:
        run.state = RunState.FAILED if failure else RunState.DONE
        run.failure = failure
        run.forget_answers()
        self._hub.counts.runs[run.state.value] += 1
        self.remember(run)
        run.ended.set()

    def remember(self, run: Run) -> None:
        """Have a run that has ended be found for a while."""
        self.finished[run.id] = run
        while len(self.finished) > self._settings.kept:
            del self.finished[next(iter(self.finished))]
        for old in list(self.finished.values())[: -self._settings.documents]:
            old.forget_document()

    # What the hub tells.

    def joined(self, node: Node) -> None:
        """An agent came (back): runs that want its node ask it for what time is left."""
        for run in self._active.values():
            if run.wants(node.name):
                left = run.began + run.request.seconds - time.monotonic()
                self._ask(run, node, self._frame(run, left))

    def left(self, node: Node) -> None:
        """A link went down: nobody waits for its answer."""
        for run in self._active.values():
            run.settle_one(node.name, None)

    def answered(self, run: str, node: Node, answer: Answer) -> None:
        """A report and all its content are here."""
        active = self._active.get(run)
        if active is None or active.state is not RunState.COLLECTING:
            self._hub.counts.late_reports += 1
            return
        active.settle_one(node.name, answer)
