"""ConfigMap eidos-fleet: only the leader writes it, whole, and what others do to it is undone."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from hashlib import sha256

import msgspec
import pytest

from aggregator.cluster.lease import Elector, Standing, Timing
from aggregator.cluster.publishing import LEADER, LeaderPublisher
from aggregator.names import NodeNames
from aggregator.publish import FLEET
from common.errors import EidosError, FleetError, OutputError
from common.fleet import FleetMetadata, FleetSnapshot
from common.formats import Format, dump_plain
from common.kube import configmap_writer, sharding
from common.kube.client import Kube, KubeError
from common.kube.configmaps import COMPONENT, DIGEST, SHARDS, get_document
from tests.aggregator.cluster.conftest import kube_of
from tests.aggregator.test_document import document_of, fleet
from tests.fakes.apiserver import Asked, FakeApiServer
from tests.fakes.objects import Json, RefusalError
from tests.fleet.scene import until

LONG = Timing(duration=300.0, renew_within=200.0, every=100.0, attempt=5.0)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes a megabyte in a cluster is done at once here."""
    for module in (sharding, configmap_writer):
        monkeypatch.setattr(module, "SHARD_BYTES", 16 << 10)


@cache
def _document() -> FleetSnapshot:
    nodes, contents = fleet(40, "counted")
    return msgspec.structs.replace(document_of(nodes, contents, NodeNames(nodes)), measurements=[])


def small(run: str) -> FleetSnapshot:
    metadata = FleetMetadata("1", run, "2026-01-01T00:00:00Z")
    return msgspec.structs.replace(_document(), metadata=metadata)


def large(run: str) -> FleetSnapshot:
    """Beyond one ConfigMap, in two shards."""
    noise = "".join(sha256(f"{run} {number}".encode()).hexdigest() for number in range(600))
    document = small(run)
    entry = msgspec.structs.replace(document.collection[0], reason=noise)
    return msgspec.structs.replace(document, collection=[entry])


def render(document: FleetSnapshot) -> bytes:
    return dump_plain(document, Format.YAML)


@asynccontextmanager
async def leading(kube: Kube, identity: str = "a") -> AsyncIterator[LeaderPublisher]:
    """The publisher of a leader that has taken over."""
    elector = Elector(kube, "eidos", "eidos-aggregator", identity, LONG)
    running = asyncio.create_task(elector.run())
    await until(lambda: elector.standing is Standing.LEADING)
    publisher = LeaderPublisher(kube, "eidos", elector)
    await publisher.take_over()
    try:
        yield publisher
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await elector.release()


async def shown(kube: Kube) -> str:
    """The run whose document a reader finds."""
    document = await get_document(kube, "eidos", FLEET)
    return _run_of(document.content)


def _run_of(content: bytes) -> str:
    found = re.search(rb"^  run: (\S+)$", content, re.MULTILINE)
    return found[1].decode() if found else ""


def depose(api: FakeApiServer) -> None:
    """Another leads now."""
    (lease,) = api.store.all("leases")
    lease["spec"]["holderIdentity"] = "b"


async def test_a_leader_publishes_and_a_deposed_one_does_not(api: FakeApiServer) -> None:
    async with kube_of(api) as kube, leading(kube) as publisher:
        await publisher.publish(small("run-1"))
        assert await shown(kube) == "run-1"
        depose(api)
        with pytest.raises(FleetError, match="no longer leads"):
            await publisher.publish(small("run-2"))
        assert await shown(kube) == "run-1"


async def test_a_write_decided_before_another_led_fails(api: FakeApiServer) -> None:
    """Held up between the question who leads and the write, the successor has the time to take over and publish."""
    async with kube_of(api) as kube, leading(kube) as old:
        await old.publish(small("run-1"))
        asked = False

        def hold_up(call: Asked) -> None:
            nonlocal asked
            if call.verb == "get" and call.plural == "leases":
                asked = True
            if asked and call.verb == "patch" and "apply" in call.headers.get("Content-Type", ""):
                depose(api)
                for index in api.store.all("configmaps"):
                    mark = {"metadata": {"annotations": {LEADER: "b since then"}}}
                    resource = next(each for each in api.resources if each.plural == "configmaps")
                    api.store.merge(resource, ("eidos", index["metadata"]["name"]), mark)
                api.before = lambda asked: None

        api.before = hold_up
        with pytest.raises(FleetError, match="no longer leads"):
            await old.publish(small("run-2"))
        assert await shown(kube) == "run-1"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", range(12))
