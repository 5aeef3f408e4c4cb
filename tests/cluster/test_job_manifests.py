"""The documented workflow with kubectl alone, on a real kubelet: manifests/job, and the examples of its readers."""

import json
from collections.abc import Iterator
from functools import partial

import pytest
import yaml

from common.formats import load_snapshot
from common.model import Snapshot, State
from tests.cluster.cluster import KubectlError
from tests.cluster.jobmode import CHECKOUT, Jobs
from tests.cluster.replicas import wait_for

pytestmark = pytest.mark.cluster

NAMESPACE = "gpu-operator"
ACCOUNT = f"--as=system:serviceaccount:{NAMESPACE}:eidos"
MANIFESTS = CHECKOUT / "manifests"
JOB = MANIFESTS / "job"


@pytest.fixture
def deployed(jobs: Jobs) -> Iterator[Jobs]:
    """1-deps.yaml is applied."""
    jobs.apply((JOB / "1-deps.yaml").read_text())
    yield jobs
    jobs.forget()
    jobs.kubectl("delete", "namespace", NAMESPACE, "--timeout=100s")


def _snapshot(jobs: Jobs, name: str = "eidos-snapshot") -> Snapshot:
    return load_snapshot(jobs.stored(name, NAMESPACE), name)


def _facts(document: Snapshot, measurement: str, subtype: str) -> dict[str, object]:
    found = [s for m in document.measurements if m.type == measurement for s in m.subtypes if s.subtype == subtype]
    return dict(found[0].data) if found else {}


def test_the_documented_steps(deployed: Jobs) -> None:
    deployed.apply((JOB / "2-job.yaml").read_text())
    deployed.complete("eidos", NAMESPACE)
    document = _snapshot(deployed)
    assert document.metadata.source_node == "gpu-1"
    assert {m.type.value for m in document.measurements} == {"K8s", "GPU", "OS", "SystemD", "NodeTopology"}
    assert [entry for entry in document.collection if entry.state in (State.FAILED, State.PARTIAL)] == []
    assert _facts(document, "GPU", "smi")["gpu-count"] == 8
    assert _facts(document, "OS", "release")["ID"] == "debian"
    assert _facts(document, "SystemD", "containerd.service")["ActiveState"] == "active"
    assert str(_facts(document, "K8s", "server")["version"]).startswith("v1.")
    assert _facts(document, "NodeTopology", "taint")["nvidia.com/gpu"] == "NoSchedule|present|gpu-1"
    # The host's own namespaces, not the container's.
    sysctl = _facts(document, "OS", "sysctl")
    assert sysctl["/proc/sys/kernel/hostname"] == "gpu-1"
    assert "/proc/sys/net/core/somaxconn" in sysctl


def test_the_pods_network_is_known_to_be_the_hosts(deployed: Jobs) -> None:
    """So that drivers are asked for what /sys does not show."""
    job = yaml.safe_load((JOB / "2-job.yaml").read_text())
    asked = "import os; from agent.oneshot import find_host; print(find_host(os.environ).shares_network)"
    job["spec"]["template"]["spec"]["containers"][0] |= {"command": ["python", "-c", asked], "args": []}
    deployed.apply(yaml.safe_dump(job))
    deployed.complete("eidos", NAMESPACE)
    assert deployed.kubectl("logs", "job/eidos", "-n", NAMESPACE) == "True\n"


