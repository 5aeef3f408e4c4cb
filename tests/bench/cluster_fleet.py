"""A fleet as it is installed in a real cluster, for measuring: real pods on real nodes, and thousands of others.

The others are kwok's: Node objects, without pods, because to make thousands takes longer than all that is measured.
Where they are to have agents, one process beside the cluster speaks for all of them, through the Service that real
agents dial.
"""

import json
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.wire import AUDIENCE
from tests.cluster.apiservice import GROUP
from tests.cluster.cluster import Cluster
from tests.cluster.container import Container, container_of
from tests.cluster.controlplane import ISSUER
from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.furnish import put_nvml
from tests.cluster.images import AGENT_IMAGE, AGGREGATOR_IMAGE, agent_archive, aggregator_archive
from tests.cluster.node import DEFAULT_NODES
from tests.cluster.orphans import own_name, remove_orphans
from tests.fleet.naming import NAMINGS
from tests.fleet.processes import Process

_ARRIVES_WITHIN: Final = 300.0
_TOKEN_SECONDS: Final = 7200
_REAL: Final = {"key": "type", "operator": "NotIn", "values": ["kwok"]}
_AFFINITY: Final = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [_REAL]}]}
    }
}
_NOT_ON_FAKE_NODES: Final = {"spec": {"template": {"spec": {"affinity": _AFFINITY}}}}


class ClusterFleet:
    """An installed fleet of `size` nodes, the real ones included."""

    def __init__(self, cluster: Cluster, fleet: Fleet, size: int, folder: Path) -> None:
        self.cluster = cluster
        self.fleet = fleet
        self.size = size
        self.aggregator: Container = container_of(cluster, "app.kubernetes.io/component=aggregator", NAMESPACE)
        self._fake = size - len(cluster.nodes)
        self._folder = folder

    def crowd(self) -> None:
        """Add the nodes that are not real, until the fleet expects them."""
        agents = ("daemonset/eidos-agent", "-n", NAMESPACE)
        self.cluster.kubectl("patch", *agents, "--type=merge", "-p", json.dumps(_NOT_ON_FAKE_NODES))
        self.cluster.kubectl("rollout", "status", *agents)
        self.cluster.kwok(self._fake)
        self._wait("nodes", self.size)

    @contextmanager
    def linked(self) -> Iterator[Process]:
        """While the block runs all nodes have an agent."""
        self._write_credentials()
        service = self.cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/services/eidos-link")["spec"]
        simulator = Process(
            ["tests.fleet.simulator", "--address", service["clusterIP"], "--port", str(service["ports"][0]["port"]),
             "--server-name", f"eidos-link.{NAMESPACE}.svc", "--directory", str(self._folder), "--naming", "kwok",
             "--count", str(self._fake)],
            self._folder / "simulator.log", stdin=True,
            prefix=["nsenter", f"--net=/proc/{self.cluster.nodes['cpu-1'].machine.pid}/ns/net"],
        )  # fmt: skip
        try:
            simulator.read_line()
            simulator.command("connect")
            self._wait("connected", self.size)
            yield simulator
        finally:
            simulator.end()

    def _write_credentials(self) -> None:
        """The aggregator's authority, and a token for each node as the cluster signs them for agents' pods."""
        bundle = self.cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/eidos-ca")["data"]["ca.crt"]
        (self._folder / "ca.crt").write_text(bundle)
        (self._folder / "tokens").mkdir(exist_ok=True)
        # Read once: RSA keys are checked when they are read, which takes longer than to sign.
        key = load_pem_private_key(self.cluster.pki.service_accounts.key.read_bytes(), None)
        assert isinstance(key, RSAPrivateKey)
        names = {"kid": json.loads(self.cluster.kubectl("get", "--raw", "/openid/v1/jwks"))["keys"][0]["kid"]}
        for number in range(self._fake):
            node = NAMINGS["kwok"](number)
            token = jwt.encode(_claims(node), key, algorithm="RS256", headers=names)
            (self._folder / "tokens" / node).write_text(token)

    def _wait(self, field: str, count: int) -> None:
        """Until a field of the Fleet's status is so much."""
        deadline = time.monotonic() + _ARRIVES_WITHIN
        while (there := self.cluster.api.get(f"{GROUP}/fleets/eidos")["status"][field]) != count:
            if time.monotonic() > deadline:
                raise RuntimeError(f"after {_ARRIVES_WITHIN:g} s {field} is {there}, not {count}")
            time.sleep(0.5)

    def published(self) -> dict[str, Any]:
        """ConfigMap eidos-fleet."""
        return self.cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/eidos-fleet")


@contextmanager
def cluster_fleet(size: int) -> Iterator[ClusterFleet]:
    """A cluster of its own with a fleet in it, without the nodes that are not real yet."""
    archives = agent_archive(), aggregator_archive()
    remove_orphans()
    with tempfile.TemporaryDirectory() as folder, Cluster(own_name(), DEFAULT_NODES, bound=True) as cluster:
        cluster.start()
        for archive in archives:
            cluster.load_image(archive)
        put_nvml(cluster)
        fleet = Fleet(cluster, AGENT_IMAGE, AGGREGATOR_IMAGE, Path(folder))
        done = fleet.eidos("install", *fleet.images)
        if done.returncode:
            raise RuntimeError(f"eidos fleet install: {done.stderr}")
        yield ClusterFleet(cluster, fleet, size, Path(folder))


def _claims(node: str) -> dict[str, Any]:
    now = int(time.time())
    return {
        "aud": [AUDIENCE],
        "iss": ISSUER,
        "sub": f"system:serviceaccount:{NAMESPACE}:eidos-agent",
        "iat": now,
        "nbf": now,
        "exp": now + _TOKEN_SECONDS,
        "kubernetes.io": {
            "namespace": NAMESPACE,
            "node": {"name": node, "uid": str(uuid.uuid4())},
            "pod": {"name": f"eidos-agent-{node[5:11]}", "uid": str(uuid.uuid4())},
            "serviceaccount": {"name": "eidos-agent", "uid": str(uuid.uuid4())},
        },
    }
