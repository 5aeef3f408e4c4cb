"""The aggregator in a real cluster: who leads, what is kept where, and what becomes of it when something breaks."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.replicas import Fleet, Replica, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

NODES = ("gpu-1", "cpu-1")
GOOD = {"ok", "partial"}
ASYNC = {"Prefer": "respond-async"}
NODE: dict[str, Any] = {"apiVersion": "v1", "kind": "Node"}


@pytest.fixture(scope="module")
def fleet(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two replicas, and an agent for every node."""
    with Fleet(cluster, "eidos-replicas", tmp_path_factory.mktemp("replicas")) as running:
        running.start("first")
        running.leader()
        running.start("second")
        running.join(*NODES)
        running.linked(2)
        yield running


def standby(fleet: Fleet) -> Replica:
    return next(replica for replica in fleet.replicas if replica.process.poll() is None and not replica.ready())


def replace_dead(fleet: Fleet) -> None:
    """Another replica for one that has ended, as the Deployment makes it."""
    for replica in [each for each in fleet.replicas if each.process.poll() is not None]:
        fleet.replicas.remove(replica)
        replica.close()
        fleet.start(f"{replica.name}-again")


def good(fleet: Fleet, seconds: float = 30.0) -> None:
    """Every node answers, agents that are still coming back included."""
    states = fleet.states(seconds)
    assert {state for state, _ in states.values()} <= GOOD, states


def test_one_leads_and_what_it_keeps(fleet: Fleet) -> None:
    good(fleet)
    leader, other = fleet.leader(), standby(fleet)
    lease = fleet.get("lease", "eidos-aggregator")["spec"]
    assert (lease["holderIdentity"], lease["leaseDurationSeconds"]) == (leader.name, 15)
    assert (other.probe("/livez"), other.probe("/readyz"), other.probe("/v1/nodes")) == (200, 503, 503)
    secret, public = fleet.get("secret", "eidos-authority"), fleet.get("configmap", "eidos-ca")
    assert sorted(secret["data"])[0].startswith("authority-")
    assert public["data"].keys() == {"ca.crt"}
    wait_for(lambda: fleet.published() == fleet.ask("/v1/snapshot")[1]["metadata"]["run"], 60)


def test_nodes_without_an_answer_each_with_its_reason(fleet: Fleet) -> None:
    """Nodes that kubelet never reported for, whose agent never comes up, and that go in the middle of the run."""
    ready = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
    nodes = [
        {**NODE, "metadata": {"name": "silent"}},
        {**NODE, "metadata": {"name": "bare"}, "status": {"conditions": ready}},
        {**NODE, "metadata": {"name": "passing"}, "status": {"conditions": ready}},
    ]
    for node in nodes:
        node["spec"] = {"taints": [{"key": "test", "effect": "NoSchedule"}]}
        fleet.cluster.api.text("POST", "/api/v1/nodes", node)
    fleet.agents["cpu-1"].signal(SIGSTOP)  # keeps the run open
    try:
        wait_for(lambda: len(fleet.kubectl("get", "pods", *fleet.here, "-o", "name").split()) == 5, 60)
        pool = ThreadPoolExecutor(1)
        run = pool.submit(lambda: fleet.ask("/v1/runs", {"seconds": 15}))
        wait_for(lambda: fleet.ask("/v1/runs", {"seconds": 15}, more=ASYNC)[1]["answered"], 15)
        fleet.kubectl("delete", "node", "passing")
        status, document = run.result(60)
        pool.shutdown()
    finally:
        fleet.agents["cpu-1"].signal(SIGCONT)
        fleet.kubectl("delete", "node", "silent", "bare", "passing", "--ignore-not-found")
    assert status == 200
    ledger = {line["nodes"]: (line["state"], line.get("reason")) for line in document["ledger"]}
    assert ledger.pop("gpu-1")[0] in GOOD
    assert ledger.pop("silent")[0] == "not-ready"
    assert ledger == {
        "cpu-1": ("timeout", "no answer within 15 s"),
        "bare": ("no-agent", "its agent's pod cannot be scheduled"),
        "passing": ("not-ready", "the node was removed from the cluster"),
    }


def test_what_others_delete_or_edit_is_put_back(fleet: Fleet) -> None:
    good(fleet)
    keeps_up(fleet, wait_for(fleet.published, 10))
    fleet.linked(2)


def keeps_up(fleet: Fleet, run: str) -> None:
    """What the leader keeps comes back as it was, whatever is done to it."""
    authority, bundle = fleet.get("secret", "eidos-authority")["data"], fleet.get("configmap", "eidos-ca")["data"]
    fleet.kubectl("delete", "configmap/eidos-fleet", "configmap/eidos-ca", "secret/eidos-authority", *fleet.here)
    wait_for(lambda: fleet.published() == run, 60)
    wait_for(lambda: fleet.data("secret", "eidos-authority") == authority, 60)
    wait_for(lambda: fleet.data("configmap", "eidos-ca") == bundle, 60)
    spoil = {"data": {"snapshot.yaml": "kind: FleetSnapshot\n", "more": "x"}, "metadata": {"labels": None}}
    fleet.kubectl("patch", "configmap", "eidos-fleet", *fleet.here, "--type=merge", "-p", json.dumps(spoil))
    fleet.kubectl("patch", "configmap", "eidos-ca", *fleet.here, "--type=merge", "-p", '{"data": {"ca.crt": "x"}}')
    fleet.kubectl("patch", "secret", "eidos-authority", *fleet.here, "--type=merge", "-p", '{"data": null}')
    wait_for(lambda: fleet.published() == run and "more" not in (fleet.data("configmap", "eidos-fleet") or {}), 60)
    wait_for(lambda: fleet.data("secret", "eidos-authority") == authority, 60)
    wait_for(lambda: fleet.data("configmap", "eidos-ca") == bundle, 60)


