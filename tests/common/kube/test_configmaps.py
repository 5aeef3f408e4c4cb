"""cm:// documents: whole or not at all, whoever else writes, dies or reads at the same time."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common import refs
from common.errors import ClusterError, Code, InputError, OutputError
from common.kube import configmap_writer, sharding
from common.kube.choice import ClusterChoice
from common.kube.client import Kube, KubeError
from common.kube.configmap_writer import check_document, write_document
from common.kube.configmaps import delete_document, get_document, list_documents, read_document
from tests.common.kube.conftest import Connect
from tests.fakes.apiserver import Asked, FakeApiServer, Fault
from tests.fakes.kubeconfig import write_kubeconfig

OURS = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "snapshot"}
WHEN = datetime(2026, 1, 3, 10, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of a few KB needs shards, as one of a few MB does in earnest."""
    for module in (sharding, configmap_writer):
        monkeypatch.setattr(module, "SHARD_BYTES", 4000)


def _noise(seed: int, length: int = 20_000) -> bytes:
    """Text that does not pack well."""
    return bytes(random.Random(seed).choices(b"abcdefghijklmnopqrstuvwxyz0123456789", k=length))  # noqa: S311 - no secret


def _excerpt(limit: int) -> bytes:
    return b"kind: Snapshot # excerpt\n"


async def _write(kube: Kube, content: bytes, name: str = "snap", document_format: str = "yaml") -> None:
    await write_document(kube, "x", name, content, document_format, _excerpt, WHEN)


def _names(api: FakeApiServer) -> set[str]:
    return {name for _, name in api.store.objects.get("configmaps", {})}


def _map(api: FakeApiServer, name: str = "snap") -> dict[str, Any]:
    return api.store.objects["configmaps"]["x", name]


def _data(api: FakeApiServer) -> dict[str, str]:
    data = _map(api)["data"]
    assert isinstance(data, dict)
    return data


async def test_the_documented_shape(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, b"kind: Snapshot\n")
    found = _map(api)
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
            content = _noise(number, length)
            await _write(kube, content)
            document = await get_document(kube, "x", "snap")
            assert (document.content, document.format, document.timestamp) == (
                content,
                "yaml",
                "2026-01-03T10:30:00Z",
            )


async def test_a_long_document_is_in_shards_and_stays_readable(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, _noise(1))
    assert _data(api)["snapshot.yaml"] == "kind: Snapshot # excerpt\n"
    shards = _names(api) - {"snap"}
    assert len(shards) > 3
    for shard in shards:
        found = _map(api, shard)
        assert found["immutable"]
        assert found["metadata"]["labels"]["app.kubernetes.io/component"] == "snapshot-shard"
        assert [owner["uid"] for owner in found["metadata"]["ownerReferences"]] == [_map(api)["metadata"]["uid"]]


async def test_shards_are_written_first_and_the_index_last(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, _noise(1))
        await _write(kube, _noise(2))
    changes = [
        (call.method, "index" if call.path.endswith("/snap") else "shard")
        for call in api.calls
        if call.method != "GET"
    ]
    once = list(dict.fromkeys(changes))
    assert once == [("POST", "shard"), ("PATCH", "index"), ("PATCH", "shard"), ("DELETE", "shard")]
    assert changes.index(("PATCH", "index")) > 3


async def test_what_was_replaced_goes(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, _noise(1))
        first = _names(api)
        await _write(kube, _noise(2))
        assert _names(api) & first == {"snap"}
        await _write(kube, b"short")
        assert _names(api) == {"snap"}
        assert "shards.json" not in _data(api)


async def test_an_equal_document_keeps_its_shards(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, _noise(1))
        before = {name: _map(api, name)["metadata"]["uid"] for name in _names(api)}
        await _write(kube, _noise(1))
        assert {name: _map(api, name)["metadata"]["uid"] for name in _names(api)} == before


async def test_another_format_replaces_the_first(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, b"kind: Snapshot\n")
        await _write(kube, b"{}", document_format="json")
        assert _data(api).keys() == {"snapshot.json", "format", "timestamp"}
        assert (await get_document(kube, "x", "snap")).format == "json"


async def test_an_earlier_tools_document_is_taken_over(api: FakeApiServer, connect: Connect) -> None:
    old = {"snapshot.yaml": "kind: Snapshot", "format": "yaml", "timestamp": "2025-01-01T00:00:00Z"}
    api.add("configmaps", {"metadata": {"name": "snap", "labels": {"team": "a"}}, "data": old}, "x")
    async with connect() as kube:
        assert await read_document(kube, "x", "snap") == b"kind: Snapshot"
        await _write(kube, b"{}", document_format="json")
        assert await read_document(kube, "x", "snap") == b"{}"
    assert "snapshot.yaml" not in _data(api)
    assert _map(api)["metadata"]["labels"].items() >= {"team": "a", **OURS}.items()


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
            lambda: _write(kube, b"short"),
            lambda: _write(kube, _noise(1)),
            lambda: check_document(kube, "x", "snap"),
            lambda: delete_document(kube, "x", "snap"),
        ]
        for action in actions:
            with pytest.raises(OutputError, match="cm://x/snap is left alone"):
                await action()
    assert _map(api) == before
    assert _names(api) == {"snap"}


