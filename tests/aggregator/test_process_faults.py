"""What one agent can do wrong, as real processes: its own state and reason, on time, and nobody else is touched."""

import json
import select
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGUSR1, SIGUSR2
from typing import Any

import pytest

from aggregator.local_files import write_whole
from aggregator.signer import LocalSigner
from tests.fleet.processes import Agent, Aggregator, Client, Rogue
from tests.fleet.stepping import STEP

HONEST = ("n1", "n2")
GOOD = ("ok", "partial")
SLACK = 15.0
"""Seconds beyond its deadline that a run may take, folding included, on a machine with much else to do."""


class Fleet:
    """An aggregator, two agents that collect this machine, and room for one that misbehaves."""

    def __init__(self, directory: Path) -> None:
        self.aggregator = Aggregator(directory, "n[1-2],b[01-20]", through=["tests.fleet.stepping"])
        self.agents = {node: Agent(self.aggregator, node, through=["tests.fleet.stepping"]) for node in HONEST}
        self.client.wait_for("eidos_links", len(HONEST))
        self.honest = {node: self.end_of(node) for node in HONEST if self.run(10.0)}
        self.signer = LocalSigner((directory / "private" / "signer.pem").read_bytes())
        self._token_file = directory.with_name("token")
        self._bad = 0

    @property
    def client(self) -> Client:
        """A user."""
        return self.aggregator.client

    def next_bad(self) -> str:
        """A node that no earlier test has used."""
        self._bad += 1
        return f"b{self._bad:02}"

    def token(self, node: str, **claims: Any) -> Path:
        """A file with a token made to order."""
        write_whole(self._token_file, self.signer.token(node, **claims).encode())
        return self._token_file

    def run(self, seconds: float = 6.0) -> Any:
        """A run over everybody that ends in time."""
        began = time.monotonic()
        document = self.client.run(seconds)
        assert time.monotonic() - began < seconds + SLACK
        return document

    def end_of(self, node: str) -> tuple[str, str]:
        """State and reason in the last run."""
        items = self.client.get("/v1/nodes")["items"]
        return next((item["state"], item.get("reason", "")) for item in items if item["node"] == node)

    def closed(self, reason: str) -> float:
        """Links closed for this reason, as /metrics has it."""
        return self.client.metric(f'eidos_links_closed_total{{reason="{reason}"}}')

    def refused(self, reason: str) -> float:
        """Links refused for this reason."""
        return self.client.metric(f'eidos_links_refused_total{{reason="{reason}"}}')

    def assert_others_untouched(self) -> None:
        """The honest agents ended as they always did, over the links they always had."""
        assert {node: self.end_of(node) for node in HONEST} == self.honest
        assert all("link up" in agent.log.read_text() for agent in self.agents.values())
        assert not any("link down" in agent.log.read_text() for agent in self.agents.values())

    def end(self) -> None:
        """End everything."""
        for agent in self.agents.values():
            agent.end(SIGKILL)
        self.aggregator.end()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("faults") / "fleet"
    directory.mkdir()
    started = Fleet(directory)
    assert all(state in GOOD for state, _ in started.honest.values())
    try:
        yield started
    finally:
        started.end()


@pytest.fixture
def rogues() -> Iterator[list[Rogue]]:
    """Ended with the test."""
    started: list[Rogue] = []
    yield started
    for rogue in started:
        rogue.end(SIGKILL)


@pytest.mark.parametrize(
    ("how", "reason", "said"),
    [
        ("garbage", "bad-frame", "the agent sent a frame that is no message"),
        ("liar", "wrong-content", "the agent sent content that does not match its digest"),
        ("frames", "too-many-frames", "the agent sent too many frames"),
        ("oversize", "too-large", "the agent sent more than it may"),
    ],
)
def test_one_that_breaks_the_protocol(fleet: Fleet, rogues: list[Rogue], how: str, reason: str, said: str) -> None:
    node = fleet.next_bad()
    rogues.append(Rogue(fleet.aggregator, how, node))
    assert rogues[0].dialled["status"] == 101
    before = fleet.closed(reason)
    fleet.run()
    assert fleet.end_of(node) == ("unreachable", f"link down: {said}")
    assert fleet.closed(reason) == before + 1
    fleet.assert_others_untouched()


def test_content_that_never_ends(fleet: Fleet, rogues: list[Rogue]) -> None:
    node = fleet.next_bad()
    rogues.append(Rogue(fleet.aggregator, "drip", node))
    fleet.run()
    assert fleet.end_of(node) == ("timeout", "answered, but not all of its content arrived")
    fleet.assert_others_untouched()


def test_the_holder_of_needed_content_is_killed(fleet: Fleet, rogues: list[Rogue]) -> None:
    rogues += [Rogue(fleet.aggregator, "holder", fleet.next_bad(), contents="of two") for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fleet.run, 30.0)
        asked, _, _ = select.select([rogue.output for rogue in rogues], [], [], 20)
        holder, other = sorted(rogues, key=lambda rogue: rogue.output not in asked)
        holder.end(SIGKILL)
        other.tell("give")
        running.result()
    assert fleet.end_of(holder.node) == ("unreachable", "link down: the connection was lost")
    assert fleet.end_of(other.node)[0] == "ok", "what the dead one was asked for was had from the other"
    fleet.assert_others_untouched()


