"""NodeSnapshots: lists, tables, selectors, pages, versions, watches."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.apiservice import facts, nodes
from aggregator.apiservice.nodes import NodeSource
from aggregator.ledger import Expected
from aggregator.users import GROUP_PATH
from common.fleet_api import API_PATH
from common.formats import load_snapshot
from tests.aggregator.apiservice.served import NODES, TABLE, TOKEN, Served, served
from tests.fleet.scene import until

METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
KINDS = ("nodesnapshots", "fleetsnapshots", "fleets")


def names(listed: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def test_a_list_has_states_and_facts_but_no_snapshots(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        before = await api.get("nodesnapshots")
        assert names(before) == NODES
        assert before["items"][0]["status"] == {"connected": True}
        await api.scene.run()
        await asyncio.sleep(0.25)  # what was seen is shown for a moment
        listed = await api.get("nodesnapshots")
        assert (listed["kind"], listed["apiVersion"]) == ("NodeSnapshotList", "fleet.eidos.nvidia.com/v1alpha1")
        first, last = listed["items"][0], listed["items"][-1]
        assert first["kind"] == "NodeSnapshot"
        assert first["metadata"]["labels"] == {"zone": "z0", "only": "n1"}
        shown = {key: first["status"][key] for key in ("state", "gpus", "gpuModel", "driver", "kernel", "os")}
        assert shown == {
            "state": "ok",
            "gpus": 8,
            "gpuModel": "NVIDIA H100 80GB HBM3",
            "driver": "570.86.15",
            "kernel": "6.8.0-57-generic",
            "os": "Linux 22.04",
        }
        assert last["status"] == {"connected": False, "state": "no-agent", "reason": "no agent has connected"}
        assert not any("snapshot" in item for item in listed["items"])


async def test_more_contents_than_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_FRESH", 0.0)
    monkeypatch.setattr(facts, "_MOST", 2)
    async with served(tmp_path, join=3) as api:
        for number in (3, 4):
            await api.scene.run()
            listed = await api.get("nodesnapshots")
            kernels = [item["status"].get("kernel") for item in listed["items"]]
            assert all(kernels[:number]), kernels
            await api.scene.join(NODES[number], number)


async def test_when_the_facts_were_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some nodes only, and nothing has changed but that."""
    monkeypatch.setattr(nodes, "_FRESH", 0.0)
    async with served(tmp_path, join=1) as api:
        await api.scene.run()
        known = api.scene.hub.nodes["n1"].known
        assert known is not None
        known.at -= 3600
        before = (await api.get("nodesnapshots/n1"))["status"]["collectedAt"]
        await api.scene.run(nodes="n1")
        assert (await api.get("nodesnapshots/n1"))["status"]["collectedAt"] > before


async def test_one_object_holds_the_snapshot_as_one_shot_mode_writes_it(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        await api.scene.run()
        item = await api.get("nodesnapshots/n2")
        read = load_snapshot(msgspec.json.encode(item["snapshot"]), "the object")
        assert read == api.scene.fleet.snapshot_of("n2")
        (systemd,) = [of for of in item["snapshot"]["measurements"] if of["type"] == "SystemD"]
        infinity = systemd["subtypes"][0]["data"]["CPUQuotaPerSecUSec"]
        assert infinity == "18446744073709551615", "kubectl would make a float of a number beyond int64"
        assert "snapshot" not in await api.get("nodesnapshots/n5")
        whole = await api.get("nodesnapshots", params={"include": "snapshot"})
        assert whole["items"][1]["snapshot"] == item["snapshot"]
        assert await api.status("nodesnapshots/n9", 404, "NotFound") == (
            'nodesnapshots.fleet.eidos.nvidia.com "n9" not found'
        )


async def test_a_table_is_what_kubectl_prints(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        await api.scene.run()
        table = await api.get("nodesnapshots", headers={"Accept": TABLE})
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        columns = table["columnDefinitions"]
        assert [column["name"] for column in columns if column["priority"] == 0] == [
            "Node", "State", "Group", "GPUs", "Driver", "Kernel", "Age",
        ]  # fmt: skip
        row = dict(zip((column["name"] for column in columns), table["rows"][0]["cells"], strict=True))
        assert (row["Node"], row["State"], row["GPUs"], row["Driver"]) == ("n1", "ok", "8", "570.86.15")
        assert row["Age"].endswith("s")
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        assert table["rows"][0]["object"]["metadata"]["labels"]["only"] == "n1"
        rows = {}
        for include in ("None", "Metadata", "Object"):
            table = await api.get("nodesnapshots", headers={"Accept": TABLE}, params={"includeObject": include})
            rows[include] = table["rows"][0]["object"]
        assert rows["None"] is None
        assert rows["Metadata"]["kind"] == "PartialObjectMetadata"
        assert rows["Object"]["status"]["driver"] == "570.86.15"
        one = await api.get("nodesnapshots/n5", headers={"Accept": TABLE})
        assert one["rows"][0]["cells"][:3] == ["n5", "no-agent", "<none>"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"labelSelector": "zone=z1"}, ["n2", "n4"]),
        ({"labelSelector": "zone!=z1,only in (n1, n3)"}, ["n1", "n3"]),
        ({"labelSelector": "only notin (n1,n2,n3)"}, ["n4", "n5"]),
        ({"labelSelector": "!zone"}, []),
        ({"fieldSelector": "metadata.name=n3"}, ["n3"]),
        ({"fieldSelector": "metadata.name!=n3,status.state=ok"}, ["n1", "n2"]),
        ({"fieldSelector": "status.state==no-agent", "labelSelector": "zone=z0"}, ["n5"]),
    ],
)
async def test_selectors(tmp_path: Path, query: dict[str, str], expected: list[str]) -> None:
    async with served(tmp_path) as api:
        await api.scene.run()
        assert names(await api.get("nodesnapshots", params=query)) == expected


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ({"labelSelector": "a=b=c"}, 400, "BadRequest"),
        ({"labelSelector": "a in (b"}, 400, "BadRequest"),
        ({"fieldSelector": "spec.x=1"}, 400, "BadRequest"),
        ({"labelSelector": ",".join(["!a"] * 65)}, 400, "BadRequest"),
        ({"fieldSelector": ",".join(["status.state!=ok"] * 65)}, 400, "BadRequest"),
        ({"limit": "-1"}, 400, "BadRequest"),
        ({"continue": "nonsense"}, 400, "BadRequest"),
        ({"resourceVersion": "1", "watch": "true"}, 410, "Expired"),
        ({"resourceVersion": "1", "resourceVersionMatch": "Exact"}, 410, "Expired"),
        ({"resourceVersion": "9000000000000000000"}, 504, "Timeout"),
    ],
)
async def test_what_cannot_be_answered(tmp_path: Path, query: dict[str, str], code: int, reason: str) -> None:
    async with served(tmp_path, join=0) as api:
        await api.status("nodesnapshots", code, reason, params=query)


