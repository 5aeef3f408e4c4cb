"""cm:// documents: what is written and read, and what is left alone."""

from collections.abc import Callable
from typing import Any

import pytest

from common.errors import ClusterError, InputError, OutputError
from common.kube import sharding
from common.kube.configmap_writer import check_document
from common.kube.configmaps import delete_document, get_document, list_documents, read_document
from tests.common.kube.conftest import Connect
from tests.common.kube.documents import OURS, data_of, names, noise, stored, write
from tests.fakes.apiserver import FakeApiServer

pytestmark = pytest.mark.usefixtures("small_shards")


async def test_the_documented_shape(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, b"kind: Snapshot\n")
    found = stored(api)
    assert found["data"] == {
        "snapshot.yaml": "kind: Snapshot\n",
        "format": "yaml",
        "timestamp": "2026-01-03T10:30:00Z",
    }
    assert OURS.items() <= found["metadata"]["labels"].items()
    assert "app.kubernetes.io/version" in found["metadata"]["labels"]
    assert found["metadata"]["managedFields"] == [{"manager": "eidos", "operation": "Apply"}]


async def test_what_is_written_is_read(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        for number, length in enumerate((0, 10, 4000, 4001, 20_000, 10, 60_000)):
            content = noise(number, length)
            await write(kube, content)
            document = await get_document(kube, "x", "snap")
            assert (document.content, document.format, document.timestamp) == (
                content,
                "yaml",
                "2026-01-03T10:30:00Z",
            )


async def test_a_long_document_is_in_shards_and_stays_readable(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, noise(1))
    assert data_of(api)["snapshot.yaml"] == "kind: Snapshot # excerpt\n"
    shards = names(api) - {"snap"}
    assert len(shards) > 3
    for shard in shards:
        found = stored(api, shard)
        assert found["immutable"]
        assert found["metadata"]["labels"]["app.kubernetes.io/component"] == "snapshot-shard"
        assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [stored(api)["metadata"]["uid"]]


async def test_what_was_replaced_goes(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, noise(1))
        first = names(api)
        await write(kube, noise(2))
        assert names(api) & first == {"snap"}
        await write(kube, b"short")
        assert names(api) == {"snap"}
        assert "shards.json" not in data_of(api)


async def test_an_equal_document_keeps_its_shards(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, noise(1))
        before = {name: stored(api, name)["metadata"]["uid"] for name in names(api)}
        await write(kube, noise(1))
        assert {name: stored(api, name)["metadata"]["uid"] for name in names(api)} == before


async def test_another_format_replaces_the_first(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, b"kind: Snapshot\n")
        await write(kube, b"{}", document_format="json")
        assert data_of(api).keys() == {"snapshot.json", "format", "timestamp"}
        assert (await get_document(kube, "x", "snap")).format == "json"


async def test_an_earlier_tools_document_is_taken_over(api: FakeApiServer, connect: Connect) -> None:
    old = {"snapshot.yaml": "kind: Snapshot", "format": "yaml", "timestamp": "2025-01-01T00:00:00Z"}
    api.add("configmaps", {"metadata": {"name": "snap", "labels": {"team": "a"}}, "data": old}, "x")
    async with connect() as kube:
        assert await read_document(kube, "x", "snap") == b"kind: Snapshot"
        await write(kube, b"{}", document_format="json")
        assert await read_document(kube, "x", "snap") == b"{}"
    assert "snapshot.yaml" not in data_of(api)
    assert stored(api)["metadata"]["labels"].items() >= {"team": "a", **OURS}.items()


@pytest.mark.parametrize(
    "foreign",
    [
        {"data": {"config.yaml": "a: b"}},
        {"data": {}},
        {"data": {"snapshot.yaml": "mine"}},
        {"data": {"snapshot.yaml": "a", "format": "yaml", "timestamp": "t", "mine": "b"}},
        {"data": {"format": "a", "timestamp": "t"}, "binaryData": {"a": ""}},
        {"metadata": {"labels": {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "aggregator"}}},
        {"metadata": {"labels": {"app.kubernetes.io/name": "other", "app.kubernetes.io/component": "snapshot"}}},
    ],
)
async def test_a_foreign_configmap_is_left_alone(
    api: FakeApiServer, connect: Connect, foreign: dict[str, Any]
) -> None:
    before = api.add("configmaps", {**foreign, "metadata": {"name": "snap", **foreign.get("metadata", {})}}, "x")
    async with connect() as kube:
        actions: list[Callable[[], Any]] = [
            lambda: write(kube, b"short"),
            lambda: write(kube, noise(1)),
            lambda: check_document(kube, "x", "snap"),
            lambda: delete_document(kube, "x", "snap"),
        ]
        for action in actions:
            with pytest.raises(OutputError, match="cm://x/snap is left alone"):
                await action()
    assert stored(api) == before
    assert names(api) == {"snap"}


async def test_a_foreign_shard_is_left_alone(api: FakeApiServer, connect: Connect) -> None:
    name = sharding.split(noise(1), "snap")[0].shards[1].name
    api.add("configmaps", {"metadata": {"name": name}, "data": {"theirs": "yes"}}, "x")
    async with connect() as kube:
        with pytest.raises(OutputError, match="is left alone"):
            await write(kube, noise(1))
    assert names(api) == {name}
    assert stored(api, name)["data"] == {"theirs": "yes"}


async def test_the_documented_role_of_earlier_tools_is_enough(api: FakeApiServer, connect: Connect) -> None:
    api.forbidden = {("patch", "configmaps"), ("delete", "configmaps")}
    async with connect() as kube:
        for seed in (1, 2):
            await write(kube, noise(seed))
            assert await read_document(kube, "x", "snap") == noise(seed)
        await check_document(kube, "x", "snap")


async def test_checking_writes_nothing(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await check_document(kube, "x", "snap")
    assert all(call.query.get("dryRun") == "All" for call in api.calls if call.method != "GET")


async def test_deleting(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, noise(1))
        await write(kube, b"other", name="other")
        assert await delete_document(kube, "x", "snap")
        assert names(api) == {"other"}
        assert not await delete_document(kube, "x", "snap")


async def test_listing(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, b"{}", name="b", document_format="json")
        await write(kube, noise(1), name="a")
        listed = await list_documents(kube, "x")
    assert [(item.name, item.format, item.sharded) for item in listed] == [("a", "yaml", True), ("b", "json", False)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"other": "x"}, r"holds no snapshot: it has no key snapshot.yaml \(keys: other\)"),
        ({}, r"\(keys: none\)"),
        ({"shards.json": "{}", "format": "yaml"}, "is not an index of shards"),
        ({"snapshot.yaml": "x" * 2000}, "is longer than 1000 bytes"),
    ],
)
async def test_what_cannot_be_read(api: FakeApiServer, connect: Connect, data: dict[str, str], message: str) -> None:
    api.add("configmaps", {"metadata": {"name": "snap"}, "data": data}, "x")
    async with connect() as kube:
        with pytest.raises(InputError, match=message):
            await read_document(kube, "x", "snap", 1000)


async def test_what_cannot_be_written(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        with pytest.raises(OutputError, match="not UTF-8"):
            await write(kube, b"\xff")
        with pytest.raises(OutputError, match="too many to store"):
            await write(kube, noise(1, 300_000))
    assert not names(api)


async def test_not_found(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        with pytest.raises(ClusterError, match="configmaps snap in namespace x was not found"):
            await read_document(kube, "x", "snap")
