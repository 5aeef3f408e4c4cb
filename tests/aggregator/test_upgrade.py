"""Agents and aggregators of two versions beside each other, as real processes: nobody is changed by an upgrade."""

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from common.version import VERSION
from common.wire import PROTOCOL
from tests.fleet.processes import Agent, Aggregator, Client
from tests.fleet.versioned import NEXT
from tests.hosts.archive import load, unpack

pytestmark = pytest.mark.timeout(300)

NODES = ("n1", "n2", "n3")
NOW: Sequence[str] = ()
LATER = ("tests.fleet.versioned", "next")
LATER_KNOWING_MORE = ("tests.fleet.versioned", "next-facts")
HOST = Path(__file__).parents[1] / "hosts" / "small-vm" / "tree.txt"
REFUSED = "link down: the agent speaks another version of the protocol"


class Fleet:
    """Three equal nodes, whose files never change, and an aggregator; each of a version of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.root = directory.with_name("root")
        unpack(load(HOST), self.root)
        self.agents: dict[str, Agent] = {}
        self.aggregator = Aggregator(directory, "n[1-3]")
        self.ports = self.aggregator.link_port, self.aggregator.api_port

    @property
    def client(self) -> Client:
        """A user."""
        return self.aggregator.client

    def put_aggregator(self, version: Sequence[str]) -> None:
        """Replace the aggregator, at the same ports, with nothing of what the old one knew."""
        self.aggregator.end()
        self.aggregator = Aggregator(self.directory, "n[1-3]", *self.ports, through=version)

    def put_agents(self, version: Sequence[str], *nodes: str) -> None:
        """Replace the agents of these nodes."""
        for node in nodes:
            if node in self.agents:
                self.agents[node].end()
            self.agents[node] = Agent(self.aggregator, node, {"EIDOS_HOST_ROOT": str(self.root)}, through=version)
        self.client.wait_for("eidos_links", len(self.agents))

    def document(self, seconds: float = 20.0) -> Any:
        """The document of a run."""
        return self.client.run(seconds)

    def end(self) -> None:
        """End everything."""
        for agent in self.agents.values():
            agent.end(SIGKILL)
        self.aggregator.end(SIGKILL)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    started = Fleet(tmp_path / "fleet")
    try:
        yield started
    finally:
        started.end()


def groups(document: Any) -> list[tuple[str, str]]:
    """Id and nodes of each group."""
    return [(group["id"], group["nodes"]) for group in document["groups"]]


def ends(document: Any) -> dict[str, str]:
    """Why nodes are in the state they are in."""
    return {line["nodes"]: line.get("reason", "") for line in document["ledger"]}


def until_told(watch: Iterator[Any], document: Any) -> Iterator[Any]:
    """What a watch has to say up to the end of a document's run."""
    progress: Any = {}
    while progress.get("run") != document["metadata"]["run"] or progress["state"] != "done":
        yield (event := next(watch))
        progress = event.get("progress", {})


def versions(fleet: Fleet) -> set[str]:
    """Which versions of the agent collected what is known."""
    return {fleet.client.get(f"/v1/nodes/{node}")["metadata"]["version"] for node in NODES}


def test_an_upgrade_and_the_way_back_change_nobody(fleet: Fleet) -> None:
    fleet.put_agents(NOW, *NODES)
    before = groups(fleet.document())
    assert [nodes for _, nodes in before] == ["n[1-3]"]
    fleet.put_aggregator(LATER)
    fleet.client.wait_for("eidos_links", 3)
    assert groups(fleet.document()) == before, "old agents, and a new aggregator that learns all of them anew"
    watch = fleet.client.follow("/v1/watch?seconds=600")
    next(watch)
    for nodes in (["n1"], ["n2", "n3"]):
        fleet.put_agents(LATER, *nodes)
        document = fleet.document()
        assert groups(document) == before
        assert document["outliers"] == []
        assert set(document["summary"]["states"]) <= {"ok", "partial"}
    assert versions(fleet) == {NEXT}
    fetched = fleet.client.metric("eidos_contents_received_total")
    fleet.put_agents(LATER, "n2")
    document = fleet.document()
    assert fleet.client.metric("eidos_contents_received_total") == fetched, "what others hold is not fetched again"
    told = [event for event in until_told(watch, document) if event["event"] not in ("start", "nodes", "run")]
    assert [(event["event"], event["nodes"], event["facts"]) for event in told] == [
        ("agents", "n1", []),
        ("agents", "n[2-3]", []),
    ]
    fleet.put_agents(LATER_KNOWING_MORE, "n1")
    document = fleet.document()
    assert sorted(nodes for _, nodes in groups(document)) == ["n1", "n[2-3]"]
    fleet.put_aggregator(NOW)
    until = time.monotonic() + 60
    while (refused := ends(fleet.document(3.0))) != {"n[1-3]": REFUSED}:  # each dials again within 15 s
        assert time.monotonic() < until, refused
    fleet.put_agents(NOW, *NODES)
    assert groups(fleet.document()) == before
    assert versions(fleet) == {VERSION}


def test_an_agent_that_is_too_new_says_so_and_goes_on_trying(fleet: Fleet) -> None:
    fleet.put_agents(NOW, "n1", "n2")
    fleet.agents["n3"] = agent = Agent(fleet.aggregator, "n3", {"EIDOS_HOST_ROOT": str(fleet.root)}, through=LATER)
    fleet.client.wait_for('eidos_links_closed_total{reason="protocol"}', 2)
    logged = [json.loads(line) for line in agent.log.read_text().splitlines()]
    why = {line["detail"] for line in logged if line["message"] == "link down"}
    assert why == {
        f"the aggregator does not understand version {PROTOCOL + 1} of the protocol, which this agent ({NEXT}) "
        "speaks: upgrade the aggregator, or go back to the agents' image of before"
    }
    (port,) = (line["health_port"] for line in logged if "health_port" in line)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=10) as answer:
        assert answer.status == 200, "kubelet need not restart it"
    assert agent.process.poll() is None
    said = f"it speaks version {PROTOCOL + 1} of the protocol, and this aggregator understands {PROTOCOL}"
    assert said in fleet.aggregator.log.read_text()
    assert ends(fleet.document(3.0))["n3"] == REFUSED
    fleet.put_aggregator(LATER)
    fleet.client.wait_for("eidos_links", 3)
    assert [nodes for _, nodes in groups(fleet.document())] == ["n[1-3]"]
