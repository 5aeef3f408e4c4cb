"""The overlays on a real cluster, one after the other: each installation is brought to what the flags say now."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.fleetmode import NAMESPACE, Fleet

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def gone_afterwards(fleet: Fleet, before: dict[str, Any]) -> Iterator[None]:
    yield
    removed = fleet.eidos("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert fleet.everything() == before


def _install(fleet: Fleet, *overlays: str) -> str:
    done = fleet.eidos("install", *fleet.images, *(f"--overlay={overlay}" for overlay in overlays))
    assert done.returncode == 0, done.stderr
    return done.stdout


def _nodes(fleet: Fleet) -> dict[str, str]:
    done = fleet.eidos("nodes", "--format", "json")
    assert done.returncode == 0, done.stderr
    return {item["node"]: item.get("state", "") for item in json.loads(done.stdout)["items"]}


def test_restricted_agents_are_admitted_and_answer(fleet: Fleet) -> None:
    """Kubelet's probes go through a shell there, and the namespace enforces what the agents keep to."""
    assert "2 of 2 agents ready" in _install(fleet, "restricted")
    labels = fleet.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert set(_nodes(fleet)) == {"cpu-1", "gpu-1"}
    one = fleet.eidos("node", "gpu-1", "--format", "json")
    assert one.returncode == 0, one.stderr
    facts = {s["subtype"]: s["data"] for m in json.loads(one.stdout)["measurements"] for s in m["subtypes"]}
    assert "/proc/sys/vm/swappiness" in facts["sysctl"]
    assert "containerd.service" not in facts


def test_talos_agents_read_the_host_without_its_root(fleet: Fleet) -> None:
    assert "2 of 2 agents ready" in _install(fleet, "talos")
    one = fleet.eidos("node", "gpu-1", "--format", "json")
    assert one.returncode == 0, one.stderr
    facts = {s["subtype"]: s["data"] for m in json.loads(one.stdout)["measurements"] for s in m["subtypes"]}
    assert facts["release"]["ID"] == "debian"
    assert facts["sysctl"]["/proc/sys/kernel/hostname"] == "gpu-1"
    assert facts["smi"]["gpu-count"] == 8


def test_two_aggregators_and_agents_on_gpu_nodes_only(fleet: Fleet) -> None:
    assert "1 of 1 agents ready" in _install(fleet, "ha", "gpu-nodes")
    assert _nodes(fleet) == {"gpu-1": "ok"}
    pods = fleet.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=aggregator")["items"]
    live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert {pod["spec"]["nodeName"] for pod in live} == {"cpu-1", "gpu-1"}
    # An eviction of the leader is allowed, though a standby is never ready.
    fleet.kubectl("wait", "pdb/eidos-aggregator", "-n", NAMESPACE, "--timeout=30s",
                  "--for=jsonpath={.status.disruptionsAllowed}=1")  # fmt: skip


def test_what_an_overlay_set_goes_with_it(fleet: Fleet) -> None:
    """And an upgrade keeps the overlays that were chosen."""
    done = fleet.eidos("upgrade")
    assert done.returncode == 0, done.stderr
    assert fleet.get("deployment", "eidos-aggregator", "-n", NAMESPACE)["spec"]["replicas"] == 2
    assert "2 of 2 agents ready" in _install(fleet)
    assert fleet.get("deployment", "eidos-aggregator", "-n", NAMESPACE)["spec"]["replicas"] == 1
    agent = fleet.get("daemonset", "eidos-agent", "-n", NAMESPACE)["spec"]["template"]["spec"]
    assert "nodeSelector" not in agent
    assert agent["hostNetwork"] is True


def test_what_is_not_ours_stays(fleet: Fleet) -> None:
    """A registry's Secret, and a snapshot of somebody's, which bears our labels too."""
    fleet.kubectl("create", "secret", "generic", "regcred", "-n", NAMESPACE, "--from-literal=a=b")
    fleet.kubectl("create", "configmap", "mine", "-n", NAMESPACE, "--from-literal=format=yaml")
    labels = ("app.kubernetes.io/name=eidos", "app.kubernetes.io/component=snapshot")
    fleet.kubectl("label", "configmap", "mine", "-n", NAMESPACE, *labels)
    removed = fleet.eidos("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert f"Note: namespace {NAMESPACE} stays, because configmaps mine is in it" in removed.stderr
    left = fleet.kubectl("get", "all,configmaps,secrets,serviceaccounts,roles,leases", "-n", NAMESPACE, "-o", "name")
    assert set(left.split()) == {
        "configmap/kube-root-ca.crt",
        "configmap/mine",
        "secret/regcred",
        "serviceaccount/default",
    }
    fleet.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
