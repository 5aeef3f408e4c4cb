"""What the tests of the Kubernetes client on a real API server share."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.kube.client import Kube
from common.kube.target import load_target
from tests.cluster.cluster import Cluster
from tests.cluster.replicas import wait_for


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"kube-{request.node.name.replace('_', '-').replace('[', '-').replace(']', '')}"[:60].rstrip("-")
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def client_of(kubeconfig: Path, seconds: float = 200.0) -> Kube:
    return Kube(load_target(str(kubeconfig), environment={}), deadline=time.monotonic() + seconds)


def grant(cluster: Cluster, namespace: str, account: str, *rules: tuple[str, str]) -> Path:
    """A service account that may do only this in its namespace; its kubeconfig."""
    cluster.kubectl("create", "serviceaccount", account, f"--namespace={namespace}")
    for number, (verbs, resource) in enumerate(rules):
        role = f"{account}-{number}"
        cluster.kubectl(
            "create", "role", role, f"--verb={verbs}", f"--resource={resource}", f"--namespace={namespace}"
        )
        subject = f"--serviceaccount={namespace}:{account}"
        cluster.kubectl("create", "rolebinding", role, f"--role={role}", subject, f"--namespace={namespace}")
    kubeconfig = cluster.service_account_kubeconfig(namespace, account)
    asked = (f"--kubeconfig={kubeconfig}", "auth", "can-i", "--list", f"--namespace={namespace}")
    # The API server acts by new roles a moment later.
    wait_for(lambda: all(resource in cluster.kubectl(*asked) for _, resource in rules), 30)
    return kubeconfig
