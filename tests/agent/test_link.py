"""The agent's link against a real aggregator: it says little, comes back, renews, and trusts only its CA."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.collecting import Collecting
from agent.collectors.base import Context, Options
from agent.health import Health
from agent.holdings import Holdings
from agent.host import Host
from agent.link import Link, LinkSettings
from aggregator.settings import LinkSettings as HubSettings
from aggregator.settings import Settings
from aggregator.tls import Authority
from common.model import Collected, MeasurementType, Ok, Scalar
from common.wire import Closed, Collect, Want
from tests.fleet.scene import Scene, scene, until


class Facts:
    """A collector whose facts a test sets."""

    name = "facts"
    type = MeasurementType.OS

    def __init__(self) -> None:
        self.data: dict[str, Scalar] = {"a": "1"}
        self.may_end = threading.Event()
        self.may_end.set()

    def collect(self, ctx: Context) -> Collected:
        self.may_end.wait(20)
        return Collected.of({"release": Ok(dict(self.data))})


class Agent:
    """A resident agent in this process."""

    def __init__(self, fleet: Scene, node: str = "n1", **settings: object) -> None:
        self.facts = Facts()
        collecting = Collecting([self.facts], Host("/nonexistent"), node, Options())
        directory = fleet.local.directory
        usual = LinkSettings(
            url=f"https://localhost:{fleet.link_port}",
            token_file=fleet.local.token_file(node),
            ca_file=directory / "ca.crt",
            backoff_first=0.05,
            backoff_most=0.2,
            good_after=0.5,
        )
        self.settings = replace(usual, **settings)  # type: ignore[arg-type]  # passed through as given
        self.waits: list[float] = []
        self.link = Link(self.settings, collecting, Holdings(collecting.names), self._jitter)
        self.running = asyncio.create_task(self.link.run())

    def _jitter(self, least: float, most: float) -> float:
        self.waits.append(most)
        return most

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def linked(fleet: Scene, node: str = "n1", **settings: object) -> AsyncIterator[Agent]:
    agent = Agent(fleet, node, **settings)
    try:
        await until(lambda: agent.link.is_up and _link(fleet, node))
        yield agent
    finally:
        await agent.stop()


def _link(fleet: Scene, node: str) -> object:
    known = fleet.hub.nodes.get(node)
    return known and known.link and known.link.schema


async def test_from_collect_to_snapshot(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet, linked(fleet) as agent:
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "ok"}
        snapshot = fleet.fleet.snapshot_of("n1")
        assert snapshot is not None
        assert snapshot.facts() == {("OS", "release", "a"): "1"}
        assert [entry.collector for entry in snapshot.collection] == ["facts"]
        agent.facts.data["a"] = "2"
        await fleet.run()
        snapshot = fleet.fleet.snapshot_of("n1")
        assert snapshot is not None
        assert snapshot.facts() == {("OS", "release", "a"): "2"}


async def test_an_unchanged_node_says_so_in_a_few_bytes(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet, linked(fleet):
        await fleet.run()
        received, frames = fleet.counts.bytes_in, fleet.counts.frames_in
        await fleet.run()
        assert fleet.counts.frames_in - frames == 1
        assert fleet.counts.bytes_in - received < 60


async def test_it_comes_back_with_what_it_knows_and_full_jitter(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet, linked(fleet) as agent:
        await fleet.run()
        contents = fleet.counts.contents
        old = fleet.hub.nodes["n1"].link
        assert old is not None
        await asyncio.sleep(agent.settings.good_after)
        old.close(Closed.LOST)
        await until(lambda: (link := fleet.hub.nodes["n1"].link) and link is not old and link.schema)
        await until(lambda: fleet.hub.nodes["n1"].pending is None)
        assert fleet.hub.nodes["n1"].sections, "its Hello says what it holds"
        assert fleet.counts.contents == contents, "and nothing is sent twice"
        assert agent.waits == [0.05]


async def test_the_limit_of_the_wait_doubles_up_to_the_most(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        agent = Agent(fleet, token_file=tmp_path / "missing")
        await until(lambda: len(agent.waits) >= 5)
        await agent.stop()
        assert agent.waits[:5] == [0.05, 0.1, 0.2, 0.2, 0.2]


async def test_a_token_that_comes_late_is_read_when_it_is_there(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        late = tmp_path / "late"
        agent = Agent(fleet, token_file=late)
        await until(lambda: agent.waits)
        late.write_text(fleet.token("n1"))
        await until(lambda: agent.link.is_up)
        await agent.stop()


async def test_a_rotated_token_is_shown_before_the_old_one_expires(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        rotated = tmp_path / "rotated"
        rotated.write_text(fleet.token("n1", seconds=100))
        async with linked(fleet, token_file=rotated, token_every=0.05):
            link = fleet.hub.nodes["n1"].link
            assert link is not None
            before = link.expires_at
            rotated.write_text(fleet.token("n1", seconds=3000))
            await until(lambda: link.expires_at > before + 2000)
            assert link.alive


async def test_an_aggregator_its_ca_does_not_vouch_for_hears_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        stranger = Authority()
        stranger.rotate()
        (tmp_path / "other.crt").write_bytes(stranger.bundle)
        agent = Agent(fleet, ca_file=tmp_path / "other.crt")
        await until(lambda: len(agent.waits) > 2)
        await agent.stop()
        assert "n1" not in fleet.hub.nodes, "not even the token was shown"


@pytest.mark.parametrize("content", ["", "\n", "no certificate"])
async def test_a_bundle_without_certificates_vouches_for_nobody(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whom the system trusts, here the aggregator, has nothing to do with it."""
    async with scene(tmp_path, ["n1"]) as fleet:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        (tmp_path / "bundle.crt").write_text(content)
        agent = Agent(fleet, ca_file=tmp_path / "bundle.crt")
        await until(lambda: len(agent.waits) > 1)
        await agent.stop()
        assert "n1" not in fleet.hub.nodes
    assert "bundle.crt holds no certificate in PEM" in str([record.__dict__ for record in caplog.records])


