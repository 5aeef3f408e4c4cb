"""What breaks on one node of a fleet: the node is in its right state with its reason, and the others answer.

So do nodes that come and go.
"""

import json
import shutil
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.images import AGENT_IMAGE, agent_archive
from tests.cluster.node import SOCKET, Node
from tests.cluster.replicas import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

HERE: Final = ("-n", NAMESPACE)
GOOD: Final = {"ok", "partial"}
AGENT: Final = "python -m agent"


@pytest.fixture
def node(installed: Fleet) -> Iterator[Node]:
    """The node that breaks: one on which no aggregator runs. It is well again at the end."""
    (aggregator,) = installed.get("pods", *HERE, "-l", "app.kubernetes.io/component=aggregator")["items"]
    (chosen,) = [each for each in installed.cluster.nodes.values() if each.name != aggregator["spec"]["nodeName"]]
    yield chosen
    wait_for(lambda: state_of(installed, chosen, "60s")[0] in GOOD, 120)


def run(fleet: Fleet, deadline: str) -> dict[str, tuple[str, str]]:
    """State and reason by node."""
    done = fleet.eidos("snapshot", "--format", "yaml", "--deadline", deadline)
    assert done.returncode == 0, done.stderr
    ledger: list[dict[str, Any]] = yaml.safe_load(done.stdout)["ledger"]
    names = {"cpu-1": "cpu-1", "gpu-1": "gpu-1"}
    return {
        name: (line["state"], line.get("reason", "")) for line in ledger for name in names if name in line["nodes"]
    }


def state_of(fleet: Fleet, node: Node, deadline: str = "30s") -> tuple[str, str]:
    """The broken node's; all others must be well. Only one that is there and says nothing is waited for so long."""
    states = run(fleet, deadline)
    state = states.pop(node.name)
    assert {other for other, _ in states.values()} <= GOOD, states
    return state


def becomes(fleet: Fleet, node: Node, state: str, reason: str, within: float = 90) -> None:
    """Until it ends in a run like this; the others are well all the time."""
    until = time.monotonic() + within
    seen: list[tuple[str, str]] = []
    while not seen or seen[-1] != (state, reason):
        assert time.monotonic() < until, f"{node.name} never ended {state}: {reason!r}, but {dict.fromkeys(seen)}"
        seen.append(state_of(fleet, node))


def sh(node: Node, script: str) -> str:
    return node.machine.run(["sh", "-c", script])


def kill_agent(node: Node, number: str = "KILL") -> None:
    sh(node, f"pkill -{number} -f '^[^ ]*{AGENT}' || true")


def delete_pod(fleet: Fleet, node: Node) -> None:
    fleet.kubectl(
        *("delete", "pods", *HERE, "-l", "app.kubernetes.io/component=agent", "--force", "--grace-period=0"),
        *("--field-selector", f"spec.nodeName={node.name}"),
    )


def test_an_agent_frozen(installed: Fleet, node: Node) -> None:
    kill_agent(node, "STOP")
    try:
        assert state_of(installed, node, "10s") == ("timeout", "no answer within 10 s")
    finally:
        kill_agent(node, "CONT")


def test_an_agents_pod_deleted(installed: Fleet, node: Node) -> None:
    delete_pod(installed, node)
    state, reason = state_of(installed, node, "60s")
    assert state in GOOD or reason.startswith("link down: "), (state, reason)


def test_an_agent_that_keeps_ending(installed: Fleet, node: Node) -> None:
    """Something else on the node has its port."""
    serve = "/bin/busybox httpd -f -p 127.0.0.1:8445 -h /tmp"
    # It has the port as soon as the agent has not: kubelet is quick to start another.
    taken = node.machine.spawn(["/bin/busybox", "sh", "-c", f"until {serve}; do /bin/busybox usleep 20000; done"])
    try:
        kill_agent(node)
        becomes(installed, node, "unreachable", "link down: its agent keeps ending (exit status 2)")
    finally:
        taken.kill()
        sh(node, "pkill -KILL -x busybox || true")
        delete_pod(installed, node)