async def test_forms_that_are_not_spoken(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        wanted = {"Accept": "application/vnd.kubernetes.protobuf"}
        await api.status("nodesnapshots", 406, "NotAcceptable", headers=wanted)
        metadata = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}
        listed = await api.get("nodesnapshots", headers=metadata)
        assert listed["kind"] == "PartialObjectMetadataList"
        assert listed["items"][0].keys() == {"kind", "apiVersion", "metadata"}


async def test_pages_show_the_moment_of_the_first(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        first = await api.get("nodesnapshots", params={"limit": "2"})
        assert names(first) == ["n1", "n2"]
        await api.scene.join("n4")
        await asyncio.sleep(0.25)
        now = await api.get("nodesnapshots")
        assert now["metadata"]["resourceVersion"] > first["metadata"]["resourceVersion"]
        assert now["items"][3]["status"]["connected"]
        second = await api.get("nodesnapshots", params={"limit": "2", "continue": first["metadata"]["continue"]})
        assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
        assert names(second) == ["n3", "n4"]
        assert not second["items"][1]["status"]["connected"]
        third = await api.get("nodesnapshots", params={"limit": "2", "continue": second["metadata"]["continue"]})
        assert (names(third), third["metadata"].get("continue")) == (["n5"], None)
        exact = {"resourceVersion": first["metadata"]["resourceVersion"], "resourceVersionMatch": "Exact"}
        assert not (await api.get("nodesnapshots", params=exact))["items"][3]["status"]["connected"]


async def test_nothing_changed_means_the_same_version(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        await api.scene.run()
        one = await api.get("nodesnapshots")
        await asyncio.sleep(0.25)
        assert await api.get("nodesnapshots") == one


async def follow(api: Served, **query: str) -> Any:
    listed = await api.get("nodesnapshots")
    return {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"], **query}


async def test_a_watch_tells_what_changes_after_its_version(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        async with api.watching("nodesnapshots", params=await follow(api)) as events:
            await api.scene.join("n4")
            event = await anext(events)
            assert (event["type"], event["object"]["metadata"]["name"]) == ("MODIFIED", "n4")
            assert event["object"]["status"]["connected"]
            api.expected = api.expected[:-1]
            event = await anext(events)
            assert (event["type"], event["object"]["metadata"]["name"]) == ("DELETED", "n5")
        resumed = {"watch": "true", "resourceVersion": event["object"]["metadata"]["resourceVersion"]}
        async with api.watching("nodesnapshots", params={**resumed, "timeoutSeconds": "1"}) as events:
            assert [event async for event in events] == [], "nothing twice, and it ends when asked to"


async def test_a_watch_outlives_a_read_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.apiservice.resource._LOOKS_EVERY", 0.01)
    async with served(tmp_path) as api, api.watching("nodesnapshots", params={"watch": "1"}) as events:
        for _ in NODES:
            await anext(events)
        failed = asyncio.Event()

        async def fail(self: NodeSource) -> bool:
            failed.set()
            raise OSError("input/output error")

        with monkeypatch.context() as broken:
            broken.setattr(NodeSource, "look", fail)
            await asyncio.wait_for(failed.wait(), 60)
        await api.scene.join(NODES[3], 3)
        event = await asyncio.wait_for(anext(events), 60)
        assert (event["type"], event["object"]["metadata"]["name"]) == ("MODIFIED", NODES[3])


async def test_a_watch_with_a_selector_sees_objects_come_and_go(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        query = await follow(api, labelSelector="zone=z0")
        async with api.watching("nodesnapshots", params=query) as events:
            one, two, *rest = api.expected
            api.expected = [
                msgspec.structs.replace(one, labels={"zone": "z1"}),
                msgspec.structs.replace(two, labels={"zone": "z0"}),
                *rest,
            ]
            seen = {(event["type"], event["object"]["metadata"]["name"]) for event in
                    (await anext(events), await anext(events))}  # fmt: skip
            assert seen == {("DELETED", "n1"), ("ADDED", "n2")}


async def test_a_watch_without_a_version_begins_with_all(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        query = {"watch": "1", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan",
                 "allowWatchBookmarks": "true", "timeoutSeconds": "1"}  # fmt: skip
        async with api.watching("nodesnapshots", params=query) as events:
            told = [event async for event in events]
        assert [event["type"] for event in told] == ["ADDED"] * 5 + ["BOOKMARK"]
        metadata = told[-1]["object"]["metadata"]
        assert metadata["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert int(metadata["resourceVersion"]) >= max(int(e["object"]["metadata"]["resourceVersion"]) for e in told)


@pytest.mark.parametrize(
    ("accept", "include", "of_row"),
    [
        ("application/json", "", ("NodeSnapshot", "fleet.eidos.nvidia.com/v1alpha1")),
        (METADATA, "", ("PartialObjectMetadata", "meta.k8s.io/v1")),
        (TABLE, "", ("PartialObjectMetadata", "meta.k8s.io/v1")),
        (TABLE, "Object", ("NodeSnapshot", "fleet.eidos.nvidia.com/v1alpha1")),
    ],
)
async def test_a_bookmark_has_the_form_of_what_it_stands_among(
    tmp_path: Path, accept: str, include: str, of_row: tuple[str, str]
) -> None:
    query = {"watch": "1", "sendInitialEvents": "true", "includeObject": include}
    async with (
        served(tmp_path, join=0) as api,
        api.watching("nodesnapshots", params=query, headers={"Accept": accept}) as events,
    ):
        for _ in NODES:
            added = await anext(events)
        bookmark = await anext(events)
    assert (added["type"], bookmark["type"]) == ("ADDED", "BOOKMARK")
    for told in (added["object"], bookmark["object"]):
        shown = told["rows"][0]["object"] if accept == TABLE else told
        assert (shown["kind"], shown["apiVersion"]) == of_row
    assert shown["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_as_tables_says_its_columns_once(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        query = {"watch": "true", "timeoutSeconds": "1"}
        async with api.watching("nodesnapshots", params=query, headers={"Accept": TABLE}) as events:
            tables = [event["object"] async for event in events]
        assert [bool(table["columnDefinitions"]) for table in tables] == [True, False, False, False, False]
        assert [table["rows"][0]["cells"][0] for table in tables] == NODES


async def test_many_watches_cost_one_look(tmp_path: Path) -> None:
    async with served(tmp_path, join=0) as api:
        query = await follow(api)

        async def first() -> str:
            async with api.watching("nodesnapshots", params=query) as events:
                name: str = (await anext(events))["object"]["metadata"]["name"]
                return name

        watches = [asyncio.create_task(first()) for _ in range(20)]
        await until(lambda: len(api.client.server.handler.connections) >= 20)
        await api.scene.join("n2")
        assert set(await asyncio.gather(*watches)) == {"n2"}


@pytest.mark.parametrize("path", [*(f"{GROUP_PATH}/{each}" for each in KINDS), "/v1/watch", f"{API_PATH}/v1/watch"])
async def test_what_is_streamed_has_no_head(tmp_path: Path, path: str) -> None:
    """A body after HEAD would be taken for the next answer on the connection."""
    async with served(tmp_path, join=0) as api:
        reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
        end = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        writer.write(f"HEAD {path} {end}\r\nGET /livez {end}Connection: close\r\n\r\n".encode())
        head, _, rest = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
        writer.close()
        assert head.startswith(b"HTTP/1.1 405")
        assert rest.startswith(b"HTTP/1.1 200")


async def test_who_does_not_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.apiservice.resource._TAKEN_WITHIN", 0.2)
    async with served(tmp_path, join=0) as api:
        much = {str(number): "x" * 63 for number in range(1000)}
        api.expected = [Expected(f"n{number}", labels=much) for number in range(200)]
        _, writer = await asyncio.open_connection(api.client.host, api.client.port, limit=1)
        head = f"GET {GROUP_PATH}/nodesnapshots HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        writer.write(head.encode())
        handler = api.client.server.handler
        assert handler is not None
        await until(lambda: len(handler.connections) == 1)
        await until(lambda: not handler.connections)
        writer.transport.abort()
