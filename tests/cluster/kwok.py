"""Fake nodes by the thousand: Node objects as clouds make them, kept Ready by kwok."""

from tests.cluster.api import Document

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
        "status": {
            "allocatable": {"cpu": "32", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8"},
            "capacity": {"cpu": "32", "memory": "256Gi", "pods": "110", "nvidia.com/gpu": "8"},
        },
    }
