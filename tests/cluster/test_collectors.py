"""The cluster's collectors on a real API server, and the snapshot of 5,000 nodes."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.cluster import ClusterAccess
from agent.collectors.base import Context, Options
from agent.collectors.kubernetes import KubernetesCollector
from agent.collectors.topology import TopologyCollector
from agent.host import Host
from common.formats import load_snapshot
from common.kube.configmaps import read_document
from common.model import Absent, Collected, FailureCode, Ok, Scalar, State
from tests.cluster.archive import BUSYBOX_IMAGE
from tests.cluster.cluster import Cluster
from tests.cluster.crds import known
from tests.cluster.kube_client import client_of, grant, namespace
from tests.cluster.manifests import pod

__all__ = ["namespace"]

pytestmark = pytest.mark.cluster


def _collect(kubeconfig: Path, node: str = "gpu-1", **options: Any) -> tuple[Collected, Collected]:
    chosen = Options(kubeconfig=str(kubeconfig), **options)
    ctx = Context(Host(), node, time.monotonic() + 60, chosen)
    access = ClusterAccess({}, account="/nonexistent")
    return KubernetesCollector(access).collect(ctx), TopologyCollector(access).collect(ctx)


def _data(collected: Collected, subtype: str) -> dict[str, Scalar]:
    outcome = collected.subtypes[subtype]
    assert isinstance(outcome, Ok), outcome
    return outcome.data


def test_the_cluster_is_read(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl(
        "apply", f"--namespace={namespace}", "-f", "-", stdin=json.dumps(pod("sleeper", "cpu-1", "sleep 60"))
    )
    kubernetes, topology = _collect(cluster.kubeconfig)
    assert (kubernetes.state, topology.state) == (State.OK, State.OK)
    assert _data(kubernetes, "server")["version"] == "v1.36.3"
    assert _data(kubernetes, "node")["source-node"] == "gpu-1"
    assert _data(kubernetes, "node")["container-runtime-name"] == "containerd"
    name, _, tag = BUSYBOX_IMAGE.rpartition(":")
    assert tag in str(_data(kubernetes, "image-reference")[name]).split(",")
    assert kubernetes.subtypes["policy"] == Absent("the cluster has no resource of kind ClusterPolicy")
    assert _data(topology, "taint")["nvidia.com/gpu"] == "NoSchedule|present|gpu-1"
    assert _data(topology, "label")["nvidia.com/gpu.present"] == "true|gpu-1"
    assert _data(topology, "label")["kubernetes.io/hostname.cpu-1"] == "cpu-1|cpu-1"
    assert _collect(cluster.kubeconfig)[1] == topology


def test_cluster_policies_are_found_by_kind(cluster: Cluster) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "clusterpolicies.nvidia.com"},
        "spec": {
            "group": "nvidia.com",
            "scope": "Cluster",
            "names": {"kind": "ClusterPolicy", "plural": "clusterpolicies", "singular": "clusterpolicy"},
            "versions": [version],
        },
    }
    policy = {
        "apiVersion": "nvidia.com/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": "cluster-policy"},
        "spec": {"driver": {"enabled": True, "version": "570.133.20"}, "daemonsets": {"tolerations": [{"a": 1}]}},
    }
    with known(cluster, definition):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(policy))
        assert _data(_collect(cluster.kubeconfig)[0], "policy") == {
            "driver.enabled": "true",
            "driver.version": "570.133.20",
            "daemonsets.tolerations": '[{"a":1}]',
        }


def test_what_rbac_forbids_is_said(cluster: Cluster, namespace: str) -> None:
    kubernetes, topology = _collect(grant(cluster, namespace, "reader", ("list", "pods")))
    for collected, subtype, words in (
        (kubernetes, "node", "get nodes gpu-1 is forbidden"),
        (kubernetes, "image", "list pods is forbidden"),
        (topology, "label", "list nodes is forbidden"),
    ):
        outcome = collected.subtypes[subtype]
        assert not isinstance(outcome, Ok | Absent)
        assert outcome.code is FailureCode.API_FORBIDDEN
        assert outcome.reason.startswith(words)
    assert isinstance(kubernetes.subtypes["server"], Ok)


MEASURED = """
import re, sys, time
started = time.monotonic()
from cli.main import run
collectors = "--collectors=kubernetes,topology"
status = run(["snapshot", collectors, "--kubeconfig", sys.argv[1], "--output", sys.argv[2]])
# Not getrusage: its peak begins with that of the process we were forked from.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(status, f"{time.monotonic() - started:.2f} {peak:.0f}")
"""


@pytest.mark.timeout(900)
def test_five_thousand_nodes_are_stored_and_read_back_whole(
    cluster: Cluster, namespace: str, tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    names = cluster.kwok(5000)
    try:
        assert {len(name) for name in names} == {63}
        reference = f"cm://{namespace}/fleet"
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(cluster.kubeconfig), reference],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        status, seconds, peak = done.stdout.split()
        assert status == "0"
        with capsys.disabled():
            print(f"\n5,000 nodes: snapshot to {reference} in {seconds} s, peak {peak} MB")
        record_property("seconds", seconds)
        record_property("peak_mb", peak)
    finally:
        cluster.remove_kwok()

    async def fetch() -> bytes:
        async with client_of(cluster.kubeconfig) as kube:
            return await read_document(kube, namespace, "fleet")

    content = asyncio.run(fetch())
    assert len(content) > 5_000_000
    facts = load_snapshot(content, reference).facts()
    data = {name: {k: str(v) for (_, n, k), v in facts.items() if n == name} for name in ("taint", "label")}
    assert facts["NodeTopology", "summary", "node-count"] == 5002
    assert facts["NodeTopology", "summary", "label-count"] == len(data["label"])
    labels = Counter(name for text in data["label"].values() for name in text.rpartition("|")[2].split(","))
    assert all(labels[name] >= 30 for name in names)
    assert set(names) <= set(data["taint"]["kwok.x-k8s.io/node"].rpartition("|")[2].split(","))
    # What kubectl shows is a Snapshot too, and says what it lacks.
    path = ".data.snapshot\\.yaml"
    shown = cluster.kubectl("get", "cm", "fleet", f"--namespace={namespace}", "-o", f"jsonpath={{{path}}}")
    excerpt = tmp_path / "excerpt.yaml"
    excerpt.write_text(shown)
    command = [sys.executable, "-m", "cli", "diff", reference, str(excerpt), "--format=json"]
    command += ["--kubeconfig", str(cluster.kubeconfig)]
    difference = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    assert difference["changes"] == []
    assert [(entry["type"], entry["subtype"]) for entry in difference["incomparable"]] == [("NodeTopology", "label")]