async def test_a_foreign_configmap_that_appears_in_the_same_moment(api: FakeApiServer, connect: Connect) -> None:
    def somebody_creates(asked: Asked) -> None:
        if asked.verb == "patch" and "snap" not in _names(api):
            api.add("configmaps", {"metadata": {"name": "snap"}, "data": {"theirs": "yes"}}, "x")

    api.before = somebody_creates
    async with connect() as kube:
        with pytest.raises(OutputError, match="is left alone"):
            await _write(kube, _noise(1))
    assert _data(api) == {"theirs": "yes"}
    assert not _map(api)["metadata"].get("labels")
    assert _names(api) == {"snap"}


async def test_a_foreign_shard_is_left_alone(api: FakeApiServer, connect: Connect) -> None:
    name = sharding.split(_noise(1), "snap")[0].shards[1].name
    api.add("configmaps", {"metadata": {"name": name}, "data": {"theirs": "yes"}}, "x")
    async with connect() as kube:
        with pytest.raises(OutputError, match="is left alone"):
            await _write(kube, _noise(1))
    assert _names(api) == {name}
    assert _map(api, name)["data"] == {"theirs": "yes"}


async def test_another_writer_in_between_is_noticed(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube, connect() as other:
        await _write(kube, b"first")
        before = api.store.objects["configmaps"]["x", "snap"]["metadata"]["resourceVersion"]
        raced: list[str] = []

        def race(asked: Asked) -> None:
            if asked.verb == "patch" and len(raced) < 3:
                raced.append(asked.path)
                api.store.version += 1
                api.store.objects["configmaps"]["x", "snap"]["metadata"]["resourceVersion"] = str(api.store.version)

        api.before = race
        await _write(kube, b"second")
        assert len(raced) == 3
        assert int(_map(api)["metadata"]["resourceVersion"]) > int(before)
        assert await read_document(other, "x", "snap") == b"second"


async def test_a_writer_who_never_gets_a_turn_says_so(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", "PATCH", times=1000, status=409, reason="Conflict")]
    async with connect() as kube:
        with pytest.raises(KubeError, match="somebody else changed it") as caught:
            await _write(kube, b"x")
    assert caught.value.code is Code.CLUSTER_CONFLICT


@pytest.mark.parametrize("contents", [6, 2])
async def test_many_writers_at_once_leave_one_whole_document(
    api: FakeApiServer, connect: Connect, contents: int
) -> None:
    """With two contents among six writers, some share shards that others sweep."""
    documents = [_noise(seed % contents) for seed in range(6)]
    async with connect() as kube:
        for _ in range(5):
            await asyncio.gather(*(_write(kube, document) for document in documents))
            assert await read_document(kube, "x", "snap") in documents
            for found in list(api.store.objects["configmaps"].values()):
                found["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
            await _write(kube, b"short")
            # What a writer left because another might have needed it goes when it is old.
            assert _names(api) == {"snap"}


async def test_readers_see_whole_documents_while_writers_write(api: FakeApiServer, connect: Connect) -> None:
    documents = [_noise(seed, 100 if seed % 3 == 0 else 20_000) for seed in range(12)]
    seen: set[bytes] = set()

    async def keep_reading(kube: Kube) -> None:
        while True:
            seen.add(await read_document(kube, "x", "snap"))

    async with connect() as kube:
        await _write(kube, documents[0])
        readers = [asyncio.create_task(keep_reading(kube)) for _ in range(4)]
        for document in documents:
            await _write(kube, document)
        await asyncio.sleep(0.05)
        for reader in readers:
            reader.cancel()
        results = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
    assert len(seen) > 1
    assert seen <= set(documents)


@pytest.mark.parametrize("calls", range(1, 9))
async def test_a_writer_killed_at_any_point_leaves_the_old_or_the_new(
    api: FakeApiServer, connect: Connect, calls: int
) -> None:
    """After so many changes the writer is gone for good: the server carries none of its calls out any more."""
    old, new = _noise(1), _noise(2)
    async with connect() as kube:
        await _write(kube, old)
        done = len([call for call in api.calls if call.method != "GET"])

        def kill(asked: Asked) -> None:
            if len([call for call in api.calls if call.method != "GET"]) - done > calls:
                raise ConnectionResetError

        api.before = kill
        writer = asyncio.create_task(_write(kube, new))
        await asyncio.wait([writer], timeout=0.4)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        api.before = lambda asked: None
        assert await read_document(kube, "x", "snap") in (old, new)
        await _write(kube, b"short")
        assert await read_document(kube, "x", "snap") == b"short"


async def test_what_a_killed_writer_left_is_swept_when_it_is_old(api: FakeApiServer, connect: Connect) -> None:
    labels = {"app.kubernetes.io/component": "snapshot-shard", "eidos.nvidia.com/index": "snap"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = "2026-01-01T00:00:00Z"
    for name, created, index in (("old", before, "snap"), ("young", now, "snap"), ("other", before, "another")):
        meta = {"name": name, "creationTimestamp": created, "labels": labels | {"eidos.nvidia.com/index": index}}
        api.add("configmaps", {"metadata": meta, "binaryData": {"zstd": ""}}, "x")
    async with connect() as kube:
        await _write(kube, b"short")
    assert _names(api) == {"snap", "young", "other"}


async def test_a_shard_swept_under_our_hands_is_written_again(api: FakeApiServer, connect: Connect) -> None:
    swept: list[str] = []

    def sweep(asked: Asked) -> None:
        if asked.verb == "patch" and not asked.path.endswith("/snap") and not swept:
            swept.append(asked.path.rpartition("/")[2])
            api.remove("configmaps", swept[0], "x")

    api.before = sweep
    async with connect() as kube:
        await _write(kube, _noise(1))
        assert swept
        assert await read_document(kube, "x", "snap") == _noise(1)


@pytest.mark.parametrize("missing", [True, False])
async def test_a_broken_document_is_never_half_read(api: FakeApiServer, connect: Connect, missing: bool) -> None:
    async with connect() as kube:
        await _write(kube, _noise(1))
        shard = sorted(_names(api) - {"snap"})[1]
        if missing:
            api.remove("configmaps", shard, "x")
        else:
            _map(api, shard)["binaryData"]["zstd"] = "AAAA"
        with pytest.raises(InputError, match=f"cm://x/snap is not whole: its part {shard}"):
            await read_document(kube, "x", "snap")


async def test_a_refused_index_leaves_no_shards(api: FakeApiServer, connect: Connect) -> None:
    api.forbidden = {("patch", "configmaps"), ("update", "configmaps")}
    async with connect() as kube:
        await _write(kube, b"short")  # POST
        with pytest.raises(KubeError, match="update configmaps snap in namespace x is forbidden"):
            await _write(kube, _noise(1))
        assert await read_document(kube, "x", "snap") == b"short"
    assert _names(api) == {"snap"}


async def test_the_documented_role_of_earlier_tools_is_enough(api: FakeApiServer, connect: Connect) -> None:
    api.forbidden = {("patch", "configmaps"), ("delete", "configmaps")}
    async with connect() as kube:
        for seed in (1, 2):
            await _write(kube, _noise(seed))
            assert await read_document(kube, "x", "snap") == _noise(seed)
        await check_document(kube, "x", "snap")


async def test_a_failed_sweep_does_not_fail_the_write(
    api: FakeApiServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    api.forbidden = {("list", "configmaps")}
    async with connect() as kube:
        await _write(kube, _noise(1))
        assert await read_document(kube, "x", "snap") == _noise(1)
    assert "may be left: list configmaps in namespace x is forbidden" in caplog.text


async def test_checking_writes_nothing(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await check_document(kube, "x", "snap")
    assert all(call.query.get("dryRun") == "All" for call in api.calls if call.method != "GET")


async def test_deleting(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, _noise(1))
        await _write(kube, b"other", name="other")
        assert await delete_document(kube, "x", "snap")
        assert _names(api) == {"other"}
        assert not await delete_document(kube, "x", "snap")


async def test_listing(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await _write(kube, b"{}", name="b", document_format="json")
        await _write(kube, _noise(1), name="a")
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
            await _write(kube, b"\xff")
        with pytest.raises(OutputError, match="too many to store"):
            await _write(kube, _noise(1, 300_000))
    assert not _names(api)


async def test_not_found(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        with pytest.raises(ClusterError, match="configmaps snap in namespace x was not found"):
            await read_document(kube, "x", "snap")


# ---- through references ----


@pytest.fixture
def cluster(api: FakeApiServer, tmp_path: Path) -> ClusterChoice:
    return ClusterChoice(write_kubeconfig(tmp_path / "kubeconfig", api.url), "test")


@pytest.mark.parametrize(
    ("content", "key"),
    [(b"kind: Snapshot\n", "snapshot.yaml"), (b'{"kind": 1}', "snapshot.json"), (b"Node  x\n", "snapshot.txt")],
)
def test_references(api: FakeApiServer, cluster: ClusterChoice, content: bytes, key: str) -> None:
    ref = refs.parse_ref("cm://x/snap")
    refs.check_writable(ref, cluster)
    refs.write(ref, content, cluster)
    assert _data(api)[key].encode() == content
    assert refs.read(ref, cluster=cluster) == content


def test_references_to_long_documents(api: FakeApiServer, cluster: ClusterChoice) -> None:
    ref = refs.parse_ref("cm://x/snap")
    content = b"\n".join(_noise(seed, 100) for seed in range(200))
    refs.write(ref, content, cluster)
    assert refs.read(ref, cluster=cluster) == content
    assert "left out of this text" in _data(api)["snapshot.txt"]
    with pytest.raises(InputError, match="longer than 100 bytes"):
        refs.read(ref, 100, cluster)


def test_references_raise_cluster_errors(api: FakeApiServer, cluster: ClusterChoice) -> None:
    with pytest.raises(ClusterError) as caught:
        refs.read(refs.parse_ref("cm://x/missing"), cluster=cluster)
    assert (caught.value.code, caught.value.exit_status) == (Code.CLUSTER_NOT_FOUND, 4)