def test_a_leader_that_is_told_to_stop_hands_over_at_once(fleet: Fleet) -> None:
    leader, other = fleet.leader(), standby(fleet)
    bundle = fleet.data("configmap", "eidos-ca")
    began = time.monotonic()
    assert leader.end(SIGTERM) == 0
    released = fleet.get("lease", "eidos-aggregator")["spec"].get("holderIdentity", "")
    assert released in ("", other.name), "nobody waits for it to run out"
    assert fleet.leader() is other
    print(f"took over after {time.monotonic() - began:.1f} s")
    replace_dead(fleet)
    good(fleet)
    assert fleet.data("configmap", "eidos-ca") == bundle, "the same authority"
    assert fleet.get("lease", "eidos-aggregator")["spec"]["holderIdentity"] == other.name


def test_the_leader_killed_in_the_middle_of_a_run(fleet: Fleet) -> None:
    good(fleet)
    leader, other = fleet.leader(), standby(fleet)
    published = wait_for(fleet.published, 60)
    fleet.agents["cpu-1"].signal(SIGSTOP)  # keeps the run open
    pool, run = fleet.waiting(60)
    _, under_way = fleet.ask("/v1/runs", {"seconds": 60}, more=ASYNC)
    began = time.monotonic()
    leader.end(SIGKILL)
    with pytest.raises(OSError, match=r"."):
        run.result(60)
    pool.shutdown()
    fleet.agents["cpu-1"].signal(SIGCONT)
    assert fleet.leader() is other
    print(f"took over after {time.monotonic() - began:.1f} s")
    assert fleet.published() == published, "what was published stays until there is something newer"
    status, document = fleet.ask("/v1/snapshot")
    assert (status, document["metadata"]["run"]) == (200, published)
    assert fleet.ask(f"/v1/runs/{published}/snapshot") == (200, document)
    status, problem = fleet.ask(f"/v1/runs/{under_way['run']}")
    assert (status, problem["detail"].partition(".")[0]) == (404, "there is no such run")
    keeps_up(fleet, published)
    replace_dead(fleet)
    good(fleet)
    print(f"all agents are back after {time.monotonic() - began:.1f} s")
    wait_for(lambda: fleet.published() != published, 60)


def test_a_leader_that_was_asleep_serves_nobody_when_it_wakes(fleet: Fleet) -> None:
    good(fleet)
    leader, other = fleet.leader(), standby(fleet)
    leader.signal(SIGSTOP)
    wait_for(other.ready, 60)
    leader.signal(SIGCONT)
    assert wait_for(leader.process.poll, 60) == 4
    replace_dead(fleet)
    good(fleet)


def test_a_leader_cut_off_from_the_api_server_gives_way(fleet: Fleet) -> None:
    good(fleet)
    leader, other = fleet.leader(), standby(fleet)
    leader.api.cut()
    began = time.monotonic()
    wait_for(lambda: not leader.ready() or other.ready(), 60)
    assert not leader.ready(), "it gives way before anybody else may lead"
    wait_for(other.ready, 60)
    print(f"gave way after {time.monotonic() - began:.1f} s")
    good(fleet)
    leader.api.mend()
    assert wait_for(leader.process.poll, 60) == 4, "it begins anew as a standby"
    replace_dead(fleet)
    good(fleet)


def test_the_api_server_down_for_30_seconds(fleet: Fleet) -> None:
    good(fleet)
    leader, other = fleet.leader(), standby(fleet)
    run = leader_run(fleet, leader)
    user = fleet.token()
    fleet.ask("/v1/snapshot", replica=leader, token=user)
    for replica in (leader, other):
        replica.api.cut()
    until = time.monotonic() + 30
    wait_for(lambda: leader.probe("/readyz") == 503, 60)
    assert leader.probe("/livez") == 200, "kubelet has no reason to restart it"
    status, document = fleet.ask("/v1/snapshot", replica=leader, token=user)
    assert (status, document["metadata"]["run"]) == (200, run), "who was known before reads what is known"
    status, problem = fleet.ask("/v1/runs", {}, leader, user)
    assert (status, problem["detail"]) == (503, "the aggregator cannot tell at the moment whether it leads")
    wait_for(lambda: time.monotonic() > until, 31)
    assert leader.process.poll() is None
    assert other.process.poll() is None
    for replica in (leader, other):
        replica.api.mend()
    assert wait_for(lambda: next((r for r in (leader, other) if r.ready()), None), 60) is leader, "still its Lease"
    assert leader_run(fleet, leader) == run, "it knows what it knew"
    good(fleet)


def leader_run(fleet: Fleet, leader: Replica) -> str:
    status, document = fleet.ask("/v1/snapshot", replica=leader)
    assert status == 200, document
    run: str = document["metadata"]["run"]
    return run