async def test_a_publisher_killed_at_any_step_leaves_a_whole_document(
    api: FakeApiServer, step: int, before: bool
) -> None:
    """Killed just before, or just after, the API server carries out the so-many-th call of a publication."""
    first, second = large("run-1"), large("run-2")
    async with kube_of(api) as kube:
        async with leading(kube) as publisher:
            await publisher.publish(first)
            assert await shown(kube) == "run-1"
            kill_at(api, step, publisher, asyncio.create_task(publisher.publish(second)), before)
            await until(lambda: api.before is _nothing)
        assert await shown(kube) in ("run-1", "run-2")
        async with leading(kube, "b") as successor:
            await successor.publish(large("run-3"))
            assert await shown(kube) == "run-3"
            shards = [each for each in api.store.all("configmaps") if _component(each) == "snapshot-shard"]
            index = next(each for each in api.store.all("configmaps") if each["metadata"]["name"] == FLEET)
            assert index["data"][SHARDS].count('"name"') <= len(shards)


def _nothing(asked: Asked) -> None:
    return None


def kill_at(
    api: FakeApiServer, step: int, publisher: LeaderPublisher, publishing: "asyncio.Task[None]", before: bool
) -> None:
    """No more comes from the publisher after so many calls: as if its process were gone."""
    loop, left = asyncio.get_running_loop(), step

    def kill(asked: Asked) -> None:
        nonlocal left
        if "watch" in asked.query or (asked.plural == "leases" and asked.verb == "update"):
            return
        left -= 1
        if left < 0:
            api.before = _nothing
            loop.call_soon_threadsafe(publishing.cancel)
            if before:
                raise RefusalError(503, "ServiceUnavailable", "the caller is gone")

    def done(task: "asyncio.Task[None]") -> None:
        api.before = _nothing
        if not task.cancelled():
            task.exception()

    api.before = kill
    publishing.add_done_callback(done)


def _component(item: Json) -> str:
    label: str = item["metadata"].get("labels", {}).get(COMPONENT, "")
    return label


async def test_what_is_deleted_or_edited_is_put_back(api: FakeApiServer) -> None:
    async with kube_of(api) as kube, leading(kube) as publisher:
        following = asyncio.create_task(publisher.follow())
        await publisher.publish(large("run-1"))
        resource = next(each for each in api.resources if each.plural == "configmaps")
        for spoil in (_delete, _empty, _relabel, _delete_shard):
            spoil(api, resource)
            await until_shown(kube, "run-1")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def until_shown(kube: Kube, run: str, content: bytes = b"") -> None:
    """Until a reader finds it, ours and whole; to the byte where the content is given."""
    found = b""
    async with asyncio.timeout(60):
        while not (found == content if content else _run_of(found) == run):
            await asyncio.sleep(0.02)
            with suppress(EidosError):  # nothing there, or not whole
                found = (await get_document(kube, "eidos", FLEET)).content


def _delete(api: FakeApiServer, resource: object) -> None:
    api.remove("configmaps", FLEET, "eidos")


def _empty(api: FakeApiServer, resource: object) -> None:
    api.store.merge(resource, ("eidos", FLEET), {"data": None})  # type: ignore[arg-type]  # one of its own


def _relabel(api: FakeApiServer, resource: object) -> None:
    change = {"data": {"more": "x", SHARDS: None}, "metadata": {"labels": None}}
    api.store.merge(resource, ("eidos", FLEET), change)  # type: ignore[arg-type]  # one of its own


def _delete_shard(api: FakeApiServer, resource: object) -> None:
    shard = next(each for each in api.store.all("configmaps") if _component(each) == "snapshot-shard")
    api.remove("configmaps", shard["metadata"]["name"], "eidos")


async def test_somebody_elses_config_map_of_that_name_is_left_alone(api: FakeApiServer) -> None:
    api.add("configmaps", {"metadata": {"name": FLEET, "namespace": "eidos"}, "data": {"theirs": "x"}}, "eidos")
    async with kube_of(api) as kube, leading(kube) as publisher:
        with pytest.raises(OutputError, match="is left alone"):
            await publisher.publish(small("run-1"))
        with pytest.raises(OutputError, match="is left alone"):
            await publisher.mend()
    (index,) = api.store.all("configmaps")
    assert index["data"] == {"theirs": "x"}


async def test_a_publication_costs_a_handful_of_requests(api: FakeApiServer) -> None:
    async with kube_of(api) as kube, leading(kube) as publisher:
        await publisher.publish(small("run-1"))
        api.calls.clear()
        await publisher.publish(small("run-2"))
        ours = [call for call in api.calls if not (call.plural == "leases" and call.verb == "update")]
        assert len(ours) <= 5, [(call.verb, call.plural) for call in ours]