def test_the_configmap_is_as_documented(deployed: Jobs) -> None:
    deployed.apply((JOB / "2-job.yaml").read_text())
    deployed.complete("eidos", NAMESPACE)
    stored = deployed.get("configmap", "eidos-snapshot", "-n", NAMESPACE)
    assert set(stored["data"]) == {"snapshot.yaml", "format", "timestamp"}
    assert stored["data"]["format"] == "yaml"
    labels = stored["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "eidos"
    assert labels["app.kubernetes.io/component"] == "snapshot"
    assert "ownerReferences" not in stored["metadata"]  # it outlives the Job
    assert yaml.safe_load(stored["data"]["snapshot.yaml"])["kind"] == "Snapshot"


def test_what_the_account_may_do(deployed: Jobs) -> None:
    def may(*question: str) -> bool:
        try:
            return deployed.kubectl("auth", "can-i", *question, ACCOUNT).strip() == "yes"
        except KubectlError:  # "no" is exit status 1
            return False

    # The API server acts by new roles a moment later.
    wait_for(partial(may, "get", "nodes"), 30)
    wait_for(partial(may, "get", "pods"), 30)
    wait_for(partial(may, "create", "configmaps", "-n", NAMESPACE), 30)
    assert not may("create", "configmaps", "-n", "default")
    assert not may("get", "secrets", "-n", NAMESPACE)
    assert not may("create", "pods", "-n", NAMESPACE)
    assert not may("patch", "nodes")
    assert not may("*", "*")


def test_the_troubleshooting_commands(deployed: Jobs) -> None:
    deployed.apply((JOB / "2-job.yaml").read_text())
    deployed.complete("eidos", NAMESPACE)
    assert "job.batch/eidos" in deployed.kubectl("get", "jobs", "-n", NAMESPACE, "-o", "name")
    assert "pod/eidos-" in deployed.kubectl("get", "pods", "-n", NAMESPACE, "-l", "job-name=eidos", "-o", "name")
    assert "Completed" in deployed.kubectl("describe", "job", "eidos", "-n", NAMESPACE)
    deployed.kubectl("logs", "-n", NAMESPACE, "job/eidos")
    for kind in ("clusterrole", "clusterrolebinding"):
        deployed.kubectl("get", kind, "eidos")
    deployed.kubectl("get", "serviceaccount", "eidos", "-n", NAMESPACE)
    deployed.kubectl("delete", "job", "eidos", "-n", NAMESPACE)
    deployed.kubectl("delete", "-f", str(JOB / "1-deps.yaml"), "--timeout=100s")
    deployed.kubectl("create", "namespace", NAMESPACE)  # the fixture deletes it


def test_a_job_from_the_cronjob(deployed: Jobs) -> None:
    deployed.apply((JOB / "cronjob.yaml").read_text())
    deployed.kubectl("create", "job", "--from=cronjob/eidos-snapshot", "by-hand", "-n", NAMESPACE)
    deployed.complete("by-hand", NAMESPACE)
    assert _snapshot(deployed).metadata.source_node == "gpu-1"


def test_the_networkpolicy_selects_the_pods(deployed: Jobs) -> None:
    deployed.apply((JOB / "networkpolicy.yaml").read_text())
    deployed.apply((JOB / "2-job.yaml").read_text())
    policy = deployed.get("networkpolicy", "eidos-agent", "-n", NAMESPACE)
    labels = policy["spec"]["podSelector"]["matchLabels"]
    selector = ",".join(f"{name}={value}" for name, value in labels.items())
    deployed.complete("eidos", NAMESPACE)
    assert len(deployed.get("pods", "-n", NAMESPACE, "-l", selector)["items"]) == 1


def test_the_kustomization_is_the_manifests(jobs: Jobs) -> None:
    built = list(yaml.safe_load_all(jobs.kubectl("kustomize", str(JOB))))
    single = [
        document
        for name in ("1-deps.yaml", "2-job.yaml", "networkpolicy.yaml")
        for document in yaml.safe_load_all((JOB / name).read_text())
    ]

    def key(document: object) -> str:
        return json.dumps(document, sort_keys=True)

    assert sorted(map(key, built)) == sorted(map(key, single))


def test_restricted_where_nothing_else_is_admitted(jobs: Jobs) -> None:
    """As PSS restricted demands; what could not be read is said, and nothing of the container passes for the node."""
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    with jobs.namespace(NAMESPACE, enforce):
        jobs.apply(jobs.kubectl("kustomize", str(MANIFESTS / "job-restricted")))
        jobs.complete("eidos", NAMESPACE)
        document = _snapshot(jobs)
    jobs.forget()
    assert document.metadata.source_node in ("gpu-1", "cpu-1")
    failed = {f"{e.type}.{e.subtype}" if e.subtype else e.collector: e for e in document.collection if e.code}
    # Which files of /proc/sys only root may read, and which ask for capabilities, is the kernel's to say.
    unread_sysctls = {name for name in failed if name.startswith("OS.sysctl[/proc/sys/")}
    assert set(failed) - unread_sysctls == {"OS.release", "OS.network", "OS.container-runtime", "systemd"}
    assert {entry.code for entry in failed.values()} == {"permission_denied"}
    assert "not mounted in this container" in failed["OS.release"].reason
    sysctl = _facts(document, "OS", "sysctl")
    assert sysctl["/proc/sys/kernel/ostype"] == "Linux"
    of_the_container = ("/proc/sys/net/", "/proc/sys/kernel/hostname", "/proc/sys/kernel/shm", "/proc/sys/fs/mqueue/")
    assert [key for key in sysctl if key.startswith(of_the_container)] == []
    assert _facts(document, "K8s", "node")
    assert _facts(document, "NodeTopology", "summary")["node-count"] == 2
