"""The client against a server that really answers over HTTP, and misbehaves."""

import asyncio
import time

import msgspec
import pytest

from common.errors import Code
from common.kube import client
from common.kube.call import path_of
from common.kube.client import Kube, KubeError, Retry
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from common.kube.types import ConfigMap, Metadata, Node, VersionInfo
from tests.common.kube.conftest import Connect
from tests.fakes.apiserver import FakeApiServer, Fault

NODES = path_of("v1", "nodes")
MAPS = path_of("v1", "configmaps", "x")
MAP = path_of("v1", "configmaps", "x", "c")


def _node(name: str) -> dict[str, object]:
    return {
        "metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]},
    }


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 3)


async def test_get_decodes_the_fields_we_read(api: FakeApiServer, connect: Connect) -> None:
    api.add("nodes", _node("gpu-1"))
    async with connect() as kube:
        node = await kube.get(path_of("v1", "nodes", "", "gpu-1"), Node)
        version = await kube.get("/version", VersionInfo)
    assert (node.metadata.name, node.metadata.labels, node.spec.taints[0].effect) == (
        "gpu-1",
        {"a": "b"},
        "NoSchedule",
    )
    assert version.git_version == "v1.36.3"


async def test_get_bytes_is_what_the_server_sent(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        assert msgspec.json.decode(await kube.get_bytes("/version"))["goVersion"] == "go1.26.0"


async def test_a_list_is_read_in_pages(api: FakeApiServer, connect: Connect, small_pages: None) -> None:
    names = [f"n{number:02}" for number in range(10)]
    for name in names:
        api.add("nodes", _node(name))
    async with connect() as kube:
        nodes, version = await kube.list(NODES, Node)
    assert [node.metadata.name for node in nodes] == names
    assert version == str(api.store.version)
    assert [call.query.get("limit") for call in api.calls] == ["3"] * 4


async def test_an_empty_list(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        assert await kube.list(NODES, Node) == ([], str(api.store.version))


async def test_a_list_that_expires_begins_again_and_repeats_nothing(
    api: FakeApiServer, connect: Connect, small_pages: None
) -> None:
    for number in range(7):
        api.add("nodes", _node(f"n{number}"))

    def expire_once(asked: object) -> None:
        if len(api.calls) == 2:
            api.add("nodes", _node("n9"))
            api.store.compact()

    api.before = expire_once
    async with connect() as kube:
        nodes, _ = await kube.list(NODES, Node)
    assert [node.metadata.name for node in nodes] == [f"n{n}" for n in (0, 1, 2, 3, 4, 5, 6, 9)]


async def test_a_list_that_always_expires_is_asked_for_whole(
    api: FakeApiServer, connect: Connect, small_pages: None
) -> None:
    for number in range(7):
        api.add("nodes", _node(f"n{number}"))

    def expire(asked: object) -> None:
        if "continue" in api.calls[-1].query:
            api.store.version += 1
            api.store.compact()

    api.before = expire
    async with connect() as kube:
        nodes, _ = await kube.list(NODES, Node)
    assert len(nodes) == 7
    assert ["limit" in call.query for call in api.calls] == [True, True, True, True, False]


async def test_refused_busy_and_broken_calls_are_tried_again(api: FakeApiServer, connect: Connect) -> None:
    api.add("nodes", _node("n"))
    for how in ("drop", "cut", "late"):
        api.faults = [Fault(how, times=2)]
        async with connect() as kube:
            assert len((await kube.list(NODES, Node))[0]) == 1
    for status in (429, 500, 502, 503, 504):
        api.faults = [Fault("status", status=status, times=3)]
        async with connect() as kube:
            assert len((await kube.list(NODES, Node))[0]) == 1


async def test_at_most_so_many_attempts(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", status=503, times=100)]
    async with connect() as kube:
        with pytest.raises(KubeError) as caught:
            await kube.get("/version", VersionInfo)
    assert caught.value.code is Code.CLUSTER_FAILED
    assert len(api.calls) == 4


async def test_what_is_final_is_not_tried_again(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        with pytest.raises(KubeError, match="configmaps c in namespace x was not found") as caught:
            await kube.get(MAP, ConfigMap)
    assert caught.value.code is Code.CLUSTER_NOT_FOUND
    assert len(api.calls) == 1


async def test_retry_after_is_honoured(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", status=429, headers={"Retry-After": "1"})]
    started = time.monotonic()
    async with connect() as kube:
        await kube.get("/version", VersionInfo)
    assert time.monotonic() - started >= 1


async def test_no_attempt_is_made_that_the_server_asks_for_too_late(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", status=429, headers={"Retry-After": "3600"}, times=2)]
    async with connect() as kube:
        with pytest.raises(KubeError) as caught:
            await kube.get("/version", VersionInfo)
    assert caught.value.code is Code.CLUSTER_THROTTLED
    assert len(api.calls) == 1


async def test_creating_is_not_repeated_when_it_may_have_happened(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("late", match="POST")]
    async with connect() as kube:
        with pytest.raises(KubeError) as caught:
            await kube.create(MAPS, {"metadata": {"name": "c"}}, ConfigMap)
        assert caught.value.code is Code.CLUSTER_UNREACHABLE
        with pytest.raises(KubeError) as caught:
            await kube.create(MAPS, {"metadata": {"name": "c"}}, ConfigMap)
    assert (caught.value.code, caught.value.reason) == (Code.CLUSTER_CONFLICT, "AlreadyExists")
    assert len(api.asked("create", "configmaps")) == 2


async def test_the_deadline_holds_for_a_server_that_never_answers(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("hang")]
    async with connect(seconds=0.2) as kube:
        with pytest.raises(KubeError) as caught:
            await kube.get("/version", VersionInfo)
    assert caught.value.code is Code.DEADLINE
    assert caught.value.message == f"the API server {api.url} did not get /version before the deadline"


async def test_the_deadline_holds_between_attempts(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", status=500, times=1000)]
    async with connect(seconds=1.0, retry=Retry(attempts=1000, first=0.05, longest=0.05)) as kube:
        with pytest.raises(KubeError):
            await kube.get("/version", VersionInfo)
    assert 1 < len(api.calls) < 1000


async def test_an_answer_past_the_limit(
    api: FakeApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_BYTES", 1 << 19)
    # Packed it is small; what counts is what would be held in memory.
    api.add("configmaps", {"metadata": {"name": "c"}, "data": {"k": "x" * 1_048_000}}, "x")
    async with connect() as kube:
        with pytest.raises(KubeError, match="longer than 524288 bytes"):
            await kube.get(MAP, ConfigMap)


async def test_a_login_page_instead_of_json(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("html")]
    async with connect() as kube:
        with pytest.raises(KubeError, match="not the JSON expected") as caught:
            await kube.get("/version", VersionInfo)
    assert caught.value.code is Code.CLUSTER_FAILED


async def test_a_redirect_is_not_followed(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", status=302, headers={"Location": f"{api.url}/elsewhere"})]
    async with connect(token="hunter2") as kube:
        with pytest.raises(KubeError, match="hardly an API server"):
            await kube.get("/version", VersionInfo)
    assert len(api.calls) == 1


async def test_nobody_listens() -> None:
    target = Target(server="http://localhost:1", credentials=FixedCredentials(Credential()))
    async with Kube(target, retry=Retry(attempts=2, first=0.001)) as kube:
        with pytest.raises(KubeError) as caught:
            await kube.get("/version", VersionInfo)
    assert caught.value.code is Code.CLUSTER_UNREACHABLE
    assert caught.value.message == "the API server http://localhost:1 cannot be reached: connection refused"


async def test_a_name_that_does_not_resolve() -> None:
    target = Target(server="https://nowhere.invalid", credentials=FixedCredentials(Credential()))
    async with Kube(target, retry=Retry(attempts=1)) as kube:
        with pytest.raises(KubeError, match="its name does not resolve"):
            await kube.get("/version", VersionInfo)


async def test_apply_creates_changes_and_keeps_what_others_own(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        first = await kube.apply(MAP, {"metadata": {"name": "c"}, "data": {"a": "1", "b": "2"}}, ConfigMap)
        await kube.patch(MAP, {"metadata": {"labels": {"team": "x"}}}, Metadata)
        second = await kube.apply(MAP, {"metadata": {"name": "c"}, "data": {"a": "3"}}, ConfigMap)
        assert (first.data, second.data) == ({"a": "1", "b": "2"}, {"a": "3"})
        assert (await kube.get(MAP, ConfigMap)).metadata.labels == {"team": "x"}


async def test_apply_at_a_version_that_is_not_the_current(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        old = await kube.apply(MAP, {"data": {"a": "1"}}, ConfigMap)
        await kube.apply(MAP, {"data": {"a": "2"}}, ConfigMap)
        body = {"metadata": {"resourceVersion": old.metadata.resource_version}, "data": {"a": "3"}}
        with pytest.raises(KubeError) as caught:
            await kube.apply(MAP, body, ConfigMap)
    assert caught.value.code is Code.CLUSTER_CONFLICT


async def test_replace_and_delete(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        made = await kube.create(MAPS, {"metadata": {"name": "c"}, "data": {"a": "1"}}, ConfigMap)
        changed = await kube.replace(MAP, {"metadata": {"name": "c"}, "data": {"b": "2"}}, ConfigMap)
        assert changed.data == {"b": "2"}
        with pytest.raises(KubeError):
            await kube.delete(MAP, preconditions={"uid": "another"})
        assert await kube.delete(MAP, preconditions={"uid": made.metadata.uid})
        assert not await kube.delete(MAP)
        with pytest.raises(KubeError):
            await kube.delete(MAP, missing_ok=False)


async def test_forbidden_names_verb_resource_and_namespace(api: FakeApiServer, connect: Connect) -> None:
    api.forbidden = {("list", "configmaps")}
    async with connect() as kube:
        with pytest.raises(KubeError, match="list configmaps in namespace x is forbidden") as caught:
            await kube.list(MAPS, ConfigMap)
    assert caught.value.code is Code.CLUSTER_FORBIDDEN


async def test_cancelling_ends_a_call_at_once(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("hang")]
    async with connect() as kube:
        task = asyncio.create_task(kube.get("/version", VersionInfo))
        await asyncio.to_thread(api.was_asked.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_many_calls_at_once(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        answers = await asyncio.gather(*(kube.get("/version", VersionInfo) for _ in range(50)))
    assert len(answers) == 50


def test_backoff_grows_is_random_and_bounded(connect: Connect) -> None:
    kube = Kube(
        Target(server="http://x", credentials=FixedCredentials(Credential())), retry=Retry(first=1.0, longest=8.0)
    )
    for failures, most in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (5000, 8)):
        pauses = {kube.pause(failures, None) for _ in range(200)}
        assert len(pauses) > 100
        assert 0 <= min(pauses) < most / 2 < max(pauses) <= most
