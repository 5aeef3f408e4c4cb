"""A server that leads, is suspended and leads again; nodes that are gone for good."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from aggregator.duty import Duty
from aggregator.run import RunRequest
from aggregator.users import Access, Credentials, User
from common.fleet_api import RunState
from tests.aggregator.apiservice.served import served
from tests.fleet.scene import Scene, scene, until


async def ask(fleet: Scene, method: str, path: str) -> tuple[int, str]:
    """Status and text of one request of the fleet's user."""
    headers = {"Authorization": f"Bearer {fleet.local.user_token}"}
    url = f"https://localhost:{fleet.local.server.api_port}{path}"
    async with aiohttp.ClientSession() as session, session.request(
        method, url, ssl=fleet.context, headers=headers
    ) as answer:  # fmt: skip
        return answer.status, await answer.text()


async def test_suspended_it_shows_what_it_knows_and_asks_nobody(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        server = fleet.local.server
        await fleet.join("n1")
        document, _ = await fleet.run()
        silent = fleet.fleet.runs.start(RunRequest(seconds=60.0))
        await server.suspend("nobody knows who leads")
        assert (silent.state, silent.failure) == (RunState.FAILED, "nobody knows who leads")
        await until(lambda: fleet.hub.connected == 0)
        assert await ask(fleet, "GET", "/readyz") == (503, "suspended\n")
        assert (await ask(fleet, "GET", "/livez"))[0] == 200
        status, text = await ask(fleet, "GET", "/v1/snapshot")
        assert status == 200
        assert document.metadata.run in text
        status, text = await ask(fleet, "POST", "/v1/runs")
        assert status == 503
        assert "cannot tell at the moment whether it leads" in text
        with pytest.raises(OSError, match=r"."):
            await asyncio.open_connection("127.0.0.1", fleet.link_port)
        await server.lead()
        assert (await ask(fleet, "GET", "/readyz"))[0] == 200
        await fleet.join("n1")
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "ok"}


class Slow:
    """A `UserAuthenticator` that answers when told to."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def authenticate(self, credentials: Credentials) -> User:
        self.asked.set()
        await self.answer.wait()
        return User("u")

    async def refusal(self, user: User, access: Access) -> str:
        return ""


@pytest.mark.parametrize(
    ("path", "document"), [("/v1/runs", {}), ("fleetsnapshots", {"metadata": {"name": "mine"}, "spec": {}})]
)
async def test_who_was_let_in_before_it_was_suspended_starts_no_run_after(
    tmp_path: Path, path: str, document: dict[str, object]
) -> None:
    users = Slow()
    async with served(tmp_path, join=1, users=users) as api:
        server, runs = api.scene.local.server, api.scene.fleet.runs
        asked = asyncio.create_task(api.ask(path, "POST", json=document))
        await users.asked.wait()
        await server.suspend("nobody knows who leads")
        users.answer.set()
        answer = await asked
        assert answer.status == 429, answer.body
        assert b"no run can start: nobody knows who leads" in answer.body
        assert (runs.remembered(), api.scene.fleet.latest) == ([], None), "all nodes would be unreachable in it"
        await server.lead()
        assert (await api.ask(path, "POST", json=document)).status in (200, 201)


async def test_a_standby_says_that_it_is_one_and_nothing_else(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"]) as fleet:
        fleet.local.server.duty = Duty.STANDBY
        for path in ("/v1/nodes", "/v1/snapshot", "/v1/runs/x"):
            status, text = await ask(fleet, "GET", path)
            assert status == 503
            assert "another one leads" in text
        assert await ask(fleet, "GET", "/readyz") == (503, "standby\n")
        assert (await ask(fleet, "GET", "/livez"))[0] == 200
        status, text = await ask(fleet, "GET", "/metrics")
        assert status == 200
        assert "eidos_leading 0.0" in text


async def test_nodes_that_are_gone_for_good_are_forgotten_unless_they_are_linked(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1", "n2", "n3"]) as fleet:
        for node in ("n1", "n2", "n3"):
            await fleet.join(node)
        fleet.links[1].transport.abort()
        fleet.links[2].transport.abort()
        await until(lambda: fleet.hub.connected == 1)
        fleet.hub.forget_nodes({"n3"})
        assert sorted(fleet.hub.nodes) == ["n1", "n3"]
        _, run = await fleet.run()
        assert fleet.states(run) == {"n1": "ok", "n2": "no-agent", "n3": "unreachable"}


async def test_another_machine_of_a_nodes_name_inherits_no_facts_from_a_link_that_is_still_up(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1", "n2"]) as fleet:
        for node in ("n1", "n2"):
            await fleet.join(node)
        await fleet.run()
        for node in ("n1", "n2"):
            fleet.hub.forget_node(node)
            assert fleet.fleet.snapshot_of(node) is None
        fleet.links[0].transport.abort()
        await until(lambda: fleet.hub.connected == 1)
        document, run = await fleet.run()
        assert fleet.states(run) == {"n1": "unreachable", "n2": "ok"}
        assert {entry.node: entry.facts_at is None for entry in run.entries} == {"n1": True, "n2": False}
        assert [group.nodes for group in document.groups] == ["n2"], "what has not changed was not sent again"
