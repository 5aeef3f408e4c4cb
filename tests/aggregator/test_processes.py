"""Real processes on this machine: frozen, killed, restarted, cut off."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import pytest

from tests.conftest import cannot_run_here
from tests.fleet.processes import Agent, Aggregator, Client

NODES = ["n1", "n2", "n3"]
IDLE_RSS = 45_000_000
SLACK = 15.0
"""Seconds beyond its deadline that a run may take, folding included, on a machine with much else to do."""


class Local:
    """An aggregator and agents."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.agents: dict[str, Agent] = {}
        self.aggregator: Aggregator

    @property
    def client(self) -> Client:
        """A user."""
        return self.aggregator.client

    def start(self, *nodes: str) -> None:
        """Start the aggregator and these nodes' agents, and wait until they are linked."""
        self.aggregator = Aggregator(self.directory, ",".join(nodes))
        for node in nodes:
            self.agents[node] = Agent(self.aggregator, node)
        self.client.wait_for("eidos_links", len(self.agents))

    def states(self, seconds: float = 10.0) -> dict[str, tuple[str, str]]:
        """State and reason by node, of a run."""
        self.client.run(seconds)
        items = self.client.get("/v1/nodes")["items"]
        return {item["node"]: (item["state"], item.get("reason", "")) for item in items}

    def end(self) -> None:
        """End everything."""
        for agent in self.agents.values():
            agent.end(SIGKILL)
        if self.agents:
            self.aggregator.end()


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    fleet = Local(tmp_path / "fleet")
    try:
        yield fleet
    finally:
        fleet.end()


@pytest.fixture(autouse=True)
def directory_exists(tmp_path: Path) -> None:
    (tmp_path / "fleet").mkdir()


def test_a_local_fleet_answers_in_full(local: Local) -> None:
    local.start(*NODES)
    document = local.client.run()
    assert document["summary"]["states"] == {"ok": 3} or document["summary"]["states"].keys() <= {"ok", "partial"}
    assert document["summary"]["folded"] == 3
    assert [group["nodes"] for group in document["groups"]] == ["n[1-3]"], "three agents on one machine are equal"
    for node in NODES:
        snapshot = local.client.get(f"/v1/nodes/{node}")
        assert snapshot["metadata"]["source-node"] == node


def test_one_node_is_exactly_what_one_shot_mode_writes(local: Local) -> None:
    local.start("n1")
    local.client.run()
    served = local.client.get("/v1/nodes/n1")
    command = [sys.executable, "-m", "cli", "snapshot", "--format", "json", "--collectors", "os"]
    environment = {**os.environ, "NODE_NAME": "n1"}
    written = json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
    ours = [m for m in served["measurements"] if m["type"] == "OS"]
    theirs = [m for m in written["measurements"] if m["type"] == "OS"]
    assert ours == theirs
    assert [e for e in served["collection"] if e["type"] == "OS"] == written["collection"]


def test_frozen_killed_and_thawed(local: Local) -> None:
    local.start(*NODES)
    assert all(state in ("ok", "partial") for state, _ in local.states().values())
    local.agents["n1"].signal(SIGSTOP)
    local.agents["n2"].signal(SIGKILL)
    began = time.monotonic()
    states = local.states(seconds=3.0)
    assert time.monotonic() - began < 3.0 + SLACK
    assert states["n1"] == ("timeout", "no answer within 3 s")
    assert states["n2"] == ("unreachable", "link down: the connection was lost")
    assert states["n3"][0] in ("ok", "partial")
    assert local.client.get("/v1/snapshot")["groups"][0]["count"] == 3, "last known facts, and no change"
    local.agents["n1"].signal(SIGCONT)
    assert local.states()["n1"][0] in ("ok", "partial")


def test_an_agent_that_is_stopped_says_goodbye(local: Local) -> None:
    local.start("n1")
    assert local.agents["n1"].end(SIGTERM) == 0
    assert local.states(seconds=3.0)["n1"] == ("unreachable", "link down: the agent stopped")


