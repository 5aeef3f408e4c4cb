"""An agent speaks for the node its token names, alone, and for no other."""

import asyncio
import time
from pathlib import Path

import pytest

from aggregator.link import Link
from aggregator.settings import LinkSettings
from aggregator.signer import LocalSigner
from common.wire import Closed, Renew
from tests.fleet.scene import Scene, scene, until

NODES = ["n1", "n2"]
QUICK = LinkSettings(challenge=0.3)


async def refused(fleet: Scene, token: str) -> tuple[int, str]:
    link = await fleet.dial(token)
    await asyncio.wait_for(link.ended, 60)
    return link.status, link.answer.decode()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda fleet: fleet.token("n1", now=time.time() - 7200), "expired"),
        (lambda fleet: fleet.token("n1", audience="kube-apiserver"), "unauthorized"),
        (lambda fleet: fleet.token("n1", claims={"sub": "system:serviceaccount:default:default"}), "unauthorized"),
        (lambda fleet: LocalSigner().token("n1"), "unauthorized"),
        (lambda fleet: fleet.local.user_token, "unauthorized"),
        (lambda fleet: "", "unauthorized"),
    ],
)
async def test_tokens_that_open_no_link(tmp_path: Path, make: object, reason: str) -> None:
    async with scene(tmp_path, NODES) as fleet:
        await fleet.join("n2")
        assert callable(make)
        assert await refused(fleet, make(fleet)) == (401, reason)
        assert sum(fleet.counts.refused.values()) == 1
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "no-agent", "n2": "ok"}


async def test_with_another_nodes_token_it_is_that_node_or_nobody(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        await fleet.join("n1", number=0)
        honest = await fleet.join("n2", number=1)
        # An agent on n1 shows n2's token, while n2's own agent lives.
        assert await refused(fleet, fleet.token("n2")) == (409, "duplicate")
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "ok", "n2": "ok"}
        assert not honest.dialled.ended.done()


async def test_renewing_with_another_nodes_token_ends_the_link(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1")
        agent.say(Renew(fleet.token("n2")))
        await asyncio.wait_for(agent.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.OTHER_NODE: 1}


async def test_renewing_goes_on_with_the_new_token(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1", token=fleet.token("n1", seconds=100))
        link = fleet.hub.nodes["n1"].link
        assert link is not None
        before = link.expires_at
        agent.say(Renew(fleet.token("n1", seconds=5000)))
        await until(lambda: link.expires_at > before + 4000)
        assert link.alive


async def test_renewing_with_a_token_that_is_not_valid_yet_changes_nothing(tmp_path: Path) -> None:
    """A local fleet's aggregator signs anew when its clock is set; agents read that a minute later."""
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1", token=fleet.token("n1", seconds=100))
        link = fleet.hub.nodes["n1"].link
        assert link is not None
        before = link.expires_at
        agent.say(Renew(fleet.token("n1", now=time.time() + 7200)))
        agent.say(Renew(fleet.token("n1", seconds=5000)))
        await until(lambda: link.expires_at > before)
        assert link.alive
        assert link.expires_at < before + 7200


async def test_a_link_does_not_outlive_its_token(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1", token=fleet.token("n1", seconds=1))
        await asyncio.wait_for(agent.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.EXPIRED: 1}
        _, run = await fleet.run()
        assert fleet.reasons(run)["n1"] == "link down: the agent's token expired"


async def test_twice_under_one_node_the_living_one_stays(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        first = await fleet.join("n1")
        assert await refused(fleet, fleet.token("n1")) == (409, "duplicate")
        assert not first.dialled.ended.done()
        assert fleet.counts.refused == {Closed.DUPLICATE: 1}
        _, run = await fleet.run()
        assert fleet.states(run)["n1"] == "ok"


async def test_an_aggregator_that_stood_still_takes_nobody_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene(tmp_path, NODES, QUICK) as fleet:
        first, ask = await fleet.join("n1"), fleet.hub.challenge

        def ask_and_stand_still(link: Link) -> None:
            ask(link)
            time.sleep(QUICK.challenge + 0.1)  # the whole process does

        monkeypatch.setattr(fleet.hub, "challenge", ask_and_stand_still)
        assert await refused(fleet, fleet.token("n1")) == (409, "duplicate")
        assert not first.dialled.ended.done()


async def test_an_agent_whose_connection_broke_unseen_gets_in_again(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, QUICK) as fleet:
        broken = await fleet.join("n1")
        broken.answers_ping = False
        await fleet.join("n1")
        await asyncio.wait_for(broken.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.SILENT: 1}
        _, run = await fleet.run()
        assert fleet.states(run)["n1"] == "ok"


async def test_the_agent_of_a_newer_pod_takes_over_at_once(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(challenge=30.0)) as fleet:
        old = await fleet.join("n1", token=fleet.token("n1", pod="old", now=time.time() - 60))
        await fleet.join("n1", token=fleet.token("n1", pod="new"))
        await asyncio.wait_for(old.dialled.ended, 60)
        assert fleet.counts.closed == {Closed.REPLACED: 1}
        _, run = await fleet.run()
        assert fleet.states(run)["n1"] == "ok"


async def test_a_replayed_token_older_than_the_newest_seen_opens_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        stolen = fleet.token("n1", now=time.time() - 600)
        agent = await fleet.join("n1")
        assert await refused(fleet, stolen) == (409, "duplicate")
        agent.dialled.transport.abort()
        await until(lambda: fleet.hub.nodes["n1"].link is None)
        assert await refused(fleet, stolen) == (409, "duplicate"), "not even when the node's agent is gone"


async def test_no_room_for_more_nodes(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES, LinkSettings(most_nodes=1)) as fleet:
        await fleet.join("n1")
        assert await refused(fleet, fleet.token("n2")) == (503, "full")


async def test_an_agent_cannot_report_for_another_node(tmp_path: Path) -> None:
    """Nothing in any frame names a node: what is said on a link is about the node of its token."""
    async with scene(tmp_path, NODES) as fleet:
        liar = await fleet.join("n1", number=0)
        honest = await fleet.join("n2", number=1)
        await fleet.run()
        before = {node: fleet.fleet.snapshot_of(node) for node in NODES}
        assert before["n1"] is not None
        assert before["n2"] is not None
        liar.change("666")
        # It even says that it has what the other node has, under the other's digests.
        liar._sections.update({kind: honest._sections[kind] for kind in list(honest._sections)[:2]})
        await fleet.run()
        after = {node: fleet.fleet.snapshot_of(node) for node in NODES}
        assert after["n2"] is not None
        assert after["n2"].measurements == before["n2"].measurements
        assert after["n1"] is not None
        assert after["n1"].metadata.source_node == "n1"
        assert after["n1"].measurements != before["n1"].measurements


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "there is nothing at this path"),
        (b"GET /v1/link HTTP/1.1\r\nHost: x\r\n\r\n", 426, "a WebSocket is expected"),
        (b"POST /v1/link HTTP/1.1\r\nHost: x\r\n\r\n", 405, "only GET"),
        (b"hello\r\n\r\n", 400, "not an HTTP/1.1 request"),
    ],
)
async def test_requests_that_no_agent_makes_are_told_where_they_are(
    tmp_path: Path, request_: bytes, status: int, why: str
) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        reader, writer = await asyncio.open_connection("127.0.0.1", fleet.link_port, ssl=fleet.context)
        writer.write(request_)
        head, _, text = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert text.decode() == f"{why}: only agents dial in here, by WebSocket at /v1/link\n"
        assert fleet.counts.refused == {"no-websocket": 1}
