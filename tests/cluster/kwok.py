"""Fake nodes by the thousand: Node objects as clouds make them, whose pods kwok plays."""

from datetime import UTC, datetime

from tests.cluster.api import Document

SELECTOR = "type%3Dkwok"
_LABEL_PREFIX = "feature.eidos.test/label-"


def node_names(count: int, name_length: int) -> list[str]:
    """`count` names of exactly `name_length` characters (at most 63, at least 12), in order."""
    if not 12 <= name_length <= 63:
        raise ValueError(f"a node name of {name_length} characters: 12 to 63 are possible")
    return [f"kwok-{index:06d}-".ljust(name_length, "x") for index in range(count)]


def node(name: str, index: int, labels: int) -> Document:
    """A Node that kwok manages; its taint keeps real pods away, the labels come to `labels` in all."""
    base = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": f"gpu-{index % 4}",
        "topology.kubernetes.io/zone": f"zone-{index % 3}",
        "type": "kwok",
    }
    more = {f"{_LABEL_PREFIX}{number:02d}": f"value-{(index + number) % 7}" for number in range(labels)}
    chosen = dict(list({**base, **more}.items())[: max(labels, 1)])
    chosen["type"] = "kwok"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": chosen, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
        "status": _status(name, index),
    }


def _status(name: str, index: int) -> Document:
    """What a kubelet would report, so that the node is Ready as soon as it is made."""
    resources = {"cpu": "32", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8"}
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [("Ready", "True", "KubeletReady")]
    conditions += [(f"{what}Pressure", "False", f"KubeletHasNo{what}Pressure") for what in ("Memory", "Disk", "PID")]
    return {
        "allocatable": resources,
        "capacity": resources,
        "addresses": [
            {"type": "InternalIP", "address": f"10.132.{index // 250}.{index % 250 + 1}"},
            {"type": "Hostname", "address": name},
        ],
        "conditions": [
            {
                "type": kind,
                "status": is_so,
                "reason": reason,
                "message": f"kwok says {reason}",
                "lastHeartbeatTime": now,
                "lastTransitionTime": now,
            }
            for kind, is_so, reason in conditions
        ],
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": "",
            "containerRuntimeVersion": "containerd://2.4.2",
            "kernelVersion": "6.8.0-1025-cloud",
            "kubeProxyVersion": "v1.36.3",
            "kubeletVersion": "v1.36.3",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "Ubuntu 24.04.2 LTS",
            "systemUUID": "",
        },
    }