@pytest.mark.parametrize("made", [small, large], ids=["whole", "in shards"])
async def test_a_new_leader_goes_on_from_what_was_published(
    api: FakeApiServer, made: Callable[[str], FleetSnapshot]
) -> None:
    """It serves it, keeps it up to the byte, and publishes its own after it."""
    async with kube_of(api) as kube:
        async with leading(kube) as old:
            await old.publish(made("run-1"))
        written = (await get_document(kube, "eidos", FLEET)).content
        async with leading(kube, "b") as new:
            assert await new.read_back() == made("run-1")
            assert await new.read_back() is None, "once"
            following = asyncio.create_task(new.follow())
            resource = next(each for each in api.resources if each.plural == "configmaps")
            for spoil in (_delete, _empty, _relabel, _forget_digest):
                spoil(api, resource)
                await until(lambda: DIGEST in _index(api)["metadata"].get("annotations", {}))
                await until_shown(kube, "run-1", written)
            await new.publish(made("run-2"))
            assert await shown(kube) == "run-2"
            _delete(api, resource)
            await until_shown(kube, "run-2")
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_what_another_version_wrote_is_put_back_as_it_was(api: FakeApiServer) -> None:
    """With fields that we do not know, in an order that is not ours."""
    content = render(small("run-1")).replace(b"metadata:\n", b"metadata:\n  later: more\n")
    async with kube_of(api) as kube:
        await configmap_writer.write_document(kube, "eidos", FLEET, content, "yaml", lambda limit: b"")
        async with leading(kube) as publisher:
            assert await publisher.read_back() == small("run-1")
            api.remove("configmaps", FLEET, "eidos")
            await publisher.mend()
            assert (await get_document(kube, "eidos", FLEET)).content == content


async def test_our_own_document_is_never_replaced_by_what_is_read(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        async with leading(kube) as old:
            await old.publish(small("run-1"))
        async with leading(kube, "b") as new:
            await asyncio.gather(new.publish(small("run-2")), new.read_back())
            assert await new.read_back() is None
            await new.mend()
            assert await shown(kube) == "run-2"


@pytest.mark.parametrize("made", [small, large], ids=["whole", "in shards"])
@pytest.mark.parametrize("spoilt", ["edited", "emptied", "relabelled", "unsigned", "deleted", "theirs"])
async def test_what_somebody_touched_while_nobody_led_is_not_believed(
    api: FakeApiServer, caplog: pytest.LogCaptureFixture, spoilt: str, made: Callable[[str], FleetSnapshot]
) -> None:
    """It says so on one line, and leaves it as it is until there is a snapshot of its own."""
    resource = next(each for each in api.resources if each.plural == "configmaps")
    async with kube_of(api) as kube:
        async with leading(kube) as old:
            await old.publish(made("run-1"))
        if spoilt in ("deleted", "theirs"):
            api.remove("configmaps", FLEET, "eidos")
        if spoilt == "theirs":
            item = {"metadata": {"name": FLEET, "namespace": "eidos"}, "data": {"theirs": "x"}}
            api.add("configmaps", item, "eidos")
        elif spoilt != "deleted":
            changes: dict[str, Json] = {
                "edited": {"data": {"timestamp": "2026-01-01T00:00:01Z"}},
                "emptied": {"data": None},
                "relabelled": {"data": {"more": "x"}, "metadata": {"labels": None}},
                "unsigned": {"metadata": {"annotations": None}},
            }
            api.store.merge(resource, ("eidos", FLEET), changes[spoilt])
        left = [msgspec.json.encode(each.get("data")) for each in api.store.all("configmaps")]
        with caplog.at_level("INFO"):
            async with leading(kube, "b") as new:
                assert await new.read_back() is None
                await new.mend()
        assert left == [msgspec.json.encode(each.get("data")) for each in api.store.all("configmaps")]
        assert [line.getMessage() for line in caplog.records if "read back" in line.getMessage()] == ["not read back"]


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "another's"])
async def test_shards_that_are_not_what_the_index_says_are_not_believed(api: FakeApiServer, missing: bool) -> None:
    async with kube_of(api) as kube:
        async with leading(kube) as old:
            await old.publish(large("run-1"))
        shard = next(each for each in api.store.all("configmaps") if _component(each) == "snapshot-shard")
        if missing:
            api.remove("configmaps", shard["metadata"]["name"], "eidos")
        else:
            shard["binaryData"] = {"zstd": "AAAA"}
        async with leading(kube, "b") as new:
            assert await new.read_back() is None


async def test_reading_back_waits_for_an_api_server_that_is_away(api: FakeApiServer) -> None:
    async with kube_of(api) as kube, leading(kube) as publisher:
        await publisher.publish(small("run-1"))
    async with kube_of(api) as kube, leading(kube, "b") as new:

        def away(asked: Asked) -> None:
            if asked.plural == "configmaps":
                raise RefusalError(503, "ServiceUnavailable", "starting")

        api.before = away
        with pytest.raises(KubeError):
            await new.read_back()
        api.before = _nothing
        assert await new.read_back() == small("run-1")


def _index(api: FakeApiServer) -> Json:
    return next((each for each in api.store.all("configmaps") if each["metadata"]["name"] == FLEET), {"metadata": {}})


def _forget_digest(api: FakeApiServer, resource: object) -> None:
    change = {"metadata": {"annotations": {DIGEST: None}}}
    api.store.merge(resource, ("eidos", FLEET), change)  # type: ignore[arg-type]  # one of its own
