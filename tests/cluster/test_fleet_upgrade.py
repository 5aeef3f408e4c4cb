"""A fleet upgraded across a version of the protocol and of the schema, and taken back, under everybody's eyes."""

import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from common.fleet_api import API_PATH
from common.nodeset import unfold_names
from common.version import VERSION
from tests.cluster.cluster import KubectlError
from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.images import agent_archive, aggregator_archive
from tests.cluster.nextimage import NEXT, write_next

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NODES: Final = ("cpu-1", "gpu-1")
NEXT_IMAGES: Final = ("--agent-image", "eidos.test/agent:next", "--aggregator-image", "eidos.test/aggregator:next")
ANSWERED: Final = ("ok", "partial")


class Onlooker:
    """Takes snapshots and reads whatever can be read, again and again, until it is told to stop."""

    def __init__(self, fleet: Fleet) -> None:
        self.documents: list[Any] = []
        self.nodes: list[dict[str, Any]] = []
        """The status of each node, by name, each time they were listed."""
        self._fleet = fleet
        self._enough = threading.Event()
        self._rounds = 0
        self._news = threading.Condition()
        self._watching = fleet.start("watch", "--format", "ndjson")
        self._events: list[str] = []
        self._threads = [threading.Thread(target=self._look), threading.Thread(target=self._follow)]
        for thread in self._threads:
            thread.start()

    def _follow(self) -> None:
        assert self._watching.stdout is not None
        self._events.extend(self._watching.stdout)

    def _look(self) -> None:
        readings = (self._ask, self._served, self._published, self._listed)
        while not self._enough.is_set():
            for read in readings:
                try:
                    read()
                except (KubectlError, subprocess.TimeoutExpired):
                    continue  # nobody leads at the moment
            with self._news:
                self._rounds += 1
                self._news.notify_all()

    def _ask(self) -> None:
        done = self._fleet.eidos("snapshot", "--format", "json", "--deadline", "5s")
        if done.returncode == 0:
            self.documents.append(json.loads(done.stdout))

    def _served(self) -> None:
        self.documents.append(json.loads(self._fleet.kubectl("get", "--raw", f"{API_PATH}/v1/snapshot")))

    def _published(self) -> None:
        data = self._fleet.get("configmap", "eidos-fleet", "-n", NAMESPACE)["data"]
        self.documents.append(yaml.safe_load(data["snapshot.yaml"]))

    def _listed(self) -> None:
        self.nodes.append(statuses(self._fleet))

    def look_once(self) -> None:
        """Wait until everything has been read that is there now."""
        with self._news:
            wanted = self._rounds + 2  # a round that has begun has read some of it already
            assert self._news.wait_for(lambda: self._rounds >= wanted, timeout=200)

    def end(self) -> list[dict[str, Any]]:
        """Stop; what the watch said."""
        self._enough.set()
        self._threads[0].join(120)
        self._watching.terminate()
        self._threads[1].join(30)
        self._watching.communicate(timeout=30)
        return [json.loads(line) for line in self._events]


@pytest.fixture(scope="module")
def fleet_and_next(installed: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Both versions' images are on the nodes, and the fleet is of the older one."""
    for archive, tag in zip((agent_archive(), aggregator_archive()), NEXT_IMAGES[1::2], strict=True):
        target = tmp_path_factory.mktemp("next") / "image.tar"
        write_next(archive, tag, target)
        installed.cluster.load_image(target)
        target.unlink()
    return installed


@pytest.fixture
def onlooker(fleet_and_next: Fleet) -> Iterator[Onlooker]:
    looking = Onlooker(fleet_and_next)
    yield looking
    looking.end()


def statuses(fleet: Fleet) -> dict[str, Any]:
    """The status of each node as kubectl lists it."""
    return {item["metadata"]["name"]: item["status"] for item in fleet.get("nodesnapshots")["items"]}


def groups(document: Any) -> dict[str, str]:
    """The id of each node's group."""
    return {node: group["id"] for group in document["groups"] for node in unfold_names(group["nodes"])}


def ends(document: Any) -> dict[str, str]:
    """The state of each node."""
    return {node: line["state"] for line in document["ledger"] for node in unfold_names(line["nodes"])}


def snapshot(fleet: Fleet) -> Any:
    done = fleet.eidos("snapshot", "--format", "json", "--deadline", "60s")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("images", "version"), [(NEXT_IMAGES, NEXT), ((), VERSION)], ids=["upgrade", "back"])
def test_no_node_is_changed(fleet_and_next: Fleet, onlooker: Onlooker, images: tuple[str, ...], version: str) -> None:
    fleet = fleet_and_next
    expected = groups(before := snapshot(fleet))
    assert set(expected) == set(NODES)
    assert set(ends(before).values()) <= set(ANSWERED)
    onlooker.look_once()
    done = fleet.eidos("upgrade", *(images or fleet.images))
    assert done.returncode == 0, done.stderr
    assert "2 of 2 agents ready" in done.stdout
    after = snapshot(fleet)
    assert ends(after) == ends(before)
    assert groups(after) == expected
    assert after["metadata"]["version"] == version
    now = statuses(fleet)
    assert {node: status["agentVersion"] for node, status in now.items()} == dict.fromkeys(NODES, version)
    onlooker.look_once()
    events = onlooker.end()
    # Nobody has seen a node in another group than its own, or an outlier, or drift.
    assert all(groups(document).items() <= expected.items() for document in onlooker.documents)
    assert not any(document["outliers"] for document in onlooker.documents)
    assert all(
        status.get("groupId", expected[node]) == expected[node]
        for seen in onlooker.nodes
        for node, status in seen.items()
    )
    assert [event for event in events if event["event"] == "drift"] == []
    assert [event for event in events if event["event"] == "agents" and event["facts"]] == []
    # It was looked at before, during and after.
    assert {document["metadata"]["version"] for document in onlooker.documents} == {VERSION, NEXT}
    assert {event["event"] for event in events} >= {"start", "run"}
    assert {status.get("agentVersion", "") for seen in onlooker.nodes for status in seen.values()} >= {VERSION, NEXT}
