"""cm:// documents: whole or not at all, whoever else writes, dies or reads at the same time."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from common.errors import Code, InputError, OutputError
from common.kube.client import Kube, KubeError
from common.kube.configmaps import SHARDS, read_document
from tests.common.kube.conftest import Connect
from tests.common.kube.documents import data_of, names, noise, stored, write
from tests.fakes.apiserver import Asked, FakeApiServer, Fault

pytestmark = pytest.mark.usefixtures("small_shards")


async def test_shards_are_written_first_and_the_index_last(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        await write(kube, noise(1))
        await write(kube, noise(2))
    changes = [
        (call.method, "index" if call.path.endswith("/snap") else "shard")
        for call in api.calls
        if call.method != "GET"
    ]
    once = list(dict.fromkeys(changes))
    assert once == [("POST", "shard"), ("PATCH", "index"), ("PATCH", "shard"), ("DELETE", "shard")]
    assert changes.index(("PATCH", "index")) > 3


async def test_a_foreign_configmap_that_appears_in_the_same_moment(api: FakeApiServer, connect: Connect) -> None:
    def somebody_creates(asked: Asked) -> None:
        if asked.verb == "patch" and "snap" not in names(api):
            api.add("configmaps", {"metadata": {"name": "snap"}, "data": {"theirs": "yes"}}, "x")

    api.before = somebody_creates
    async with connect() as kube:
        with pytest.raises(OutputError, match="is left alone"):
            await write(kube, noise(1))
    assert data_of(api) == {"theirs": "yes"}
    assert not stored(api)["metadata"].get("labels")
    assert names(api) == {"snap"}


async def test_another_writer_in_between_is_noticed(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube, connect() as other:
        await write(kube, b"first")
        before = api.store.objects["configmaps"]["x", "snap"]["metadata"]["resourceVersion"]
        raced: list[str] = []

        def race(asked: Asked) -> None:
            if asked.verb == "patch" and len(raced) < 3:
                raced.append(asked.path)
                api.store.version += 1
                api.store.objects["configmaps"]["x", "snap"]["metadata"]["resourceVersion"] = str(api.store.version)

        api.before = race
        await write(kube, b"second")
        assert len(raced) == 3
        assert int(stored(api)["metadata"]["resourceVersion"]) > int(before)
        assert await read_document(other, "x", "snap") == b"second"


async def test_a_writer_who_never_gets_a_turn_says_so(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", "PATCH", times=1000, status=409, reason="Conflict")]
    async with connect() as kube:
        with pytest.raises(KubeError, match="somebody else changed it") as caught:
            await write(kube, b"x")
    assert caught.value.code is Code.CLUSTER_CONFLICT


@pytest.mark.parametrize("contents", [6, 2])
async def test_many_writers_at_once_leave_one_whole_document(
    api: FakeApiServer, connect: Connect, contents: int
) -> None:
    """With two contents among six writers, some share shards that others sweep."""
    documents = [noise(seed % contents) for seed in range(6)]
    async with connect() as kube:
        for _ in range(5):
            await asyncio.gather(*(write(kube, document) for document in documents))
            assert await read_document(kube, "x", "snap") in documents
            for found in list(api.store.objects["configmaps"].values()):
                found["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
            await write(kube, b"short")
            # What a writer left because another might have needed it goes when it is old.
            assert names(api) == {"snap"}


async def test_readers_see_whole_documents_while_writers_write(api: FakeApiServer, connect: Connect) -> None:
    documents = [noise(seed, 100 if seed % 3 == 0 else 20_000) for seed in range(12)]
    seen: set[bytes] = set()

    async def keep_reading(kube: Kube) -> None:
        while True:
            seen.add(await read_document(kube, "x", "snap"))

    async with connect() as kube:
        await write(kube, documents[0])
        readers = [asyncio.create_task(keep_reading(kube)) for _ in range(4)]
        for document in documents:
            await write(kube, document)
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
    old, new = noise(1), noise(2)
    async with connect() as kube:
        await write(kube, old)
        done = len([call for call in api.calls if call.method != "GET"])

        def kill(asked: Asked) -> None:
            if len([call for call in api.calls if call.method != "GET"]) - done > calls:
                raise ConnectionResetError

        api.before = kill
        writer = asyncio.create_task(write(kube, new))
        await asyncio.wait([writer], timeout=0.4)
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        api.before = lambda asked: None
        assert await read_document(kube, "x", "snap") in (old, new)
        await write(kube, b"short")
        assert await read_document(kube, "x", "snap") == b"short"


async def test_what_a_killed_writer_left_is_swept_when_it_is_old(api: FakeApiServer, connect: Connect) -> None:
    labels = {"app.kubernetes.io/component": "snapshot-shard", "eidos.nvidia.com/index": "snap"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = "2026-01-01T00:00:00Z"
    for name, created, index in (("old", before, "snap"), ("young", now, "snap"), ("other", before, "another")):
        meta = {"name": name, "creationTimestamp": created, "labels": labels | {"eidos.nvidia.com/index": index}}
        api.add("configmaps", {"metadata": meta, "binaryData": {"zstd": ""}}, "x")
    async with connect() as kube:
        await write(kube, b"short")
    assert names(api) == {"snap", "young", "other"}


async def test_a_shard_swept_under_our_hands_is_written_again(api: FakeApiServer, connect: Connect) -> None:
    swept: list[str] = []

    def sweep(asked: Asked) -> None:
        if asked.verb == "patch" and not asked.path.endswith("/snap") and not swept:
            swept.append(asked.path.rpartition("/")[2])
            api.remove("configmaps", swept[0], "x")

    api.before = sweep
    async with connect() as kube:
        await write(kube, noise(1))
        assert swept
        assert await read_document(kube, "x", "snap") == noise(1)


@pytest.mark.parametrize("missing", [True, False])
async def test_a_broken_document_is_never_half_read(api: FakeApiServer, connect: Connect, missing: bool) -> None:
    async with connect() as kube:
        await write(kube, noise(1))
        shard = sorted(names(api) - {"snap"})[1]
        if missing:
            api.remove("configmaps", shard, "x")
        else:
            stored(api, shard)["binaryData"]["zstd"] = "AAAA"
        with pytest.raises(InputError, match=f"cm://x/snap is not whole: its part {shard}"):
            await read_document(kube, "x", "snap")


async def test_shards_without_end_are_not_read_to_the_end(api: FakeApiServer, connect: Connect) -> None:
    """An index may list the same shard a thousand times; what it says of the document's size bounds what is read."""
    async with connect() as kube:
        await write(kube, noise(1))
        index = json.loads(data_of(api)[SHARDS])
        index["shards"] = index["shards"][:1] * 1000
        data_of(api)[SHARDS] = json.dumps(index)
        api.calls.clear()
        with pytest.raises(InputError, match="its parts are longer than its index says"):
            await read_document(kube, "x", "snap")
    assert len(api.calls) < 100


async def test_a_refused_index_leaves_no_shards(api: FakeApiServer, connect: Connect) -> None:
    api.forbidden = {("patch", "configmaps"), ("update", "configmaps")}
    async with connect() as kube:
        await write(kube, b"short")  # POST
        with pytest.raises(KubeError, match="update configmaps snap in namespace x is forbidden"):
            await write(kube, noise(1))
        assert await read_document(kube, "x", "snap") == b"short"
    assert names(api) == {"snap"}


async def test_a_failed_sweep_does_not_fail_the_write(
    api: FakeApiServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    api.forbidden = {("list", "configmaps")}
    async with connect() as kube:
        await write(kube, noise(1))
        assert await read_document(kube, "x", "snap") == noise(1)
    assert "may be left: list configmaps in namespace x is forbidden" in caplog.text
