"""The fleet in the cluster's own API, for tests: the objects of manifests/fleet, an aggregator, simulated agents."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster import network
from tests.cluster.binaries import binaries_directory
from tests.cluster.cluster import Cluster
from tests.fleet.processes import Process

MANIFESTS: Final = Path(__file__).parents[2] / "manifests" / "fleet" / "base"
NAMESPACE: Final = "eidos-in-api"
GROUP: Final = "/apis/fleet.eidos.nvidia.com/v1alpha1"
APISERVICE: Final = "v1alpha1.fleet.eidos.nvidia.com"
_FILES: Final = ("rbac-aggregator.yaml", "rbac-users.yaml", "apiservice.yaml")


class InApi:
    """What a test needs of it."""

    def __init__(self, cluster: Cluster, aggregator: Process, ports: dict[str, int], directory: Path) -> None:
        self.cluster = cluster
        self.aggregator = aggregator
        self.directory = directory
        self._api_port = ports["api_port"]

    @cached_property
    def direct_port(self) -> int:
        """Where the aggregator itself is asked, on this machine's loopback."""
        return self.cluster.forward(network.CONTROL_PLANE, self._api_port)[0]

    def kubectl(
        self, *arguments: str, kubeconfig: Path | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """kubectl to its end, whatever that is."""
        return subprocess.run(
            [
                str(binaries_directory() / "kubectl"),
                f"--kubeconfig={kubeconfig or self.cluster.kubeconfig}",
                *arguments,
            ],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def good(self, *arguments: str, kubeconfig: Path | None = None, stdin: str | None = None) -> str:
        """What kubectl that must succeed prints."""
        done = self.kubectl(*arguments, kubeconfig=kubeconfig, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def eidos(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """`eidos fleet` to its end, as somebody with a kubeconfig uses it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EIDOS_", "KUBE"))}
        return subprocess.run(
            [sys.executable, "-m", "cli", "fleet", *arguments],
            env={**kept, "KUBECONFIG": str(kubeconfig or self.cluster.kubeconfig)},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    def take(self) -> None:
        """A run over the whole fleet, to its end."""
        answer = self.good("create", "--raw", f"{GROUP}/fleets/eidos/api/v1/runs", "-f", "-", stdin="{}")
        assert json.loads(answer)["kind"] == "FleetSnapshot"


@contextmanager
def in_api(cluster: Cluster, directory: Path, count: int, agents: int) -> Iterator[InApi]:
    """The fleet in the API while the block runs. Everything of it is gone afterwards."""
    applied = _objects(cluster)
    processes: list[Process] = []
    try:
        cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(applied))
        inside = ["nsenter", f"--net=/proc/{cluster.control_plane.machine.pid}/ns/net"]
        kubeconfig = _kubeconfig(cluster)
        home = directory / "aggregator"
        aggregator = Process(
            ["tests.cluster.apiservice_process", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE,
             "--address", network.CONTROL_PLANE, "--directory", str(home), "--count", str(count)],
            directory / "aggregator.log", stdin=True, prefix=inside,
        )  # fmt: skip
        processes.append(aggregator)
        ports = aggregator.read_line()
        cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(_endpoints(ports["api_port"])))
        simulator = Process(
            ["tests.fleet.simulator", "--port", str(ports["link_port"]), "--directory", str(home),
             "--count", str(agents)],
            directory / "simulator.log", stdin=True, prefix=inside,
        )  # fmt: skip
        processes.append(simulator)
        simulator.read_line()
        simulator.command("connect")
        cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{APISERVICE}", "--timeout=100s")
        yield InApi(cluster, aggregator, ports, home)
    finally:
        for process in reversed(processes):
            process.end()
        # Before its aggregator's namespace: a group that nobody serves keeps namespaces from going.
        cluster.kubectl("delete", "apiservice", APISERVICE, "--ignore-not-found")
        cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(applied))


def _objects(cluster: Cluster) -> list[Any]:
    """Those of manifests/fleet that matter here, in a namespace of our own."""
    objects: list[Any] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}]
    for name in _FILES:
        text = (MANIFESTS / name).read_text().replace("namespace: eidos", f"namespace: {NAMESPACE}")
        objects += yaml.safe_load_all(text)
    service = {"ports": [{"name": "https", "port": 443, "targetPort": 8444}]}
    metadata = {"name": "eidos-api", "namespace": NAMESPACE}
    return [*objects, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service}]


def _endpoints(port: int) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "eidos-api-by-hand",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": "eidos-api"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [network.CONTROL_PLANE], "conditions": {"ready": True}}],
    }


def _kubeconfig(cluster: Cluster) -> Path:
    """As the aggregator's own service account, by the API server's address inside the cluster."""
    account = ("eidos-aggregator", f"--namespace={NAMESPACE}", "--duration=1h")
    token = cluster.kubectl("create", "token", *account).strip()
    server = f"https://{network.CONTROL_PLANE}:{network.API_PORT}"
    return cluster.pki.kubeconfig(cluster.state / "in-api.kubeconfig", server, {"token": token})


def ca_bundle(cluster: Cluster) -> bytes:
    """What the APIService says now."""
    path = "jsonpath={.spec.caBundle}"
    return base64.b64decode(cluster.kubectl("get", "apiservice", APISERVICE, "-o", path))
