"""A fleet installed with `eidos fleet install`, the images as they are built: what a user finds in the cluster."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.formats import load_snapshot
from common.kube.client import PAGE_SIZE
from common.nodeset import unfold_names
from tests.cluster.audit import AuditLog
from tests.cluster.binaries import binaries_directory
from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.fleetrequests import (
    AGENT,
    AGGREGATOR,
    LED,
    LOOKED_AT,
    NOBODY,
    OF_A_RUN,
    PODS,
    RENEWAL,
    audit_log,
    of_runs,
)
from tests.cluster.fleetrights import documented, listed
from tests.cluster.images import AGENT_IMAGE, CHECKOUT
from tests.cluster.replicas import wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

OTHER_TAG = "eidos.test/agent:other"
WAITS = ("/opt/eidos/bin/python", "-c", "import signal; signal.pause()")
CROWD = 1000
WATCHES = 8  # nodes, pods, two for the document, authority, its public half, APIService, front proxy


@pytest.fixture(scope="module")
def crowded(installed: Fleet) -> Iterator[Fleet]:
    """The nodes come when the fleet is there already. kwok plays their pods, which never say a word."""
    installed.cluster.kwok(CROWD, name_length=20, labels=5)
    wait_for(lambda: f" of {CROWD + 2} nodes connected" in installed.eidos("status").stdout, 120)
    yield installed
    installed.cluster.remove_kwok()


def test_the_first_run_has_been_and_is_published(installed: Fleet) -> None:
    published = ("get", "configmap", "eidos-fleet", "-n", NAMESPACE, "--ignore-not-found")
    # A run has ended when its document can be asked for, a moment before that is published.
    text = wait_for(lambda: installed.kubectl(*published, "-o", r"jsonpath={.data.snapshot\.yaml}"), 60)
    document = yaml.safe_load(text)
    assert document["kind"] == "FleetSnapshot"
    assert {line["state"] for line in document["ledger"]} <= {"ok", "partial"}
    assert document["summary"]["expected"] == 2


def test_the_command_asks_through_the_clusters_api(installed: Fleet) -> None:
    status = installed.eidos("status")
    assert status.returncode == 0, status.stderr
    assert "2 of 2 nodes connected" in status.stdout
    nodes = installed.eidos("nodes", "--format", "json")
    assert nodes.returncode == 0, nodes.stderr
    assert [item["node"] for item in json.loads(nodes.stdout)["items"]] == ["cpu-1", "gpu-1"]
    one = installed.eidos("node", "gpu-1", "--format", "yaml")
    assert one.returncode == 0, one.stderr
    snapshot = load_snapshot(one.stdout.encode(), "node")
    assert snapshot.metadata.source_node == "gpu-1"
    facts = {s.subtype: s.data for m in snapshot.measurements for s in m.subtypes}
    assert facts["smi"]["gpu-count"] == 8
    # The host's own namespaces and systemd, not the container's.
    assert facts["sysctl"]["/proc/sys/kernel/hostname"] == "gpu-1"
    assert facts["containerd.service"]["ActiveState"] == "active"


def test_queries_and_watching_through_the_clusters_api(installed: Fleet) -> None:
    found = installed.eidos("query", "--names", 'int(GPU.smi["gpu-count"]) == 8')
    assert (found.returncode, found.stdout) == (0, "gpu-1\n"), found.stderr
    # Too long for an address: this one is posted.
    found = installed.eidos("query", "--format", "json", f'OS.release.ID != "{"😀" * 1300}"')
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    assert (result["items"], result["undecided"], result["unknown"]) == (["cpu-1", "gpu-1"], 0, 0)
    watched = installed.eidos("watch", "--for", "2s", "--format", "ndjson")
    assert watched.returncode == 0, watched.stderr
    start = json.loads(watched.stdout.splitlines()[0])
    assert (start["event"], start["expected"], start["connected"]) == ("start", 2, 2)


def test_the_cluster_itself_is_in_the_snapshot_and_on_every_node(installed: Fleet) -> None:
    runs = [installed.eidos("snapshot", "--format", "json") for _ in range(2)]
    assert [done.returncode for done in runs] == [0, 0], runs[0].stderr
    first, second = (json.loads(done.stdout)["cluster"] for done in runs)
    assert first == second
    assert {line["state"] for line in first["collection"]} == {"ok", "absent"}, "only policies are not there"
    version = json.loads(installed.kubectl("get", "--raw", "/version"))["gitVersion"]
    data = {f"{m['type']}.{s['subtype']}": s["data"] for m in first["measurements"] for s in m["subtypes"]}
    assert data["K8s.server"]["version"] == version
    assert AGENT_IMAGE in {f"{name}:{tag}" for name, tag in data["K8s.image-reference"].items()}
    assert data["NodeTopology.summary"]["node-count"] == 2
    assert {"key": "kubernetes.io/hostname", "value": "${node}", "count": 2} in first["labels"]
    # The node's own Snapshot has it as a Job on the node would have written it.
    node = installed.get("nodesnapshot", "gpu-1")["snapshot"]
    facts = {(m["type"], s["subtype"]): s["data"] for m in node["measurements"] for s in m["subtypes"]}
    assert facts["K8s", "server"]["version"] == version
    assert facts["K8s", "node"]["kubelet-version"] == version
    assert facts["NodeTopology", "label"]["kubernetes.io/hostname.gpu-1"] == "gpu-1|gpu-1"
    assert installed.eidos("query", "--names", f'K8s.server.version == "{version}"').stdout == "cpu-1,gpu-1\n"


def test_kubectl_lists_the_nodes(installed: Fleet) -> None:
    lines = installed.kubectl("get", "nodesnapshots", "--no-headers").splitlines()
    assert [line.split()[:2] for line in lines] == [["cpu-1", "ok"], ["gpu-1", "ok"]]


def test_a_run_asks_the_api_server_a_handful(installed: Fleet) -> None:
    _check_requests_of_runs(installed)


def test_nothing_is_asked_when_nothing_happens(installed: Fleet) -> None:
    log = audit_log(installed)
    others = log.wait_until(AGGREGATOR, lambda asked: asked.count(RENEWAL) >= 5)  # one every two seconds
    del others[RENEWAL]
    assert others.pop(LOOKED_AT, 0) <= 1  # the last look at what an earlier test had published
    assert others.pop(LED, 0) <= 1  # after a renewal that was not answered in time
    # They end after four to five minutes and begin again.
    assert {each.verb for each in others} <= {"watch"}
    assert others.total() <= WATCHES


def test_an_agent_opens_no_port_but_health_on_loopback(installed: Fleet) -> None:
    machine = installed.cluster.nodes["gpu-1"].machine
    (pod,) = _pods(installed, "agent", "gpu-1")
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    found = machine.run(["sh", "-c", f"grep -l {container} /proc/[0-9]*/cgroup | cut -d/ -f3"]).split()
    assert found
    sockets = {
        link
        for pid in found
        for link in machine.run(["sh", "-c", f"readlink /proc/{pid}/fd/* || true"]).split()
        if link.startswith("socket:")
    }
    listening = [
        line.split()[1]
        for family in ("tcp", "tcp6")
        for line in machine.run(["cat", f"/proc/net/{family}"]).splitlines()[1:]
        if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in sockets
    ]
    assert listening == [f"0100007F:{8445:04X}"]


def test_a_leader_may_be_evicted(installed: Fleet) -> None:
    installed.kubectl("wait", "pdb/eidos-aggregator", "-n", NAMESPACE, "--timeout=60s",
                      "--for=jsonpath={.status.disruptionsAllowed}=1")  # fmt: skip


def test_what_does_not_lead_holds_up_no_drain(installed: Fleet) -> None:
    """Under the same budget, in a namespace where no pod of the aggregator is ready."""
    budget = installed.get("pdb", "eidos-aggregator", "-n", NAMESPACE)
    never = {"exec": {"command": ["false"]}}
    waits = {"name": "waits", "image": installed.images[3], "command": [*WAITS], "readinessProbe": never}
    # Without one of its own it would have to wait for the one that the cluster makes in each namespace.
    pod = {"containers": [waits], "terminationGracePeriodSeconds": 0, "serviceAccountName": "waits"}
    labels = budget["spec"]["selector"]["matchLabels"]
    there = {"name": "waits", "namespace": "stuck"}
    eviction = {"kind": "Eviction", "apiVersion": "policy/v1", "metadata": there}
    objects = [
        {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "stuck"}},
        {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": there},
        {"kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": there, "spec": budget["spec"]},
        {"kind": "Pod", "apiVersion": "v1", "metadata": {**there, "labels": labels}, "spec": pod},
    ]
    installed.kubectl("apply", "-f", "-", stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": objects}))
    try:
        within = ("-n", "stuck", "--timeout=60s")
        installed.kubectl("wait", "pod/waits", *within, "--for=jsonpath={.status.phase}=Running")
        installed.kubectl("wait", "pdb/waits", *within, "--for=jsonpath={.status.expectedPods}=1")
        assert installed.get("pdb", "waits", "-n", "stuck")["status"]["disruptionsAllowed"] == 0
        path = "/api/v1/namespaces/stuck/pods/waits/eviction"
        installed.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
        installed.kubectl("wait", "pod/waits", *within, "--for=delete")
    finally:
        installed.kubectl("delete", "namespace", "stuck", "--ignore-not-found")


def test_installing_again_changes_nothing(installed: Fleet) -> None:
    before = _versions(installed)
    done = installed.eidos("install", *installed.images)
    assert done.returncode == 0, done.stderr
    assert _versions(installed) == before
    upgraded = installed.eidos("upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert "Nothing has changed." in upgraded.stdout
    assert _versions(installed) == before


def test_the_accounts_may_do_what_is_documented(installed: Fleet) -> None:
    everywhere, own, system = documented()
    for namespace in (NAMESPACE, "kube-system", "default"):
        assert listed(installed, "eidos-agent", namespace) == set()
    assert listed(installed, "eidos-aggregator", "default") == everywhere
    # kubectl writes all that may be done with pods there on one line.
    assert listed(installed, "eidos-aggregator", NAMESPACE) == (everywhere | own) - {"pods [] [] [list]"}
    assert listed(installed, "eidos-aggregator", "kube-system") == everywhere | system


def test_a_second_fleet_is_refused(installed: Fleet) -> None:
    done = installed.eidos("install", *installed.images, "--namespace", "another")
    assert done.returncode == 4
    assert f"Eidos is installed in namespace {NAMESPACE}, and a cluster holds one" in done.stderr
    ephemeral = installed.eidos("snapshot", "--ephemeral", *installed.images)
    assert ephemeral.returncode == 4
    assert "is there already, and --ephemeral would remove it" in ephemeral.stderr
    assert installed.eidos("status").returncode == 0


def test_an_upgrade_says_what_changed_and_keeps_the_rest(installed: Fleet) -> None:
    for node in installed.cluster.nodes.values():
        node.machine.run(["ctr", "-n", "k8s.io", "images", "tag", "--force", AGENT_IMAGE, OTHER_TAG])
    done = installed.eidos("upgrade", "--agent-image", OTHER_TAG)
    assert done.returncode == 0, done.stderr
    changed = [line for line in done.stdout.splitlines() if " image " in line]
    assert changed == [f"DaemonSet {NAMESPACE}/eidos-agent changed: image {AGENT_IMAGE} -> {OTHER_TAG}"]
    assert {p["spec"]["containers"][0]["image"] for p in _pods(installed, "agent")} == {OTHER_TAG}
    # One that cannot be pulled stops at the first tenth of the nodes, and is told from the version before.
    wrong = installed.eidos("upgrade", "--agent-image", "127.0.0.1:1/eidos:none")
    assert wrong.returncode == 4, wrong.stderr
    assert "none of 2 agents comes up: the image 127.0.0.1:1/eidos:none cannot be pulled" in wrong.stderr
    assert "1 of 2 nodes connected" in installed.eidos("status").stdout
    back = installed.eidos("upgrade", "--agent-image", AGENT_IMAGE)
    assert back.returncode == 0, back.stderr
    assert "2 of 2 agents ready" in back.stdout


def test_kubectl_eidos_is_the_same_command(installed: Fleet, tmp_path: Path) -> None:
    plugin = tmp_path / "kubectl-eidos"
    plugin.write_text(f"#!{sys.executable}\nfrom cli.entry import plugin\nplugin()\n")
    plugin.chmod(0o755)
    environment = {**installed.environment(), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(binaries_directory() / "kubectl"), "eidos", "fleet", "status"],
        env=environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 nodes connected" in done.stdout


def test_nodes_without_agents_are_named_and_not_waited_for(crowded: Fleet) -> None:
    done = crowded.eidos("snapshot", "--format", "yaml", "--deadline", "60s")
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(done.stdout)
    names = {
        name
        for line in document["ledger"]
        if line["state"] == "no-agent"
        for name in _unfolded(line["nodes"], document.get("nodeTable", []))
    }
    assert names == {f"kwok-{index:06d}-".ljust(20, "x") for index in range(CROWD)}
    assert {line["state"]: line["count"] for line in document["ledger"] if line["state"] == "ok"} == {"ok": 2}
    # It ended when the two had answered, not at its deadline.
    assert "timeout" not in {line["state"] for line in document["ledger"]}


def test_a_run_asks_the_api_server_no_more_for_them(crowded: Fleet) -> None:
    _check_requests_of_runs(crowded)


def test_they_are_listed_by_name(crowded: Fleet) -> None:
    done = crowded.eidos("nodes", "--state", "no-agent", "--format", "json")
    assert done.returncode == 0, done.stderr
    items = json.loads(done.stdout)["items"]
    assert len(items) == CROWD
    assert all(item["node"].startswith("kwok-") and item["reason"] for item in items)


def test_the_status_says_so_too(crowded: Fleet) -> None:
    done = crowded.eidos("status")
    assert done.returncode == 0, done.stderr
    assert f"2 of {CROWD + 2} nodes connected" in done.stdout


def _check_requests_of_runs(fleet: Fleet, runs: int = 3) -> None:
    recent = audit_log(fleet)
    asked = of_runs(fleet, runs)
    # Once before the document is written, and once more as the watch tells that it was; it may tell late.
    assert runs <= asked.pop(LOOKED_AT) <= 2 * runs + 1
    pages = math.ceil(len(fleet.get("pods", "--all-namespaces")["items"]) / PAGE_SIZE)
    assert 2 * runs <= asked.pop(PODS) <= (1 + pages) * runs
    assert runs <= asked.pop(LED) <= runs + 1  # as when nothing happens
    assert asked == {each: count * runs for each, count in OF_A_RUN.items() if each not in (LOOKED_AT, LED)}
    assert recent.asked(NOBODY) == {}
    # Not in the whole life of the cluster either.
    assert AuditLog(fleet.cluster.control_plane.audit_log).asked(AGENT) == {}


def _pods(fleet: Fleet, component: str, node: str = "") -> list[dict[str, Any]]:
    chosen = ["-l", f"app.kubernetes.io/component={component}", "-n", NAMESPACE]
    if node:
        chosen += ["--field-selector", f"spec.nodeName={node}"]
    items: list[dict[str, Any]] = fleet.get("pods", *chosen)["items"]
    return [item for item in items if "deletionTimestamp" not in item["metadata"]]


def _versions(fleet: Fleet) -> dict[str, int]:
    """The generation of each object whose spec an installation sets."""
    kinds = "deployments,daemonsets,services,networkpolicies,pdb,serviceaccounts,roles,rolebindings"
    found = [*fleet.get(kinds, "-n", NAMESPACE)["items"], *fleet.get("clusterroles,clusterrolebindings")["items"]]
    return {f"{i['kind']}/{i['metadata']['name']}": i["metadata"].get("generation", 0) for i in found}


def _unfolded(nodes: str, table: list[str]) -> list[str]:
    return [table[int(name[1:])] if name.startswith("@") else name for name in unfold_names(nodes)]
