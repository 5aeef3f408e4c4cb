"""Two aggregators in real pods: one leads, and when it is killed in the middle of a run, somebody leads again.

Whoever leads then goes on from what was published. While the API server is away nobody takes over.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.cluster import KubectlError
from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.node import Node
from tests.cluster.replicas import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(500)]

HERE = ("-n", NAMESPACE)
API = "/apis/fleet.eidos.nvidia.com/v1alpha1/fleets/eidos/api"
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


def led_anew(fleet: Fleet, leader: str) -> float:
    """Seconds until another pod is ready, or the same with another process, and kube-apiserver has heard of it."""
    began = time.monotonic()

    def anew(pod: dict[str, Any]) -> bool:
        restarted = any(each["restartCount"] for each in pod["status"].get("containerStatuses", []))
        return is_ready(pod) and (pod["metadata"]["name"] != leader or restarted)

    wait_for(lambda: any(map(anew, pods(fleet, "aggregator"))), 60)
    wait_for(lambda: _runs(fleet), 60)
    return time.monotonic() - began


def node_of(fleet: Fleet, pod: str) -> Node:
    found = fleet.get("pod", pod, *HERE)
    return fleet.cluster.nodes[found["spec"]["nodeName"]]


def signal(node: Node, number: str, command: str) -> None:
    node.machine.run(["sh", "-c", f"pkill -{number} -f '^[^ ]*{command}' || true"])  # it may have ended


def snapshot(fleet: Fleet, within: float = 0.0) -> dict[str, Any]:
    """A whole run through the cluster's API: every node answers. Tried again for so long while it cannot be asked."""
    until = time.monotonic() + within
    while (done := fleet.eidos("snapshot", "--format", "yaml", "--deadline", "60s")).returncode != 0:
        assert time.monotonic() < until, done.stderr
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
        killed = wait_for(lambda: _waits(two), 50)
        signal(node_of(two, leader), "KILL", AGGREGATOR)
        print(f"led again after {led_anew(two, leader):.1f} s")
        _, complaint = asking.communicate(timeout=120)
    finally:
        signal(frozen, "CONT", AGENT)
        asking.kill()
    assert asking.returncode == 4, complaint
    assert complaint.startswith("Error: "), complaint
    last = json.loads(two.kubectl("get", "--raw", f"{API}/v1/snapshot"))
    assert last["metadata"]["run"] == before
    assert {name: phase for name, phase, _ in _runs(two)} == {before: "Done"}, f"and nothing of {killed}"
    _is_kept(two, before)
    document = snapshot(two)
    assert document["metadata"]["run"] not in (before, killed)
    wait_for(lambda: _published(two) == document["metadata"]["run"], 60)


def _is_kept(fleet: Fleet, run: str) -> None:
    """By a leader that has published nothing itself: what somebody deletes or edits comes back as it was."""
    authority = fleet.get("secret", "eidos-authority", *HERE)["data"]
    fleet.kubectl("delete", "configmap/eidos-fleet", "secret/eidos-authority", *HERE)
    wait_for(lambda: _published(fleet) == run, 60)
    wait_for(lambda: fleet.kubectl("get", "secret", "eidos-authority", *HERE, "--ignore-not-found"), 60)
    assert fleet.get("secret", "eidos-authority", *HERE)["data"] == authority
    spoil = {"data": {"snapshot.yaml": "kind: FleetSnapshot\n", "more": "x"}}
    fleet.kubectl("patch", "configmap", "eidos-fleet", *HERE, "--type=merge", "-p", json.dumps(spoil))
    wait_for(lambda: _published(fleet) == run, 60)


def test_the_api_server_is_down_for_30_seconds_in_the_middle_of_a_run(two: Fleet) -> None:
    before = snapshot(two)["metadata"]["run"]
    wait_for(lambda: _published(two) == before, 60)
    leader, restarts = holder(two), _restarts(two)
    frozen = two.cluster.nodes["gpu-1"]
    signal(frozen, "STOP", AGENT)  # keeps the run open
    asking = two.start("snapshot", "--format", "json", "--deadline", "110s")
    try:
        cut = wait_for(lambda: _waits(two), 50)
        two.cluster.control_plane.stop_apiserver()
        until = time.monotonic() + 30
        _, complaint = asking.communicate(timeout=120)
        assert asking.returncode == 4, complaint
        assert complaint.startswith("Error: "), complaint
        wait_for(lambda: time.monotonic() > until, 31)
    finally:
        two.cluster.control_plane.start_apiserver()
        signal(frozen, "CONT", AGENT)
        asking.kill()
    began = time.monotonic()
    runs = wait_for(lambda: _runs(two), 120)
    print(f"asked again {time.monotonic() - began:.1f} s after the API server was started")
    assert (holder(two), _restarts(two)) == (leader, restarts), "nobody took over, and nobody ended"
    ended = {name: (phase, message) for name, phase, message in runs}
    why = "the aggregator lost touch with the API server and may no longer lead"
    assert (ended[before][0], ended[cut]) == ("Done", ("Failed", why))
    assert _published(two) == before
    # Nodes that it has not heard of for so long may count as not ready for a moment, and with them the leader's pod.
    document = snapshot(two, within=120)
    wait_for(lambda: _published(two) == document["metadata"]["run"], 60)


def _restarts(fleet: Fleet) -> dict[str, int]:
    """How often which aggregator has ended."""
    return {
        pod["metadata"]["name"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
        for pod in pods(fleet, "aggregator")
    }


def _runs(fleet: Fleet) -> list[tuple[str, str, str]]:
    """Name, phase and message of every run that is known; empty while nobody can be asked."""
    try:
        items = fleet.get("fleetsnapshots")["items"]
    except KubectlError:
        return []
    return [(each["metadata"]["name"], each["status"]["phase"], each["status"].get("message", "")) for each in items]


def _waits(fleet: Fleet) -> str:
    """A run that has all answers but one."""
    items = fleet.get("fleetsnapshots")["items"]
    waiting = (
        item for item in items if item["status"]["phase"] == "Collecting" and item["status"].get("answered") == 1
    )
    return next((item["metadata"]["name"] for item in waiting), "")


def _published(fleet: Fleet) -> str:
    text = fleet.kubectl("get", "configmap", "eidos-fleet", *HERE, "-o", "json", "--ignore-not-found")
    content = json.loads(text)["data"]["snapshot.yaml"] if text else ""
    run: str = (yaml.safe_load(content) or {}).get("metadata", {}).get("run", "")
    return run
