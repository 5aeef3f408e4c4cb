"""The examples users have copied from earlier documentation apply unchanged, but for image and registry.

Each is written here by its facts: names, selectors, security settings and commands, in their places.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from common.formats import load_snapshot
from tests.cluster.jobmode import CHECKOUT, Jobs

pytestmark = pytest.mark.cluster

NAMESPACE = "gpu-operator"
OUTPUT = "cm://gpu-operator/eidos-snapshot"
GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
NOT_ROOT = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
}
RBAC = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: eidos, namespace: gpu-operator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: eidos, namespace: gpu-operator}
rules:
- {apiGroups: [""], resources: [configmaps], verbs: [VERBS]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: eidos, namespace: gpu-operator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: eidos}
subjects:
- {kind: ServiceAccount, name: eidos, namespace: gpu-operator}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: eidos, labels: {app.kubernetes.io/name: eidos}}
rules:
- {apiGroups: [""], resources: [nodes, pods], verbs: [get, list]}
- {apiGroups: [nvidia.com], resources: [clusterpolicies], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: eidos, labels: {app.kubernetes.io/name: eidos}}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: eidos}
subjects:
- {kind: ServiceAccount, name: eidos, namespace: gpu-operator}
"""
VERBS = {
    "with patch": "get, list, create, update, patch",
    "without patch": "get, list, create, update",
}


@pytest.fixture
def documented(jobs: Jobs, request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """A namespace with the RBAC objects of the earlier documentation."""
    with jobs.namespace(NAMESPACE):
        jobs.apply(RBAC.replace("VERBS", VERBS[getattr(request, "param", "with patch")]))
        yield jobs
    jobs.forget()


def _pod(image: str = "ghcr.io/nvidia/eidos:latest", **more: Any) -> dict[str, Any]:
    container = {
        "name": "eidos",
        "image": image,
        "command": ["eidos"],
        "args": ["snapshot", "--output", OUTPUT],
        **more.pop("container", {}),
    }
    return {"serviceAccountName": "eidos", "restartPolicy": "Never", "containers": [container], **more}


def _job(**more: Any) -> str:
    document = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "eidos", "namespace": NAMESPACE, "labels": {"app": "eidos-agent"}},
        "spec": {"template": {"spec": _pod(**more)}},
    }
    return yaml.safe_dump(document)


def _node(jobs: Jobs) -> str:
    jobs.complete("eidos", NAMESPACE)
    return load_snapshot(jobs.stored("eidos-snapshot", NAMESPACE), "the ConfigMap").metadata.source_node


def test_eks_with_a_node_group(documented: Jobs) -> None:
    documented.kubectl("label", "node", "gpu-1", "nodeGroup=gpu-nodes", "--overwrite")
    documented.apply(_job(nodeSelector={"nodeGroup": "gpu-nodes"}, tolerations=[GPU_TOLERATION]))
    assert _node(documented) == "gpu-1"
    documented.kubectl("label", "node", "gpu-1", "nodeGroup-")


def test_gke_with_an_accelerator(documented: Jobs) -> None:
    label = "cloud.google.com/gke-accelerator"
    documented.kubectl("label", "node", "cpu-1", f"{label}=nvidia-tesla-h100", "--overwrite")
    documented.apply(_job(nodeSelector={label: "nvidia-tesla-h100"}))
    assert _node(documented) == "cpu-1"
    documented.kubectl("label", "node", "cpu-1", f"{label}-")


@pytest.mark.parametrize("documented", list(VERBS), indirect=True)
def test_hardened_with_one_command_line(documented: Jobs) -> None:
    """Runs with the smaller roles of both generations, the image of the other name included."""
    container = {"command": ["eidos", "snapshot", "--output", OUTPUT], "args": [], "securityContext": NOT_ROOT}
    documented.apply(_job(image="ghcr.io/nvidia/eidos/eidos:latest", container=container))
    assert _node(documented) == "cpu-1"  # it tolerates no taint


def test_privileged_with_the_drivers_directory(documented: Jobs) -> None:
    """What the deployment code of the tool before made: everything of the host, and /run/nvidia."""
    documented.cluster.nodes["gpu-1"].machine.run(["mkdir", "-p", "/run/nvidia"])
    volumes = {"host": "/", "nvidia": "/run/nvidia"}
    container = {
        "command": ["eidos", "snapshot", "-o", OUTPUT],
        "args": [],
        "securityContext": {"privileged": True, "runAsUser": 0},
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        "volumeMounts": [
            {"name": "host", "mountPath": "/host", "readOnly": True},
            {"name": "nvidia", "mountPath": "/run/nvidia", "readOnly": True},
        ],
    }
    documented.apply(
        _job(
            container=container,
            **{"hostPID": True, "hostNetwork": True, "hostIPC": True},
            nodeSelector={"nvidia.com/gpu.present": "true"},
            tolerations=[GPU_TOLERATION],
            volumes=[
                {"name": name, "hostPath": {"path": path, "type": "Directory"}} for name, path in volumes.items()
            ],
        )
    )
    assert _node(documented) == "gpu-1"
    document = load_snapshot(documented.stored("eidos-snapshot", NAMESPACE), "the ConfigMap")
    assert {m.type.value for m in document.measurements} == {"K8s", "GPU", "OS", "SystemD", "NodeTopology"}


def test_a_format_on_standard_output(documented: Jobs) -> None:
    documented.apply(_job(container={"args": ["snapshot", "--format", "json"]}))
    documented.complete("eidos", NAMESPACE)
    lines = documented.kubectl("logs", "job/eidos", "-n", NAMESPACE).splitlines()
    text = "\n".join(line for line in lines if not line.startswith("Warning: "))
    assert load_snapshot(text.encode(), "the log").metadata.source_node == "cpu-1"


def test_every_six_hours(documented: Jobs) -> None:
    template = {"spec": {"template": {"spec": _pod(nodeSelector={"nvidia.com/gpu.present": "true"})}}}
    template["spec"]["template"]["spec"]["tolerations"] = [GPU_TOLERATION]
    document = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "eidos-snapshot", "namespace": NAMESPACE},
        "spec": {"schedule": "0 */6 * * *", "jobTemplate": template},
    }
    documented.apply(yaml.safe_dump(document))
    documented.kubectl("create", "job", "--from=cronjob/eidos-snapshot", "eidos", "-n", NAMESPACE)
    assert _node(documented) == "gpu-1"


def test_the_networkpolicy_by_the_jobs_name(documented: Jobs) -> None:
    documented.apply(
        yaml.safe_dump(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "eidos-agent", "namespace": NAMESPACE},
                "spec": {
                    "podSelector": {"matchLabels": {"job-name": "eidos"}},
                    "policyTypes": ["Egress"],
                    "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP", "port": 443}]}],
                },
            }
        )
    )
    documented.apply((CHECKOUT / "manifests/job/2-job.yaml").read_text())
    documented.complete("eidos", NAMESPACE)
    assert len(documented.get("pods", "-n", NAMESPACE, "-l", "job-name=eidos")["items"]) == 1
