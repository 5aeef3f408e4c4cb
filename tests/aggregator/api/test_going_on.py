"""What users see of an aggregator that goes on where another ended: everything as it was, and what changed since."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

from aggregator.published import read_published
from common.fleet import FleetSnapshot
from common.formats import Format, dump_plain
from tests.aggregator.api.test_http import NODES, User, api
from tests.aggregator.api.test_watch import watching


@asynccontextmanager
async def gone_on(directory: Path) -> AsyncIterator[tuple[User, FleetSnapshot]]:
    """A user of the second aggregator, to which no agent has come yet, and what the first has published."""
    async with api(directory / "first") as user:
        document, _ = await user.fleet.run()
    async with api(directory / "second", join=0) as user:
        user.fleet.fleet.resume(read_published(dump_plain(document, Format.YAML), "it"))
        yield user, document


async def test_the_last_snapshot_is_what_it_was(tmp_path: Path) -> None:
    async with gone_on(tmp_path) as (user, document):
        run = document.metadata.run
        assert (await user.get("/v1/snapshot"))["metadata"]["run"] == run
        assert await user.get(f"/v1/runs/{run}/snapshot") == await user.get("/v1/snapshot")
        progress = await user.get(f"/v1/runs/{run}")
        assert (progress["state"], progress["states"]) == ("done", document.summary.states)
        nodes = {item["node"]: item for item in (await user.get("/v1/nodes"))["items"]}
        assert {name: (node["state"], node["connected"]) for name, node in nodes.items()} == {
            name: ("ok" if number < 3 else "no-agent", False) for number, name in enumerate(NODES)
        }
        assert len((await user.get("/v1/groups"))["items"]) == document.summary.groups
        assert (await user.get("/v1/outliers"))["items"] == []
        values = (await user.get("/v1/facts/OS.sysctl./proc/sys/vm/swappiness"))["values"]
        assert sum(value["count"] for value in values) == 3
        status, body, _ = await user.ask("POST", "/v1/query", json={"expression": 'OS.release.ID != ""'})
        assert (status, json.loads(body)["matched"], json.loads(body)["run"]) == (200, 3, run)
        _, metrics, _ = await user.ask("GET", "/metrics")
        assert b'eidos_nodes{state="ok"} 3.0' in metrics
        assert b"eidos_run_seconds" not in metrics, "how long that took nobody knows any more"


async def test_what_the_document_does_not_hold_is_not_known_rather_than_not_there(tmp_path: Path) -> None:
    """Each node's own facts: no agent has told them to the one that goes on."""
    serial = "OS.firmware.dmi.product_serial"
    async with gone_on(tmp_path) as (user, _):
        for expression in (f"has({serial})", f"!has({serial})", f"{serial} == 'x'", f"{serial} != 'x'"):
            answer = await user.get(f"/v1/query?expression={quote(expression, safe='')}")
            assert (answer["undecided"], answer["nowhere"]) == (3, [])
            assert answer["groups"][0]["reason"] == f"{serial} was not read"
        view = await user.get(f"/v1/facts/{serial}")
        assert (view["unknown"], "own" in view) == ("n[1-3]", False)
        await user.fleet.join(NODES[0])
        await user.fleet.run(nodes=NODES[0])
        view = await user.get(f"/v1/facts/{serial}")
        assert (view["unknown"], list(view["own"])) == ("n[2-3]", ["n1"])
        answer = await user.get(f"/v1/query?expression=!has({serial})")
        assert (answer["not-matched"], answer["undecided"]) == (1, 2)


async def test_what_changed_meanwhile_is_drift(tmp_path: Path) -> None:
    async with gone_on(tmp_path) as (user, document), watching(user) as lines:
        start = await lines.until(lambda event: event["event"] == "start")
        assert (start["run"], start["states"]) == (document.metadata.run, document.summary.states)
        for number in range(3):
            agent = await user.fleet.join(NODES[number], number)
        agent.change("97")
        await user.ask("POST", "/v1/runs")
        drift = await lines.until(lambda event: event["event"] == "drift")
        assert (drift["before"], drift["nodes"], drift["more"]) == (document.metadata.run, NODES[2], 0)
        assert [(fact["key"], fact["after"]) for fact in drift["facts"]] == [("/proc/sys/vm/swappiness", "97")]
        last = await user.get("/v1/snapshot")
        assert last["metadata"]["run"] == drift["run"] != document.metadata.run