def test_an_image_that_cannot_be_pulled_on_one_node(installed: Fleet, node: Node) -> None:
    sh(node, f"$(dirname $(pgrep -a containerd | head -1 | cut -d' ' -f2))/ctr --address={SOCKET} -n k8s.io "
             f"images rm {AGENT_IMAGE}")  # fmt: skip
    delete_pod(installed, node)
    try:
        becomes(installed, node, "unreachable", "link down: its agent's image cannot be pulled")
    finally:
        node.load_image(agent_archive())
        delete_pod(installed, node)


def test_a_node_partitioned(installed: Fleet, node: Node) -> None:
    """Its packets vanish for a while: no reset, no end."""
    assert shutil.which("nft")
    rules = ["add table inet cut", "add chain inet cut out { type filter hook output priority 0; policy drop; }"]
    node.machine.run_in_network("\n".join(f"nft '{rule}'" for rule in rules))
    try:
        assert state_of(installed, node, "10s") == ("timeout", "no answer within 10 s")
    finally:
        node.machine.run_in_network("nft delete table inet cut")


def test_nodes_that_come_and_go_in_the_middle_of_a_run(installed: Fleet, node: Node) -> None:
    """One that never had an agent goes, another comes, and a real one goes and comes back."""
    (other,) = [name for name in installed.cluster.nodes if name != node.name]
    kill_agent(node, "STOP")  # keeps the run open
    try:
        _add_node(installed, "passing")
        asking = installed.start("snapshot", "--format", "yaml", "--deadline", "110s")
        wait_for(lambda: _collecting(installed, answered=1), 60)
        _add_node(installed, "coming")
        installed.kubectl("delete", "node", "passing", node.name)
        gone = ("nodesnapshots", "passing", node.name, "--ignore-not-found")
        wait_for(lambda: not installed.kubectl("get", *gone), 60)
        node.kill("kubelet")
        kill_agent(node)  # nobody is left to wait for
        document, complaint = asking.communicate(timeout=100)
        assert asking.returncode == 0, complaint
        states = _ledger(document)
        assert states.pop(other)[0] in GOOD
        assert states == dict.fromkeys(
            ("passing", node.name), ("not-ready", "the node was removed from the cluster")
        ), "one that comes later is not in it"
        wait_for(lambda: _is_meant_for(installed, "coming"), 60)
        states = _ledger(installed.eidos("snapshot", "--format", "yaml", "--deadline", "30s").stdout)
        assert states.pop(other)[0] in GOOD
        assert states == {"coming": ("no-agent", "its agent's pod cannot be scheduled")}
    finally:
        installed.kubectl("delete", "node", "passing", "coming", "--ignore-not-found")
        kill_agent(node)
        sh(node, "pkill -KILL -x kubelet || true")
        node.spawn_kubelet()
        installed.cluster.wait_nodes_ready(120)


def _add_node(fleet: Fleet, name: str) -> None:
    """Nothing but its object: a machine whose kubelet says Ready, and which no pod fits on."""
    made = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"taints": [{"key": "test", "effect": "NoSchedule"}]},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]},
    }
    fleet.cluster.api.text("POST", "/api/v1/nodes", made)


def _is_meant_for(fleet: Fleet, node: str) -> bool:
    """Whether there is an agent's pod for the node, which need not be on it."""
    pods = fleet.get("pods", *HERE, "-l", "app.kubernetes.io/component=agent")["items"]
    return any(node in json.dumps(pod["spec"]["affinity"]) for pod in pods)


def _collecting(fleet: Fleet, answered: int) -> bool:
    runs = [item["status"] for item in fleet.get("fleetsnapshots")["items"]]
    return any(run["phase"] == "Collecting" and run.get("answered") == answered for run in runs)


def _ledger(document: str) -> dict[str, tuple[str, str]]:
    """State and reason by node, of a few nodes that do not fold."""
    lines: list[dict[str, Any]] = yaml.safe_load(document)["ledger"]
    return {name: (line["state"], line.get("reason", "")) for line in lines for name in line["nodes"].split(",")}


def test_a_kubelet_stopped(installed: Fleet, node: Node) -> None:
    """The agent needs no kubelet; when it is gone too, it is the node that is not ready."""
    node.kill("kubelet")
    try:
        assert state_of(installed, node)[0] in GOOD
        kill_agent(node)
        becomes(installed, node, "not-ready", "kubelet has fallen silent", 150)
    finally:
        node.spawn_kubelet()