@pytest.mark.parametrize(
    ("claims", "reason", "status"),
    [
        ({"now": time.time() - 7200}, "expired", 401),
        ({"audience": "https://kubernetes.default.svc"}, "unauthorized", 401),
        ({"claims": {"sub": "system:serviceaccount:default:default"}}, "unauthorized", 401),
    ],
)
def test_a_token_that_opens_nothing(
    fleet: Fleet, rogues: list[Rogue], claims: dict[str, Any], reason: str, status: int
) -> None:
    node, before = fleet.next_bad(), fleet.refused(reason)
    rogues.append(Rogue(fleet.aggregator, "honest", node, fleet.token(node, **claims)))
    assert rogues[0].dialled == {"status": status, "answer": reason}
    assert fleet.refused(reason) == before + 1
    fleet.run()
    assert fleet.end_of(node) == ("no-agent", "no agent has connected")
    fleet.assert_others_untouched()


def test_another_nodes_token(fleet: Fleet, rogues: list[Rogue]) -> None:
    """It would be that node, and that node has an agent that lives."""
    node, before = fleet.next_bad(), fleet.refused("duplicate")
    known = fleet.client.get("/v1/nodes/n1")
    rogues.append(Rogue(fleet.aggregator, "honest", node, fleet.aggregator.directory / "tokens" / "n1"))
    assert rogues[0].dialled == {"status": 409, "answer": "duplicate"}
    assert fleet.refused("duplicate") == before + 1
    fleet.run()
    assert fleet.end_of(node) == ("no-agent", "no agent has connected")
    assert fleet.client.get("/v1/nodes/n1")["measurements"] == known["measurements"]
    fleet.assert_others_untouched()


def test_a_replayed_token_opens_nothing_even_when_its_node_has_no_agent(fleet: Fleet, rogues: list[Rogue]) -> None:
    node = fleet.next_bad()
    stolen = fleet.token(node, now=time.time() - 600).rename(fleet.aggregator.directory.with_name("stolen"))
    rogues.append(Rogue(fleet.aggregator, "honest", node))
    fleet.run()
    assert fleet.end_of(node) == ("ok", "")
    rogues[0].end(SIGKILL)
    fleet.run()
    rogues.append(Rogue(fleet.aggregator, "honest", node, stolen))
    assert rogues[1].dialled == {"status": 409, "answer": "duplicate"}
    fleet.run()
    assert fleet.end_of(node) == ("unreachable", "link down: the connection was lost")
    fleet.assert_others_untouched()


def test_a_second_agent_of_one_node(fleet: Fleet) -> None:
    before = fleet.refused("duplicate")
    second = Agent(fleet.aggregator, "n1")
    try:
        fleet.client.wait_for('eidos_links_refused_total{reason="duplicate"}', before + 1)
        fleet.run()
        fleet.assert_others_untouched()
    finally:
        second.end(SIGKILL)


def test_slow_but_in_time(fleet: Fleet) -> None:
    agent = fleet.agents["n2"]
    agent.signal(SIGSTOP)
    sent = fleet.client.metric('eidos_link_frames_total{direction="out"}')
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(fleet.run, 30.0)
        fleet.client.wait_for('eidos_link_frames_total{direction="out"}', sent + 2)
        assert not running.done()
        agent.signal(SIGCONT)
        running.result()
    fleet.assert_others_untouched()


@pytest.mark.parametrize("signals", [(SIGUSR1, SIGUSR2), (SIGUSR2, SIGUSR1)], ids=["forward", "back"])
@pytest.mark.parametrize("who", ["aggregator", "agent"])
def test_a_clock_that_steps_in_the_middle_of_a_run(fleet: Fleet, who: str, signals: tuple[Any, Any]) -> None:
    """Deadlines, links and collections go by the monotonic clock; only the dates in documents are the other one's."""
    stepping = fleet.aggregator if who == "aggregator" else fleet.agents["n1"]
    fleet.agents["n2"].signal(SIGSTOP)  # keeps the run open
    sent = fleet.client.metric('eidos_link_frames_total{direction="out"}')
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(fleet.run, 3.0)
            fleet.client.wait_for('eidos_link_frames_total{direction="out"}', sent + 2)
            stepping.signal(signals[0])
            document = running.result()
        assert fleet.end_of("n2") == ("timeout", "no answer within 3 s")
        assert fleet.end_of("n1") == fleet.honest["n1"]
        fleet.agents["n2"].signal(SIGCONT)
        fleet.run()
        fleet.assert_others_untouched()
        logged = json.loads(fleet.agents["n1"].log.read_text().splitlines()[-1])["time"]
        dated = document["metadata"]["timestamp"] if who == "aggregator" else logged
        assert abs(datetime.fromisoformat(dated).timestamp() - time.time()) > STEP / 2, "the clock did step"
    finally:
        stepping.signal(signals[1])
        fleet.agents["n2"].signal(SIGCONT)
    fleet.run()
    fleet.assert_others_untouched()


def test_a_token_seen_while_clocks_were_ahead_locks_nobody_out(fleet: Fleet, rogues: list[Rogue]) -> None:
    node = fleet.next_bad()
    fleet.aggregator.signal(SIGUSR1)
    try:
        rogues.append(Rogue(fleet.aggregator, "honest", node, fleet.token(node, now=time.time() + STEP)))
        assert rogues[0].dialled["status"] == 101
    finally:
        fleet.aggregator.signal(SIGUSR2)
    rogues[0].end(SIGKILL)
    rogues.append(Rogue(fleet.aggregator, "honest", node, fleet.token(node)))
    assert rogues[1].dialled["status"] == 101
    fleet.run()
    assert fleet.end_of(node) == ("ok", "")
    fleet.assert_others_untouched()