async def test_a_bundle_that_changes_is_read_for_the_next_attempt(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        stranger = Authority()
        stranger.rotate()
        bundle = tmp_path / "other.crt"
        bundle.write_bytes(stranger.bundle)
        agent = Agent(fleet, ca_file=bundle)
        await until(lambda: agent.waits)
        bundle.write_bytes(stranger.bundle + (tmp_path / "ca.crt").read_bytes())  # as when an authority is renewed
        await until(lambda: agent.link.is_up)
        await agent.stop()


async def test_an_address_of_which_the_certificate_says_nothing_is_verified_by_the_name_given(tmp_path: Path) -> None:
    """A Service's address, where there is no cluster DNS."""
    async with scene(tmp_path, ["n1"], settings=Settings(tmp_path, names=("eidos-link.eidos.svc",))) as fleet:
        agent = Agent(fleet)
        await until(lambda: len(agent.waits) > 1)
        assert "n1" not in fleet.hub.nodes, "localhost is not in the certificate"
        await agent.stop()
        async with linked(fleet, server_name="eidos-link.eidos.svc"):
            assert fleet.hub.connected == 1


async def test_an_aggregator_that_falls_silent_is_left(tmp_path: Path) -> None:
    quiet = HubSettings(ping_every=3600.0)
    async with scene(tmp_path, ["n1"], quiet) as fleet, linked(fleet, silent_after=0.3) as agent:
        await until(lambda: agent.waits)


async def test_an_aggregator_that_asks_for_more_than_can_be_under_way_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with scene(tmp_path, ["n1"]) as fleet, linked(fleet) as agent:
        link = fleet.hub.nodes["n1"].link
        assert link is not None
        agent.facts.may_end.clear()
        for number in range(40):
            link.send(Collect(f"run-{number}", [], 60.0))
        await until(lambda: agent.waits)
        agent.facts.may_end.set()
        (left,) = [record for record in caplog.records if record.message == "link down"]
        assert "more than 32 collections at once" in getattr(left, "detail", "")


async def test_what_is_asked_for_and_not_held_is_named_as_missing(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet, linked(fleet):
        link = fleet.hub.nodes["n1"].link
        assert link is not None
        before = fleet.counts.frames_in
        link.send(Want([bytes(32)]))
        await until(lambda: fleet.counts.frames_in > before)
        assert link.alive


async def test_an_aggregator_that_talks_nonsense_is_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with scene(tmp_path, ["n1"]) as fleet, linked(fleet) as agent:
        link = fleet.hub.nodes["n1"].link
        assert link is not None
        with caplog.at_level(logging.WARNING):
            link.send_frame(b"\x82\x05hello")
            await until(lambda: agent.waits)
        assert any("broke the protocol" in str(vars(record).get("detail")) for record in caplog.records)


async def test_it_says_goodbye_when_it_is_stopped(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        async with linked(fleet):
            began = time.monotonic()
        assert time.monotonic() - began < 30
        await until(lambda: fleet.hub.nodes["n1"].link is None)
        assert fleet.counts.closed == {Closed.GOING_AWAY: 1}
        _, run = await fleet.run()
        assert fleet.reasons(run)["n1"] == "link down: the agent stopped"


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /livez HTTP/1.1", b"200"),
        (b"GET /readyz HTTP/1.1", b"503"),
        (b"GET / HTTP/1.1", b"404"),
        (b"POST /livez HTTP/1.1", b"405"),
        (b"nonsense", b"405"),
        (b"", b"405"),
    ],
)
async def test_health_on_loopback(request_line: bytes, status: bytes) -> None:
    health = Health(lambda: False)
    port = await health.start(0)
    answer = await ask(port, request_line + b"\r\nHost: x\r\n\r\n")
    assert answer.split(b" ")[1] == status
    await health.stop()


async def test_health_gives_no_answer_to_what_does_not_end() -> None:
    health = Health(lambda: True)
    port = await health.start(0)
    assert b"200" in await ask(port, b"GET /readyz HTTP/1.1\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x" * 100_000)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()
    await health.stop()
