"""Watching through everything that ends a watch."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from common.errors import Code
from common.kube.call import path_of
from common.kube.client import KubeError, Retry
from common.kube.types import Node
from common.kube.watch import Change, Reset, watch
from tests.common.kube.conftest import Connect
from tests.fakes.apiserver import FakeApiServer, Fault

NODES = path_of("v1", "nodes")
Events = AsyncGenerator[Reset[Node] | Change[Node], None]


def _node(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}}


async def _next(events: Events) -> tuple[str, list[str]]:
    event = await asyncio.wait_for(anext(events), 20)
    if isinstance(event, Reset):
        return "RESET", [node.metadata.name for node in event.items]
    return event.kind.value, [event.item.metadata.name]


async def test_a_watch_begins_with_what_is_there_and_goes_on(api: FakeApiServer, connect: Connect) -> None:
    api.add("nodes", _node("a"))
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", ["a"])
        api.add("nodes", _node("b"))
        assert await _next(events) == ("ADDED", ["b"])
        await kube.patch(path_of("v1", "nodes", "", "a"), {"metadata": {"labels": {"x": "y"}}}, Node)
        assert await _next(events) == ("MODIFIED", ["a"])
        api.remove("nodes", "b")
        assert await _next(events) == ("DELETED", ["b"])


async def test_a_watch_from_a_version_does_not_list(api: FakeApiServer, connect: Connect) -> None:
    api.add("nodes", _node("a"))
    version = str(api.store.version)
    api.add("nodes", _node("b"))
    async with connect() as kube, aclosing(watch(kube, NODES, Node, resource_version=version)) as events:
        assert await _next(events) == ("ADDED", ["b"])
    assert not api.asked("list", "nodes")


async def test_selectors_are_passed_on(api: FakeApiServer, connect: Connect) -> None:
    api.add("nodes", _node("a"))
    async with connect() as kube, aclosing(watch(kube, NODES, Node, {"labelSelector": "gpu=yes"})) as events:
        assert await _next(events) == ("RESET", [])
        api.add("nodes", _node("b"))
        api.add("nodes", _node("c", gpu="yes"))
        assert await _next(events) == ("ADDED", ["c"])


async def test_a_lost_connection_is_resumed_without_loss_or_repetition(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", [])
        for number in range(5):
            api.add("nodes", _node(f"n{number}"))
            assert await _next(events) == ("ADDED", [f"n{number}"])
            api.drop_watches()
    assert len(api.asked("list", "nodes")) == 1
    assert len(api.asked("watch", "nodes")) > 1


@pytest.mark.parametrize("fault", ["drop", "cut", "status", "html-status"])
async def test_a_server_that_comes_back(api: FakeApiServer, connect: Connect, fault: str) -> None:
    how = (
        Fault("status", "watch=true", times=3, status=503)
        if "status" in fault
        else Fault(fault, "watch=true", times=3)
    )
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", [])
        api.faults = [how]
        api.drop_watches()
        api.add("nodes", _node("a"))
        assert await _next(events) == ("ADDED", ["a"])


async def test_changes_that_are_gone_lead_to_a_new_list(api: FakeApiServer, connect: Connect) -> None:
    api.add("nodes", _node("a"))
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", ["a"])
        # Away while one goes, one comes, and the server forgets: only a list can tell.
        api.faults = [Fault("drop", "watch=true", times=2)]
        api.drop_watches()
        api.remove("nodes", "a")
        api.add("nodes", _node("b"))
        api.store.version += 1
        api.store.compact()
        assert await _next(events) == ("RESET", ["b"])
        api.add("nodes", _node("c"))
        assert await _next(events) == ("ADDED", ["c"])


async def test_an_expiry_told_within_the_watch(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", [])
        api.store.version += 5
        api.store.compact()
        api.add("nodes", _node("a"))
        assert await _next(events) == ("RESET", ["a"])


async def test_a_bookmark_moves_the_place_to_resume(api: FakeApiServer, connect: Connect) -> None:
    metadata = '{"resourceVersion": "555", "creationTimestamp": null}'  # as API servers up to 1.33 write it
    bookmark = f'{{"type": "BOOKMARK", "object": {{"kind": "Node", "metadata": {metadata}, "spec": {{}}}}}}\n'
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", [])
        api.faults = [Fault("text", "watch=true", message=bookmark)]
        api.store.version = 600
        api.add("nodes", _node("a"))
        assert await _next(events) == ("ADDED", ["a"])
    assert [call.query["resourceVersion"] for call in api.asked("watch", "nodes")] == ["100", "555"]
    assert len(api.asked("list", "nodes")) == 1


@pytest.mark.parametrize("text", ["no json\n", '{"type": "ODD", "object": {}}\n', '{"type": "ADDED"}\n'])
async def test_a_watch_that_is_none(api: FakeApiServer, connect: Connect, text: str) -> None:
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        await _next(events)
        api.faults = [Fault("text", "watch=true", message=text)]
        with pytest.raises(KubeError, match="something that is no watch event"):
            await _next(events)


async def test_watches_that_end_at_once_are_not_repeated_without_rest(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("text", "watch=true", times=10_000, message="")]
    retry = Retry(first=0.1, longest=0.1)
    async with connect(retry=retry) as kube, aclosing(watch(kube, NODES, Node)) as events:
        await _next(events)
        kube.deadline = time.monotonic() + 1.0
        with pytest.raises(KubeError):
            await _next(events)
    assert 1 < len(api.asked("watch", "nodes")) < 60


async def test_what_will_not_pass_ends_the_watch(api: FakeApiServer, connect: Connect) -> None:
    api.forbidden = {("watch", "nodes")}
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", [])
        with pytest.raises(KubeError, match="watch nodes is forbidden"):
            await _next(events)


async def test_the_deadline_ends_a_watch_that_hears_nothing(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", [])
        kube.deadline = time.monotonic() + 0.2
        with pytest.raises(KubeError) as caught:
            await _next(events)
    assert caught.value.code is Code.DEADLINE


async def test_the_deadline_says_what_was_wrong_before(api: FakeApiServer, connect: Connect) -> None:
    retry = Retry(attempts=1, first=0.05, longest=0.05)
    async with connect(retry=retry) as kube, aclosing(watch(kube, NODES, Node)) as events:
        assert await _next(events) == ("RESET", [])
        api.faults = [Fault("status", "watch=true", times=10_000, status=503)]
        kube.deadline = time.monotonic() + 1.0
        with pytest.raises(KubeError, match=r"before the deadline; before that, the API server .* made up") as caught:
            await _next(events)
    assert caught.value.code is Code.DEADLINE


async def test_the_deadline_does_not_strike_the_callers_own_code(api: FakeApiServer, connect: Connect) -> None:
    async with connect(seconds=1.0) as kube, aclosing(watch(kube, NODES, Node)) as events:
        await _next(events)
        api.add("nodes", _node("a"))
        await _next(events)
        await asyncio.sleep(1.1)  # past the deadline, but not in the watch


async def test_a_watch_that_is_left_closes_its_connection(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        async with aclosing(watch(kube, NODES, Node)) as events:
            await _next(events)
            api.add("nodes", _node("a"))
            await _next(events)
        session = kube._transport._session
        assert session is not None
        assert isinstance(session.connector, object)
        assert not session.connector._acquired  # type: ignore[union-attr]  # it has one
