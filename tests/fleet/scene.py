"""A local fleet in this process, over real TLS on loopback, with agents that do as a test tells them."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from aggregator.endpoint import LinkEndpoint
from aggregator.local import LocalFleet
from aggregator.run import Run, RunRequest
from aggregator.selector import Selector
from aggregator.settings import LinkSettings, RunSettings, Settings
from common import wire
from common.fleet import FleetSnapshot
from common.wire import Blobs, Closed, Collect, Report, Want
from tests.fleet.dial import Dialled, dial
from tests.fleet.profiles import PROFILES
from tests.fleet.simulator import SimulatedAgent, Templates

TEMPLATES = Templates()
QUICK_RUNS = RunSettings(seconds=30.0, warming=0.0)


class TestAgent(SimulatedAgent):
    """A simulated agent that can hold back, lie and die."""

    __test__ = False

    def __init__(self, name: str, number: int = 0) -> None:
        super().__init__(name, PROFILES[number % len(PROFILES)], TEMPLATES)
        self.answers_collect = True
        self.answers_want = True
        self.answers_ping = True
        self.on_want: Callable[[Want], Blobs | None] | None = None
        self.collects: list[Collect] = []
        self.wants: list[Want] = []
        self.collected = asyncio.Event()
        self.wanted = asyncio.Event()

    @property
    def dialled(self) -> Dialled:
        """Its connection."""
        assert self.link is not None
        return self.link

    def _on_message(self, link: Dialled, opcode: int, payload: bytes) -> None:
        if opcode != 2:
            return
        said = wire.from_aggregator(payload)
        if isinstance(said, Collect):
            self.collects.append(said)
            self.collected.set()
            if self.answers_collect:
                super()._on_message(link, opcode, payload)
        elif isinstance(said, Want):
            self.wants.append(said)
            self.wanted.set()
            if self.on_want is not None:
                answer = self.on_want(said)
                if answer is not None:
                    link.send(wire.encode(answer))
            elif self.answers_want:
                super()._on_message(link, opcode, payload)
        elif self.answers_ping:
            super()._on_message(link, opcode, payload)

    def report_now(self, number: int = -1) -> None:
        """Answer a Collect that was held back."""
        self.dialled.send(wire.encode(self._report(self.collects[number].run)))

    def say(self, message: wire.FromAgent) -> None:
        """Anything."""
        self.dialled.send(wire.encode(message))


class Scene:
    """The fleet and what a test needs around it."""

    def __init__(self, fleet: LocalFleet, context: ssl.SSLContext) -> None:
        self.local = fleet
        self.fleet = fleet.fleet
        self.hub = fleet.fleet.hub
        self.counts = fleet.fleet.counts
        self.context = context
        self.links: list[Dialled] = []

    @property
    def link_port(self) -> int:
        """Where agents dial."""
        return self.local.server.link_port

    @property
    def endpoint(self) -> LinkEndpoint:
        """Where links end."""
        return self.local.server._endpoint

    def token(self, node: str, **options: object) -> str:
        """A token of this fleet's signer."""
        return self.local.signer.token(node, **options)  # type: ignore[arg-type]  # passed through as given

    async def join(self, node: str, number: int = 0, token: str | None = None) -> TestAgent:
        """An agent that is linked."""
        agent = TestAgent(node, number)
        await agent.run(self.context, self.link_port, token or self.token(node))
        self.links.append(agent.dialled)
        await until(lambda: (seen := self.hub.nodes.get(node)) and seen.link and seen.link.schema)
        return agent

    async def dial(self, token: str) -> Dialled:
        """A connection that says nothing of its own."""
        self.links.append(await dial(self.context, self.link_port, token, lambda link, opcode, payload: None))
        return self.links[-1]

    async def hang_up(self) -> None:
        """End all connections of agents."""
        for link in self.links:
            link.transport.abort()
        await asyncio.gather(*(link.ended for link in self.links))

    async def run(self, seconds: float = 30.0, nodes: str = "") -> tuple[FleetSnapshot, Run]:
        """A whole run."""
        run = self.fleet.runs.start(RunRequest(Selector(nodes), (), seconds))
        await asyncio.wait_for(run.ended.wait(), seconds + 60)
        assert run.document is not None, run.failure
        return run.document, run

    def states(self, run: Run) -> dict[str, str]:
        """State by node."""
        return {entry.node: entry.state.value for entry in run.entries}

    def reasons(self, run: Run) -> dict[str, str]:
        """Reason by node."""
        return {entry.node: entry.reason for entry in run.entries}


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    """Until something has become so; the loop turns meanwhile."""
    end = time.monotonic() + within
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not become so in time")
        await asyncio.sleep(0.01)


@asynccontextmanager
async def scene(
    directory: Path,
    nodes: Sequence[str],
    link: LinkSettings | None = None,
    runs: RunSettings = QUICK_RUNS,
    settings: Settings | None = None,
) -> AsyncIterator[Scene]:
    """A fleet that is served until the end of the block."""
    base = settings or Settings(directory)
    chosen = replace(base, link_address="127.0.0.1", link_port=0, api_port=0, link=link or LinkSettings(), run=runs)
    fleet = LocalFleet(chosen, nodes)
    await fleet.start()
    context = ssl.create_default_context(cadata=(directory / "ca.crt").read_text())
    staged = Scene(fleet, context)
    try:
        yield staged
    finally:
        await staged.hang_up()
        await fleet.stop()
        await asyncio.sleep(0.05)  # for transports to close


__all__ = ["Blobs", "Closed", "Report", "Scene", "TestAgent", "scene", "until"]