def test_the_aggregator_killed_in_the_middle_of_a_run_and_restarted(local: Local) -> None:
    local.start(*NODES)
    local.client.run()
    local.agents["n3"].signal(SIGSTOP)  # keeps the next run open
    ports = local.aggregator.link_port, local.aggregator.api_port
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(local.client.request, "/v1/runs", {"seconds": 30})
        local.client.wait_for('eidos_link_frames_total{direction="out"}', 6)
        local.aggregator.end(SIGKILL)
        with pytest.raises((ConnectionError, OSError)):
            asking.result(30)
    local.agents["n3"].signal(SIGCONT)
    local.aggregator = Aggregator(local.directory, "n[1-3]", *ports)
    # Straight after the start: the run waits for agents to come back, and agents bring what they know.
    states = local.states(seconds=60.0)
    assert {state for state, _ in states.values()} <= {"ok", "partial"}


def test_published_files_survive_the_aggregator(local: Local) -> None:
    local.start("n1")
    local.client.run()
    published = local.directory / "published" / "eidos-fleet" / "snapshot.yaml"
    until = time.monotonic() + 30
    while not published.exists() and time.monotonic() < until:
        os.sched_yield()
    local.aggregator.end(SIGKILL)
    assert "kind: FleetSnapshot" in published.read_text()


def test_what_an_idle_agent_costs(local: Local) -> None:
    local.start("n1")
    local.client.run()
    agent = local.agents["n1"]
    assert agent.status()["rss"] < IDLE_RSS, agent.status()
    loaded = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "kubernetes" not in loaded
    assert "uvloop" not in loaded


def test_the_agent_never_loads_what_only_others_need() -> None:
    code = (
        "import sys, agent.daemon, agent.link\n"
        "heavy = {'kubernetes_asyncio', 'uvloop', 'cryptography', 'jwt', 'prometheus_client', 'aggregator', 'cli'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "address is missing"),
        (["--aggregator", "http://x"], "not https"),
        (["--aggregator", "https://x", "--node", "no name"], "cannot be a node's name"),
        (["--aggregator", "https://x", "--host-root", "/nonexistent"], "is not a directory"),
    ],
)
def test_an_agent_that_cannot_work_says_why_in_one_sentence(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent", "--health-port", "0", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace with one cable to this machine: 10.213.77.1 here, 10.213.77.2 there."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "nft", "nsenter"))):
        cannot_run_here("network namespaces need root, iproute2 and nftables")
    name, here, there = f"eidos-{os.getpid()}", f"ve{os.getpid() % 100_000}a", f"ve{os.getpid() % 100_000}b"
    steps = [
        f"ip netns add {name}",
        f"ip link add {here} type veth peer name {there}",
        f"ip link set {there} netns {name}",
        f"ip addr add 10.213.77.1/30 dev {here}",
        f"ip link set {here} up",
        f"ip -n {name} addr add 10.213.77.2/30 dev {there}",
        f"ip -n {name} link set {there} up",
        f"ip -n {name} link set lo up",
    ]
    try:
        for step in steps:
            subprocess.run(step.split(), check=True, capture_output=True)
        yield name
    finally:
        subprocess.run(["ip", "link", "del", here], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_half_open_all_packets_of_an_agent_are_dropped(tmp_path: Path, namespace: str) -> None:
    """No reset, no end: its packets just vanish, and later they do not."""
    enter = ["nsenter", f"--net=/run/netns/{namespace}"]
    aggregator = Aggregator(tmp_path / "fleet", "n[1-2]", address="10.213.77.1")
    near = Agent(aggregator, "n1")
    far = Agent(aggregator, "n2", prefix=enter)
    client = aggregator.client
    try:
        client.wait_for("eidos_links", 2)
        client.run()
        rules = ["add table inet cut", "add chain inet cut out { type filter hook output priority 0; policy drop; }"]
        for rule in rules:
            subprocess.run([*enter, "nft", rule], check=True, capture_output=True)
        began = time.monotonic()
        client.run(3.0)
        assert time.monotonic() - began < 3.0 + SLACK
        items = {item["node"]: item for item in client.get("/v1/nodes")["items"]}
        assert (items["n2"]["state"], items["n2"]["reason"]) == ("timeout", "no answer within 3 s")
        assert items["n1"]["state"] in ("ok", "partial")
        subprocess.run([*enter, "nft", "delete table inet cut"], check=True, capture_output=True)
        client.run(60.0)
        items = {item["node"]: item for item in client.get("/v1/nodes")["items"]}
        assert items["n2"]["state"] in ("ok", "partial"), "the same link goes on, or the agent is back"
    finally:
        for process in (near, far):
            process.end(SIGKILL)
        aggregator.end()
