"""ConfigMap eidos-fleet: only the leader writes it, whole, and what others do to it is undone."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from hashlib import sha256

import msgspec
import pytest

from aggregator.cluster.lease import Elector, Standing, Timing
from aggregator.cluster.publishing import LEADER, LeaderPublisher
from aggregator.names import NodeNames
from aggregator.publish import FLEET
from common.errors import EidosError, FleetError, OutputError
from common.fleet import FleetMetadata, FleetSnapshot, Group
from common.kube import configmap_writer, sharding
from common.kube.client import Kube
from common.kube.configmaps import COMPONENT, SHARDS, get_document
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
    group = Group(0, "x", 1, noise)
    return msgspec.structs.replace(small(run), groups=[group], node_table=[])


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
            await until(lambda: api.before is _nothing, 30)
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


async def until_shown(kube: Kube, run: str) -> None:
    """Until a reader finds it, ours and whole."""
    for _ in range(400):
        try:
            if await shown(kube) == run:
                return
        except EidosError:  # nothing there, or not whole
            await asyncio.sleep(0.02)
    raise AssertionError("not put back")


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
