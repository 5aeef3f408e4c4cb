"""The few objects the tests of the cluster itself apply, as plain documents."""

from typing import Any

from tests.cluster.archive import BUSYBOX_IMAGE

Document = dict[str, Any]
EVERYWHERE = [{"operator": "Exists"}]


def container(script: str, image: str = BUSYBOX_IMAGE, **more: Any) -> Document:
    return {"name": "main", "image": image, "imagePullPolicy": "Never", "command": ["/bin/sh", "-c", script], **more}


def pod(name: str, node: str, script: str, **more: Any) -> Document:
    """A pod that runs once on `node`, whatever its taints; `more` replaces parts of its spec."""
    spec = {
        "nodeSelector": {"kubernetes.io/hostname": node},
        "tolerations": EVERYWHERE,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [container(script)],
        **more,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def job(name: str, node: str, script: str, image: str = BUSYBOX_IMAGE) -> Document:
    spec = pod(name, node, script, containers=[container(script, image)])["spec"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }


def daemon_set(name: str, script: str, container_more: Document | None = None, **spec_more: Any) -> Document:
    labels = {"app": name}
    spec = {
        "tolerations": EVERYWHERE,
        "terminationGracePeriodSeconds": 0,
        "containers": [container(script, **(container_more or {}))],
        **spec_more,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def service(name: str, port: int, target: int) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]},
    }
