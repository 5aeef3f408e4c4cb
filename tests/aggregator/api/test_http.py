"""The HTTP API over TLS: formats, errors, limits, and that it never costs more runs than asked."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from aggregator.api import views
from aggregator.settings import ApiSettings, RunSettings, Settings
from common.errors import Code, FleetError
from common.formats import Format, dump_plain
from tests.fleet.profiles import PROFILES, snapshot
from tests.fleet.scene import QUICK_RUNS, Scene, scene, until

NODES = [f"n{n}" for n in range(1, 6)]


class User:
    """A client with the fleet's token."""

    def __init__(self, fleet: Scene, session: aiohttp.ClientSession) -> None:
        self.fleet = fleet
        self.base = f"https://127.0.0.1:{fleet.local.server.api_port}"
        self.session = session
        self.token = fleet.local.user_token

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, bytes, Mapping[str, str]]:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        async with self.session.request(method, self.base + path, headers=headers, **options) as response:
            return response.status, await response.read(), response.headers.copy()

    async def get(self, path: str) -> Any:
        status, body, _ = await self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    async def problem(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        status, body, headers = await self.ask(method, path, **options)
        assert headers["Content-Type"].startswith("application/problem+json"), body
        told: dict[str, Any] = json.loads(body)
        assert told["status"] == status
        assert told["type"].startswith("urn:eidos:problem:")
        return told


@asynccontextmanager
async def api(
    directory: Path, join: int = 3, runs: RunSettings = QUICK_RUNS, limits: ApiSettings | None = None
) -> AsyncIterator[User]:
    settings = Settings(directory, api=limits or ApiSettings())
    async with scene(directory, NODES, runs=runs, settings=settings) as fleet:
        for number in range(join):
            await fleet.join(NODES[number], number)
        connector = aiohttp.TCPConnector(ssl=fleet.context, limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield User(fleet, session)


async def test_a_run_from_request_to_document(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        status, body, headers = await user.ask("POST", "/v1/runs", json={"seconds": 60})
        assert status == 200
        document = json.loads(body)
        assert document["kind"] == "FleetSnapshot"
        assert document["summary"]["states"] == {"ok": 3, "no-agent": 2}
        assert (await user.get(headers["Location"]))["state"] == "done"
        assert await user.get("/v1/snapshot") == document
        assert await user.get(f"{headers['Location']}/snapshot") == document


async def test_the_same_document_as_yaml(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        status, body, headers = await user.ask("POST", "/v1/runs", headers={"Accept": "application/yaml"})
        assert status == 200
        assert headers["Content-Type"] == "application/yaml"
        assert yaml.safe_load(body) == await user.get("/v1/snapshot")


async def test_progress_is_streamed_line_by_line(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        status, body, headers = await user.ask("POST", "/v1/runs", headers={"Accept": "application/x-ndjson"})
        assert (status, headers["Content-Type"]) == (200, "application/x-ndjson")
        lines = [json.loads(line) for line in body.splitlines()]
        assert lines[-1]["state"] == "done"
        assert lines[-1]["states"] == {"ok": 3, "no-agent": 2}
        assert lines[-1]["reasons"] == {"no agent has connected": 2}


async def test_a_run_nobody_waits_for(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        status, body, headers = await user.ask("POST", "/v1/runs", headers={"Prefer": "respond-async"})
        assert status == 202
        where = headers["Location"]
        run = user.fleet.fleet.runs.find(json.loads(body)["run"])
        assert run is not None
        await run.ended.wait()
        assert (await user.get(where))["state"] == "done"


async def test_only_the_nodes_and_sections_asked_for(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        _, body, _ = await user.ask("POST", "/v1/runs", json={"nodes": "n[1-2]", "sections": ["GPU"]})
        document = json.loads(body)
        assert document["summary"]["expected"] == 2
        assert [m["type"] for m in document["measurements"]] == ["GPU"]
        assert (await user.problem("GET", "/v1/snapshot"))["status"] == 404, (
            "the fleet's snapshot is of the whole fleet"
        )


async def test_the_fleets_snapshot_outlives_many_runs_of_less(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        _, _, first = await user.ask("POST", "/v1/runs")
        before = await user.get("/v1/snapshot")
        for number in range(5):
            await user.ask("POST", "/v1/runs", json={"nodes": f"n{number % 3 + 1}"})
        assert await user.get("/v1/snapshot") == before
        assert (await user.ask("GET", f"{first['Location']}/snapshot"))[0] == 200
        _, _, second = await user.ask("POST", "/v1/runs", json={"nodes": "n1"})
        for _ in range(3):
            await user.ask("POST", "/v1/runs", json={"nodes": "n2"})
        told = await user.problem("GET", f"{second['Location']}/snapshot")
        assert (told["status"], told["detail"]) == (404, "the run's document is no longer kept")


async def test_one_node_exactly_as_one_shot_mode_writes_it(tmp_path: Path) -> None:
    async with scene(tmp_path, NODES) as fleet:
        agent = await fleet.join("n1")
        agent.change("60")  # its pieces are now those of its own snapshot and no template's
        await fleet.run()
        read = fleet.fleet.snapshot_of("n1")
        expected = snapshot(PROFILES[0], "n1")
        assert read is not None
        assert read.collection == expected.collection
        stable = [m for m in read.measurements if m.type.value in ("GPU", "SystemD")]
        assert stable == [m for m in expected.measurements if m.type.value in ("GPU", "SystemD")]


async def test_nodes_groups_outliers_and_facts(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        listed = await user.get("/v1/nodes")
        assert [(item["node"], item["state"], item["connected"]) for item in listed["items"]] == [
            ("n1", "ok", True),
            ("n2", "ok", True),
            ("n3", "ok", True),
            ("n4", "no-agent", False),
            ("n5", "no-agent", False),
        ]
        node = await user.get("/v1/nodes/n2")
        assert (node["kind"], node["metadata"]["source-node"]) == ("Snapshot", "n2")
        assert [group["count"] for group in (await user.get("/v1/groups"))["items"]] == [1, 1, 1]
        assert (await user.get("/v1/outliers"))["items"] == []
        fact = await user.get("/v1/facts/OS.release.VERSION_ID")
        assert [(value["value"], value["count"]) for value in fact["values"]] == [("22.04", 2), ("24.04", 1)]
        unit = await user.get("/v1/facts/SystemD.kubelet.service.Property7")
        assert (unit["subtype"], unit["key"], unit["values"][0]["nodes"]) == (
            "kubelet.service",
            "Property7",
            "n[1-3]",
        )
        own = await user.get("/v1/facts/OS.firmware.dmi.product_serial?limit=2")
        assert list(own["own"]) == ["n1", "n2"]
        rest = await user.get(f"/v1/facts/OS.firmware.dmi.product_serial?after={own['more']}")
        assert list(rest["own"]) == ["n3"]


async def test_pages_of_nodes(tmp_path: Path) -> None:
    async with api(tmp_path, join=0) as user:
        seen, after = [], ""
        while True:
            page = await user.get(f"/v1/nodes?limit=2&after={after}")
            seen += [item["node"] for item in page["items"]]
            after = page["continue"]
            if not after:
                break
        assert seen == NODES
        await user.ask("POST", "/v1/runs")
        assert len((await user.get("/v1/nodes?state=no-agent,ok"))["items"]) == 5
        assert (await user.get("/v1/nodes?state=timeout"))["items"] == []


async def test_what_the_caller_has_already_is_not_sent_again(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        _, _, headers = await user.ask("GET", "/v1/snapshot")
        tag = headers["ETag"]
        status, body, _ = await user.ask("GET", "/v1/snapshot", headers={"If-None-Match": tag})
        assert (status, body) == (304, b"")
        status, _, _ = await user.ask(
            "GET", "/v1/snapshot", headers={"If-None-Match": tag, "Accept": "application/yaml"}
        )
        assert status == 200, "another format is another representation"
        await user.ask("POST", "/v1/runs")
        status, _, _ = await user.ask("GET", "/v1/snapshot", headers={"If-None-Match": tag})
        assert status == 200


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/v1/snapshot", {}, 404),
        ("GET", "/v1/groups", {}, 404),
        ("GET", "/v1/runs/none", {}, 404),
        ("GET", "/v1/nodes/n9", {}, 404),
        ("GET", "/v1/nodes/%2e%2e%2fetc", {}, 404),
        ("GET", "/v1/facts/nothing", {}, 404),
        ("GET", "/v2/snapshot", {}, 404),
        ("DELETE", "/v1/snapshot", {}, 405),
        ("GET", "/v1/nodes?limit=0", {}, 400),
        ("GET", "/v1/nodes?limit=1001", {}, 400),
        ("GET", "/v1/nodes?limit=x", {}, 400),
        ("GET", "/v1/nodes?limit=" + "9" * 500, {}, 400),
        ("GET", "/v1/nodes?limit=000000001" + "9" * 5000, {}, 400),
        ("GET", "/v1/nodes?limit=0000000019999999", {}, 400),
        ("GET", "/v1/watch?seconds=000000001" + "9" * 5000, {}, 400),
        ("GET", "/v1/watch?seconds=0000000019999999", {}, 400),
        ("GET", "/v1/nodes?state=asleep", {}, 400),
        ("GET", "/v1/nodes", {"headers": {"Accept": "text/html"}}, 406),
        ("GET", "/v1/nodes", {"headers": {"Accept": "application/json;q=0"}}, 406),
        ("POST", "/v1/runs", {"data": b"{"}, 400),
        ("POST", "/v1/runs", {"data": b"[]"}, 400),
        ("POST", "/v1/runs", {"data": b'{"nodes": 5}'}, 400),
        ("POST", "/v1/runs", {"data": b'{"unknown": 5}'}, 400),
        ("POST", "/v1/runs", {"data": b'{"seconds": -1}'}, 400),
        ("POST", "/v1/runs", {"data": b'{"seconds": 1e9}'}, 400),
        ("POST", "/v1/runs", {"data": b'{"seconds": 3000}'}, 400),
        ("POST", "/v1/runs", {"data": b'{"sections": ["Weather"]}'}, 400),
        ("POST", "/v1/runs", {"data": b'{"nodes": "n[1-"}'}, 400),
        ("POST", "/v1/runs", {"data": b'{"labels": "a b"}'}, 400),
        ("POST", "/v1/runs", {"data": b"x" * 70_000}, 413),
        ("POST", "/v1/runs", {"data": b"\xff\xfe"}, 400),
        ("POST", "/v1/runs", {"data": b"[" * 60_000}, 400),
    ],
)
async def test_problems(tmp_path: Path, method: str, path: str, options: dict[str, Any], status: int) -> None:
    async with api(tmp_path, join=0) as user:
        assert (await user.problem(method, path, **options))["status"] == status


async def test_a_fact_of_many_readings_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Each is tried on every node, in a thread that nobody can end."""
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        for parts, status in ((17, 400), (4_000, 400), (16, 404)):
            told = await user.problem("GET", f"/v1/facts/OS{'.a' * parts}")
            assert told["status"] == status
        assert "more than 16 parts" in (await user.problem("GET", f"/v1/facts/OS{'.a' * 17}"))["detail"]


async def test_facts_take_turns_or_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = threading.Semaphore(0), threading.Event()

    def slow(*_: object) -> None:
        began.release()
        may_end.wait(30)
        raise FleetError(Code.FLEET_NOT_FOUND, "nobody has it")

    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        monkeypatch.setattr(views, "fact", slow)
        asked = [asyncio.create_task(user.ask("GET", "/v1/facts/OS.a.b")) for _ in range(35)]
        for _ in range(2):
            assert await asyncio.to_thread(began.acquire, timeout=30)
        await until(lambda: sum(task.done() for task in asked) == 3)
        assert (await user.get("/v1/nodes/n1"))["kind"] == "Snapshot"
        assert not began.acquire(blocking=False), "two at a time"
        may_end.set()
        statuses = [status for status, _, _ in await asyncio.gather(*asked)]
        assert sorted(statuses) == [404] * 32 + [429] * 3


@pytest.mark.parametrize("path", ["/v1/snapshot", "/v1/nodes", "/v1/nodes/n1", "/v1/facts/x", "/metrics", "/nothing"])
async def test_nobody_unknown_gets_further(tmp_path: Path, path: str) -> None:
    async with api(tmp_path, join=0) as user:
        for token in ("", "wrong", user.fleet.token("n1")):
            told = await user.problem("GET", path, headers={"Authorization": f"Bearer {token}"})
            assert told["status"] == 401
        for open_path in ("/livez", "/readyz"):
            status, _, _ = await user.ask("GET", open_path, headers={"Authorization": ""})
            assert status == 200


async def test_fifty_equal_requests_at_once_cost_one_run(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        answers = await asyncio.gather(*(user.ask("POST", "/v1/runs") for _ in range(50)))
        documents = {body for _, body, _ in answers}
        assert {status for status, _, _ in answers} == {200}
        assert len(documents) == 1
        assert user.fleet.counts.runs == {"joined": 49, "done": 1}


async def test_callers_who_want_the_same_text_at_once_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_end = [], threading.Event()

    def slowly(value: object, form: Format) -> bytes:
        asked.append(value)
        may_end.wait(20)
        return dump_plain(value, form)

    monkeypatch.setattr("aggregator.api.negotiate.dump_plain", slowly)
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        yaml_please = {"headers": {"Accept": "application/yaml"}}
        asking = [asyncio.create_task(user.ask("GET", "/v1/snapshot", **yaml_please)) for _ in range(50)]
        await until(lambda: user.fleet.local.server.api_connections >= 50)
        await until(lambda: asked)
        asking.pop().cancel()
        may_end.set()
        answers = await asyncio.gather(*asking)
        assert {status for status, _, _ in answers} == {200}
        assert len({body for _, body, _ in answers}) == 1
        assert len(asked) < 10, "one, but for those who came when it was done"


async def test_fifty_different_requests_are_queued_or_refused(tmp_path: Path) -> None:
    runs = RunSettings(warming=0.0, at_once=2, queued=8)
    async with api(tmp_path, runs=runs) as user:
        requests = [{"seconds": 60 + n / 10} for n in range(50)]
        answers = await asyncio.gather(*(user.ask("POST", "/v1/runs", json=body) for body in requests))
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 10
        assert all("Retry-After" in headers for status, _, headers in answers if status == 429)
        assert (await user.ask("POST", "/v1/runs"))[0] == 200, "and afterwards all is well"


async def test_more_waiting_callers_than_allowed_are_refused(tmp_path: Path) -> None:
    async with api(tmp_path, limits=ApiSettings(most_waiting=3)) as user:
        answers = await asyncio.gather(*(user.ask("POST", "/v1/runs") for _ in range(10)))
        assert sorted({status for status, _, _ in answers}) == [200, 429]


async def test_a_caller_that_leaves_costs_nothing_and_the_run_goes_on(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        agents = user.fleet.hub.nodes
        asking = asyncio.create_task(user.ask("POST", "/v1/runs", json={"seconds": 60}))
        await until(lambda: any(node.link and node.link.asked for node in agents.values()) or asking.done())
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await user.ask("POST", "/v1/runs"))[0] == 200


async def test_metrics_name_no_node(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        _, body, headers = await user.ask("GET", "/metrics")
        text = body.decode()
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'eidos_nodes{state="ok"} 3.0' in text
        assert "eidos_links 3.0" in text
        assert "eidos_groups 3.0" in text
        assert 'eidos_runs_total{end="done"} 1.0' in text
        assert not any(f'"{node}"' in text for node in NODES)


async def test_the_published_files_are_the_config_maps_data(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        published = tmp_path / "published" / "eidos-fleet"
        await until((published / "snapshot.yaml").exists)
        document = yaml.safe_load((published / "snapshot.yaml").read_text())
        assert document == await user.get("/v1/snapshot")
        assert (published / "format").read_text() == "yaml"
        assert (published / "timestamp").read_text() == document["metadata"]["timestamp"]
        first = published.resolve()
        await user.ask("POST", "/v1/runs")
        await until(lambda: published.resolve() != first and not first.exists())
        assert len(list((tmp_path / "published").iterdir())) == 2
