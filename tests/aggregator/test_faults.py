"""What agents can do wrong, each alone: the right state with its reason, on time, and the others untouched."""

import asyncio
import time
from pathlib import Path

import pytest

from aggregator.blobs import compress
from aggregator.settings import LinkSettings, RunSettings
from common import wire
from common.fleet import NodeState
from common.wire import MAX_FRAME, Blob, Blobs, Closed, Hello, Renew, Report, Want
from tests.fleet.scene import Scene, TestAgent, scene, until

NODES = ["n1", "n2", "n3"]
SLACK = 15.0
"""Seconds beyond its deadline that a run may take on a machine with much else to do."""


async def three(fleet: Scene) -> list[TestAgent]:
    return [await fleet.join(node) for node in NODES]


async def test_a_run_over_a_healthy_fleet_and_a_missing_node(tmp_path: Path) -> None:
    async with scene(tmp_path, [*NODES, "n4"]) as fleet:
        await three(fleet)
        document, run = await fleet.run()
        assert fleet.states(run) == {"n1": "ok", "n2": "ok", "n3": "ok", "n4": "no-agent"}
        assert document.summary.folded == 3
        (group,) = document.groups
        assert group.nodes == "n[1-3]"


async def test_equal_nodes_send_shared_content_once(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        await fleet.run()
        wanted = [digest for agent in agents for want in agent.wants for digest in want.digests]
        assert len(wanted) == len(set(wanted))
        before, frames = fleet.counts.bytes_in, fleet.counts.frames_in
        await fleet.run()
        assert fleet.counts.frames_in - frames == 3, "one small frame each when nothing changed"
        assert fleet.counts.bytes_in - before < 3 * 60


async def test_frozen(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        await fleet.run()
        agents[1].answers_collect = agents[1].answers_ping = False
        began = time.monotonic()
        document, run = await fleet.run(seconds=3.0)
        assert time.monotonic() - began < 3.0 + SLACK
        assert fleet.states(run) == {"n1": "ok", "n2": "timeout", "n3": "ok"}
        assert fleet.reasons(run)["n2"] == "no answer within 3 s"
        (line,) = [line for line in document.ledger if line.state is NodeState.TIMEOUT]
        assert line.oldest, "its last known facts are in the document, and dated"
        assert document.groups[0].count == 3, "a missing node is not a changed one"


async def test_a_link_on_which_nothing_is_heard_is_closed(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(ping_every=0.5, silent_after=3.0)) as fleet:
        agents = await three(fleet)
        agents[0].answers_ping = False
        await asyncio.wait_for(agents[0].dialled.ended, 60)
        assert fleet.counts.closed[Closed.SILENT] == 1
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "unreachable", "n2": "ok", "n3": "ok"}
        assert fleet.reasons(run)["n1"] == "link down: the agent fell silent"


async def test_killed_in_the_middle_of_a_run(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        agents[2].answers_collect = False
        running = asyncio.create_task(fleet.run(seconds=60.0))
        await agents[2].collected.wait()
        agents[2].dialled.transport.abort()
        began = time.monotonic()
        _, run = await running
        assert time.monotonic() - began < 30, "nobody waits for the dead"
        assert fleet.states(run)["n3"] == "unreachable"
        assert fleet.reasons(run)["n3"] == "link down: the connection was lost"


async def test_back_in_the_middle_of_a_run(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        agents[0].answers_collect = False  # keeps the run open
        agents[1].answers_collect = False
        running = asyncio.create_task(fleet.run(seconds=60.0))
        await agents[1].collected.wait()
        agents[1].dialled.transport.abort()
        await until(lambda: fleet.hub.nodes["n2"].link is None)
        await fleet.join("n2")
        agents[0].report_now()
        _, run = await running
        assert fleet.states(run) == {"n1": "ok", "n2": "ok", "n3": "ok"}


async def test_a_late_report_still_updates_what_is_known(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1")
        agent.answers_collect = False
        _, run = await fleet.run(seconds=0.5)
        assert fleet.states(run)["n1"] == "timeout"
        assert fleet.fleet.snapshot_of("n1") is None
        agent.report_now()
        await until(lambda: fleet.fleet.snapshot_of("n1"))
        assert fleet.counts.late_reports == 1


async def test_slow_but_in_time(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        agents[1].answers_collect = False
        running = asyncio.create_task(fleet.run(seconds=60.0))
        await agents[1].collected.wait()
        await until(lambda: all(agent.wants for agent in (agents[0], agents[2])) or fleet.hub.fetcher.in_flight == 0)
        assert not running.done(), "the run waits for it"
        agents[1].report_now()
        _, run = await running
        assert fleet.states(run) == {"n1": "ok", "n2": "ok", "n3": "ok"}


async def test_stale(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        agents[0].answers_collect = False
        running = asyncio.create_task(fleet.run())
        await agents[0].collected.wait()
        agents[0].say(Report(agents[0].collects[0].run, stale=True))
        _, run = await running
        assert fleet.states(run) == {"n1": "stale", "n2": "ok", "n3": "ok"}


async def test_the_holder_of_needed_content_dies(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        for agent in agents:
            agent.answers_want = False
        running = asyncio.create_task(fleet.run(seconds=60.0))
        await until(lambda: any(agent.wants for agent in agents))
        await until(lambda: fleet.fleet.hub.fetcher)
        holder = max(agents, key=lambda agent: sum(len(want.digests) for want in agent.wants))
        others = [agent for agent in agents if agent is not holder]
        for agent in others:
            agent.answers_want = True
            for want in agent.wants:
                agent.say(agent._answer(want))
        holder.dialled.transport.abort()
        _, run = await running
        assert fleet.states(run) == {agent.name: "unreachable" if agent is holder else "ok" for agent in agents}


async def test_a_holder_that_falls_silent_is_passed_over(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        agents[0].answers_want = False
        _, run = await fleet.run(seconds=8.0)
        states = fleet.states(run)
        assert (states["n2"], states["n3"]) == ("ok", "ok")
        assert fleet.reasons(run)["n1"] == "answered, but not all of its content arrived"


async def test_content_that_does_not_match_its_digest(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        agents[0].on_want = lambda want: Blobs([Blob(want.digests[0], compress(b"something else"))])
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "unreachable", "n2": "ok", "n3": "ok"}
        assert fleet.reasons(run)["n1"] == "link down: the agent sent content that does not match its digest"
        assert fleet.counts.closed[Closed.WRONG_CONTENT] == 1


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([b"\x00garbage"], Closed.BAD_FRAME),
        ([bytes(100)], Closed.BAD_FRAME),
        ([wire.encode(Hello(1, 1, "again"))], Closed.OUT_OF_TURN),
        ([wire.encode(Report("never-asked"))], Closed.OUT_OF_TURN),
        ([wire.encode(Blobs([Blob(bytes(32), b"x")]))], Closed.OUT_OF_TURN),
        ([wire.encode(Renew("no token"))], Closed.UNAUTHORIZED),
        ([bytes(MAX_FRAME + 1)], Closed.TOO_LARGE),
        ([wire.encode(wire.Pong(1))] * 600, Closed.TOO_MANY_FRAMES),
    ],
)
async def test_garbage_closes_the_link_for_a_counted_reason(
    tmp_path: Path, frames: list[bytes], reason: Closed
) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        for frame in frames:
            agents[0].dialled.send(frame)
        await asyncio.wait_for(agents[0].dialled.ended, 60)
        assert fleet.counts.closed == {reason: 1}
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "unreachable", "n2": "ok", "n3": "ok"}


async def test_text_is_no_message(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1")
        agent.dialled.send(b"hello", opcode=1)
        await asyncio.wait_for(agent.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.BAD_FRAME: 1}


async def test_more_bytes_than_allowed(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(most_bytes=200_000)) as fleet:
        agent = await fleet.join("n1")
        agent.dialled.send(wire.encode(wire.Blobs([Blob(bytes(32), bytes(300_000))])))
        await asyncio.wait_for(agent.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.TOO_LARGE: 1}


async def test_an_agent_that_does_not_read(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(most_unread=50_000)) as fleet:
        agents = await three(fleet)
        agents[0].dialled.transport.pause_reading()
        link = fleet.hub.nodes["n1"].link
        assert link is not None
        for _ in range(20_000):  # more than the kernel's own buffers hold
            link.send(Want([bytes(32)] * 200))
            if link.closed:
                break
            await asyncio.sleep(0)
        assert link.closed is Closed.SLOW_READER
        await until(lambda: fleet.hub.nodes["n1"].link is None)
        _, run = await fleet.run()
        assert fleet.reasons(run)["n1"] == "link down: the agent did not read what it was sent"


async def test_nothing_is_said_in_time(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(hello_within=2.0)) as fleet:
        mute = await fleet.dial(fleet.token("n1"))
        assert mute.status == 101
        # Slowloris: the head never ends.
        slow, slow_writer = await asyncio.open_connection("127.0.0.1", fleet.link_port, ssl=fleet.context)
        slow_writer.write(b"GET /v1/link HTTP/1.1\r\nX: ")
        # Nor does the TLS handshake.
        plain, plain_writer = await asyncio.open_connection("127.0.0.1", fleet.link_port)
        plain_writer.write(b"\x16\x03\x01")
        await asyncio.wait_for(mute.ended, 60)
        assert fleet.counts.closed == {Closed.SILENT: 1}
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(_read_or_raise(slow), 60)
        assert fleet.counts.refused[Closed.SILENT] == 1
        assert await asyncio.wait_for(plain.read(), 60) == b""
        for writer in (slow_writer, plain_writer):
            writer.close()


async def _read_or_raise(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read()
    if not data:
        raise ConnectionError("closed")
    return data


async def test_unfinished_messages_are_bounded_over_all_links_together(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(most_unfinished=1_000_000)) as fleet:
        agents = await three(fleet)
        for agent in agents:
            # The head of a message of a megabyte, and less than half of it.
            agent.dialled.transport.write(b"\x82\xff" + (1 << 20).to_bytes(8, "big") + bytes(400_000))
        await until(lambda: fleet.counts.closed[Closed.FULL] == 1)
        assert sum(agent.dialled.ended.done() for agent in agents) <= 1
        await until(lambda: fleet.hub.connected == 2)
        assert 800_000 < fleet.endpoint.unfinished < 1_000_000
        await fleet.hang_up()
        await until(lambda: fleet.hub.connected == 0)
        assert fleet.endpoint.unfinished == 0


async def test_a_bad_message_in_two_parts_leaves_nothing_unfinished(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1")
        agent.dialled.transport.write(masked(300_000) + bytes(200_000))
        await until(lambda: fleet.endpoint.unfinished)
        agent.dialled.transport.write(bytes(100_000))
        await asyncio.wait_for(agent.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.BAD_FRAME: 1}
        assert fleet.endpoint.unfinished == 0


async def test_a_bad_message_before_part_of_another_leaves_nothing_unfinished(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1")
        agent.dialled.transport.write(masked(10) + bytes(10) + masked(300_000) + bytes(5000))
        await asyncio.wait_for(agent.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.BAD_FRAME: 1}
        assert fleet.endpoint.unfinished == 0


def masked(size: int) -> bytes:
    """The head of a message of so many bytes."""
    return b"\x82\xff" + size.to_bytes(8, "big") + bytes(4)


async def test_a_message_that_never_ends_is_silence(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(ping_every=0.5, silent_after=3.0)) as fleet:
        agent = await fleet.join("n1")
        agent.answers_ping = False
        agent.dialled.transport.write(b"\x82\xff" + (1 << 20).to_bytes(8, "big"))
        while not agent.dialled.ended.done():
            agent.dialled.transport.write(b"x")
            await asyncio.wait([agent.dialled.ended], timeout=0.1)
        assert fleet.counts.closed == {Closed.SILENT: 1}


async def test_a_speaker_of_another_protocol(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        link = await fleet.dial(fleet.token("n1"))
        link.send(wire.encode(Hello(wire.PROTOCOL + 1, 1, "9")))
        await asyncio.wait_for(link.ended, 60)
        _, run = await fleet.run()
        assert fleet.reasons(run)["n1"] == "link down: the agent speaks another version of the protocol"


async def test_runs_wait_for_agents_that_come_back_after_a_start(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, runs=RunSettings(warming=10.0)) as fleet:
        running = asyncio.create_task(fleet.run(seconds=60.0))
        await asyncio.sleep(0.3)
        await three(fleet)
        _, run = await running
        assert fleet.states(run) == {"n1": "ok", "n2": "ok", "n3": "ok"}


async def test_a_clock_that_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agents = await three(fleet)
        agents[2].answers_collect = False
        running = asyncio.create_task(fleet.run(seconds=2.0))
        await agents[2].collected.wait()
        real = time.time
        for step in (7200.0, -7200.0):
            monkeypatch.setattr(time, "time", lambda step=step: real() + step)
            fleet.hub.tick()
            assert all(fleet.hub.nodes[node].link for node in NODES), "links do not depend on the wall clock"
        began = time.monotonic()
        _, run = await running
        assert time.monotonic() - began < 2.0 + SLACK, "nor do deadlines"
        assert fleet.states(run) == {"n1": "ok", "n2": "ok", "n3": "timeout"}


async def test_after_a_break_a_hello_restores_what_is_unchanged(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1")
        await fleet.run()
        sections, outcome = list(agent._said.values()), agent._said_outcome
        agent.dialled.transport.abort()
        await until(lambda: fleet.hub.nodes["n1"].link is None)
        asked = len(agent.wants)
        link = await fleet.dial(fleet.token("n1"))
        link.send(wire.encode(Hello(1, 1, "v", sections, outcome, age=60.0)))
        await until(lambda: (known := fleet.hub.nodes["n1"].known) and known.version == "v")
        known = fleet.hub.nodes["n1"].known
        assert known is not None
        assert 50 < time.time() - known.at < 90
        assert len(agent.wants) == asked


async def test_no_room_for_all_content(tmp_path: Path) -> None:
    """Nodes whose content does not fit say so; the others, the run and the memory are as they should be."""
    async with scene(tmp_path, NODES) as fleet:
        small, *others = [await fleet.join(node, number) for number, node in zip((4, 0, 1), NODES, strict=True)]
        for agent in others:
            agent.answers_collect = False
        running = asyncio.create_task(fleet.run(seconds=3.0))
        await until(lambda: fleet.hub.nodes[small.name].known)
        store = fleet.fleet.store
        store._memory_limit, store._disk_limit = limit, _ = store.memory_bytes + 2000, 0
        for agent in others:
            await agent.collected.wait()
            agent.report_now()
        _, run = await running
        assert fleet.states(run) == {"n1": "ok", "n2": "timeout", "n3": "timeout"}
        assert fleet.reasons(run)["n3"] == "answered, but not all of its content arrived"
        assert fleet.counts.contents_refused > 0
        assert store.memory_bytes + store.disk_bytes <= limit
        _, run = await fleet.run(nodes="n1")
        assert fleet.states(run) == {"n1": "ok"}


async def test_thousands_of_different_facts_stay_bounded(tmp_path: Path) -> None:
    """An agent that reports something new in every run leaves nothing behind."""
    async with scene(tmp_path, ["n1"]) as fleet:
        agent = await fleet.join("n1")
        await fleet.run()
        kept = len(fleet.fleet.store)
        for number in range(20):
            agent.change(f"value {number}")
            await fleet.run()
        assert len(fleet.fleet.store) <= kept + 2
