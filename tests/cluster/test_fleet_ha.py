"""Two aggregators in real pods: one leads, and when it is killed in the middle of a run, somebody leads again."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.node import Node
from tests.cluster.replicas import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

HERE = ("-n", NAMESPACE)
AGENT, AGGREGATOR = "python -m agent", "python -m aggregator"


@pytest.fixture(scope="module")
def two(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet with overlay `ha`."""
    done = fleet.eidos("install", "--overlay", "ha", *fleet.images)
    assert done.returncode == 0, done.stderr
    yield fleet
    done = fleet.eidos("uninstall", "--yes")
    assert done.returncode == 0, done.stderr


def pods(fleet: Fleet, component: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.get("pods", *HERE, "-l", f"app.kubernetes.io/component={component}")["items"]
    return found


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def holder(fleet: Fleet) -> str:
    name: str = fleet.get("lease", "eidos-aggregator", *HERE)["spec"].get("holderIdentity", "")
    return name


def led_anew(fleet: Fleet, leader: str, within: float = 20.0) -> float:
    """Seconds until another pod is ready, or the same one with another process."""
    began = time.monotonic()

    def anew(pod: dict[str, Any]) -> bool:
        restarted = any(each["restartCount"] for each in pod["status"].get("containerStatuses", []))
        return is_ready(pod) and (pod["metadata"]["name"] != leader or restarted)

    wait_for(lambda: any(map(anew, pods(fleet, "aggregator"))), within)
    return time.monotonic() - began


def node_of(fleet: Fleet, pod: str) -> Node:
    found = fleet.get("pod", pod, *HERE)
    return fleet.cluster.nodes[found["spec"]["nodeName"]]


def signal(node: Node, number: str, command: str) -> None:
    node.machine.run(["sh", "-c", f"pkill -{number} -f '^[^ ]*{command}' || true"])  # it may have ended


def snapshot(fleet: Fleet, deadline: str = "60s") -> dict[str, Any]:
    """A whole run through the cluster's API: every node answers."""
    done = fleet.eidos("snapshot", "--format", "yaml", "--deadline", deadline)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    assert {line["state"] for line in document["ledger"]} <= {"ok", "partial"}, document["ledger"]
    return document


def test_one_leads_and_both_are_asked_by_their_probes(two: Fleet) -> None:
    found = wait_for(lambda: [pod for pod in pods(two, "aggregator") if pod["status"]["phase"] == "Running"][1:], 60)
    assert found
    ready = [pod["metadata"]["name"] for pod in pods(two, "aggregator") if is_ready(pod)]
    assert ready == [holder(two)]
    slices = two.get("endpointslices", *HERE, "-l", "kubernetes.io/service-name=eidos-link")["items"]
    endpoints = [each for part in slices for each in part["endpoints"] or [] if each["conditions"]["ready"]]
    assert [each["targetRef"]["name"] for each in endpoints] == ready


def test_the_leader_is_killed_in_the_middle_of_a_run(two: Fleet) -> None:
    before = snapshot(two)["metadata"]["run"]
    leader = holder(two)
    frozen = two.cluster.nodes["gpu-1"]
    signal(frozen, "STOP", AGENT)  # keeps the run open
    asking = two.start("snapshot", "--format", "json", "--deadline", "60s")
    try:
        wait_for(lambda: _waits(two), 30)
        signal(node_of(two, leader), "KILL", AGGREGATOR)
        print(f"led again after {led_anew(two, leader):.1f} s")
        _, complaint = asking.communicate(timeout=60)
    finally:
        signal(frozen, "CONT", AGENT)
        asking.kill()
    assert asking.returncode == 4, complaint
    assert complaint.startswith("Error: "), complaint
    document = snapshot(two)
    assert document["metadata"]["run"] != before
    wait_for(lambda: _published(two) == document["metadata"]["run"], 20)


def _waits(fleet: Fleet) -> bool:
    """Whether a run has all answers but one."""
    items = fleet.get("fleetsnapshots")["items"]
    return any(each["status"]["phase"] == "Collecting" and each["status"].get("answered") == 1 for each in items)


def _published(fleet: Fleet) -> str:
    data = fleet.get("configmap", "eidos-fleet", *HERE)["data"]
    run: str = yaml.safe_load(data["snapshot.yaml"])["metadata"]["run"]
    return run
