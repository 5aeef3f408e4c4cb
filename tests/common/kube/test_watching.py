"""Several collections watched at the same time."""

import asyncio
from typing import Any

import pytest

from common.errors import Code
from common.kube.call import path_of
from common.kube.types import ConfigMap, Node
from common.kube.watching import Watching
from tests.common.kube.conftest import Connect
from tests.fakes.apiserver import FakeApiServer, Fault

NODES = path_of("v1", "nodes")
MAPS = path_of("v1", "configmaps", "default")


class Taken:
    """What `take` was given, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, bool]] = []

    def __call__(self, item: Node | ConfigMap, gone: bool) -> None:
        self.all.append((item.metadata.name, gone))


def _named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


async def _until(watching: Watching, taken: Taken, *wanted: tuple[str, bool]) -> None:
    async with asyncio.timeout(20):
        while [one for one in wanted if one not in taken.all]:
            watching.changed.clear()
            await watching.wait(5)


async def test_objects_of_both_come_and_go(api: FakeApiServer, connect: Connect) -> None:
    api.add("nodes", _named("a"))
    taken = Taken()
    async with connect() as kube:
        watching = Watching(kube)
        watching.add(NODES, Node, taken)
        watching.add(MAPS, ConfigMap, taken)
        async with watching.running():
            await _until(watching, taken, ("a", False))
            api.add("configmaps", _named("m"), "default")
            api.remove("nodes", "a")
            await _until(watching, taken, ("m", False), ("a", True))
    assert watching.trouble is None


async def test_what_went_while_nobody_watched_is_gone_too(api: FakeApiServer, connect: Connect) -> None:
    """The list after an expired version lacks it, and nothing else says so."""
    api.add("nodes", _named("stays"))
    api.add("nodes", _named("goes"))
    taken = Taken()
    async with connect() as kube:
        watching = Watching(kube)
        watching.add(NODES, Node, taken)
        api.faults.append(Fault("status", "watch=true", times=1, status=410, reason="Expired"))
        api.before = lambda asked: api.remove("nodes", "goes") if asked.verb == "watch" and not removed() else None

        def removed() -> bool:
            return not any(item["metadata"]["name"] == "goes" for item in api.store.all("nodes"))

        async with watching.running():
            await _until(watching, taken, ("goes", False), ("goes", True))
    assert ("stays", True) not in taken.all


@pytest.mark.parametrize("needed", [True, False])
async def test_one_that_is_forbidden_counts_if_it_is_needed(
    api: FakeApiServer, connect: Connect, needed: bool
) -> None:
    api.forbidden.add(("list", "nodes"))
    taken = Taken()
    async with connect() as kube:
        watching = Watching(kube)
        watching.add(NODES, Node, taken, needed=needed)
        watching.add(MAPS, ConfigMap, taken)
        async with watching.running():
            api.add("configmaps", _named("m"), "default")
            await _until(watching, taken, ("m", False))
            if needed:
                async with asyncio.timeout(20):
                    while watching.trouble is None:
                        await watching.wait(1)
    assert (watching.trouble.code if watching.trouble else None) == (Code.CLUSTER_FORBIDDEN if needed else None)


async def test_waiting_ends_by_itself(api: FakeApiServer, connect: Connect) -> None:
    async with connect() as kube:
        watching = Watching(kube)
        async with asyncio.timeout(20):
            await watching.wait(0.01)
        assert not watching.changed.is_set()
