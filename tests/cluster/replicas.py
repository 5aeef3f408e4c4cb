"""Aggregators and agents as processes of the test, against a real API server.

Each aggregator is a replica with the rights that manifests/fleet gives it and no more. Agents have tokens bound to
real pods on real nodes. A relay stands in for the Service: it leads to whichever replica is ready.
"""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Any, Final, Self, TypeVar

import yaml

from tests.cluster.cluster import Cluster
from tests.cluster.manifests import EVERYWHERE, container
from tests.cluster.relay import Relay
from tests.fleet.processes import Process

_RBAC: Final = Path(__file__).parents[2] / "manifests/fleet/base/rbac-aggregator.yaml"
_AGENT_LABELS: Final = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "agent"}
T = TypeVar("T")

_USER_ROLE: Final = (
    {"apiGroups": ["fleet.eidos.nvidia.com"], "resources": ["fleets/api"], "verbs": ["get", "create"]},
    {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
)


class Replica(Process):
    """`python -m aggregator --cluster`."""

    def __init__(self, fleet: "Fleet", name: str, *arguments: str) -> None:
        self.name = name
        self.api = Relay(lambda: fleet.cluster.api_port).__enter__()
        """Its way to the API server."""
        self._kept = _free_port()
        self.link_port: int = self._kept.getsockname()[1]
        super().__init__(
            [
                *("aggregator", "--cluster", "--namespace", fleet.namespace, "--identity", name),
                *("--kubeconfig", str(fleet.replica_kubeconfig(name, self.api.port))),
                *("--directory", str(fleet.folder / f"scratch-{name}"), "--address", "127.0.0.1"),
                *("--link-port", str(self.link_port), "--api-port", "0", *arguments),
            ],
            fleet.folder / f"{name}.log",
        )
        self.api_port: int = self.read_line()["api_port"]

    def ready(self) -> bool:
        """As kubelet's probe would find it, without looking at the certificate."""
        return self.process.poll() is None and self.probe("/readyz") == 200

    def probe(self, path: str) -> int:
        """HTTP status; 0 when there is no answer."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", self.api_port, context=context, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def close(self, number: Signals = SIGKILL) -> None:
        """End it for good."""
        self.end(number)
        self._kept.close()
        self.api.__exit__()


class Fleet:
    """What is needed in a namespace of a cluster, and the processes that use it. Use with `with`."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.folder = folder
        self.replicas: list[Replica] = []
        self.agents: dict[str, Process] = {}
        self._service = Relay(self._ready_link)

    def __enter__(self) -> Self:
        self.kubectl("create", "namespace", self.namespace)
        documents = [self._renamed(each) for each in yaml.safe_load_all(_RBAC.read_text())]
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([*documents, *self._agents(), *self._user()]))
        self.kubectl("rollout", "status", "daemonset/eidos-agent", "-n", self.namespace, "--timeout=100s")
        self._service.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        for agent in self.agents.values():
            agent.end(SIGKILL)
        for replica in self.replicas:
            replica.close()
        self._service.__exit__()
        self.kubectl("delete", "clusterroles,clusterrolebindings", "-l", f"test={self.namespace}")
        self.kubectl("delete", "rolebinding", f"{self.namespace}-aggregator-authentication", "-n", "kube-system")
        self.kubectl("delete", "namespace", self.namespace)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(*arguments, stdin=stdin)

    # ---- objects

    def _renamed(self, document: dict[str, Any]) -> dict[str, Any]:
        """The manifest's object in our namespace; what is outside of it under a name of ours."""
        text = json.dumps(document).replace('"namespace": "eidos"', f'"namespace": "{self.namespace}"')
        renamed: dict[str, Any] = json.loads(text)
        if renamed["metadata"].get("namespace") != self.namespace:
            for place in (renamed["metadata"], renamed.get("roleRef", {})):
                if place.get("name", "").startswith("eidos-aggregator"):
                    place["name"] = place["name"].replace("eidos", self.namespace, 1)
            renamed["metadata"]["labels"]["test"] = self.namespace
        return renamed

    def _agents(self) -> list[dict[str, Any]]:
        """Pods whose tokens the agents' processes get."""
        spec = {
            "serviceAccountName": "eidos-agent",
            "tolerations": EVERYWHERE,
            "terminationGracePeriodSeconds": 0,
            "containers": [container("sleep 100000")],
        }
        metadata = {"name": "eidos-agent", "namespace": self.namespace}
        template = {"metadata": {"labels": _AGENT_LABELS}, "spec": spec}
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": metadata,
                "spec": {"selector": {"matchLabels": _AGENT_LABELS}, "template": template},
            },
        ]

    def _user(self) -> list[dict[str, Any]]:
        name, kind = f"{self.namespace}-user", "rbac.authorization.k8s.io/v1"
        labels = {"name": name, "labels": {"test": self.namespace}}
        subject = {"kind": "ServiceAccount", "name": "user", "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        return [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "user", "namespace": self.namespace}},
            {"apiVersion": kind, "kind": "ClusterRole", "metadata": labels, "rules": list(_USER_ROLE)},
            {
                "apiVersion": kind,
                "kind": "ClusterRoleBinding",
                "metadata": labels,
                "roleRef": role,
                "subjects": [subject],
            },
        ]

    @property
    def here(self) -> tuple[str, str]:
        """For kubectl."""
        return "-n", self.namespace

    def get(self, kind: str, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.kubectl("get", kind, name, *self.here, "-o", "json"))
        return document

    def data(self, kind: str, name: str) -> dict[str, str] | None:
        """Of a ConfigMap or Secret; None when it is not there."""
        text = self.kubectl("get", kind, name, *self.here, "-o", "json", "--ignore-not-found")
        found: dict[str, str] | None = json.loads(text).get("data") if text else None
        return found

    def published(self) -> str:
        """The run whose document is published; empty when none is."""
        text = (self.data("configmap", "eidos-fleet") or {}).get("snapshot.yaml", "")
        run: str = (yaml.safe_load(text) or {}).get("metadata", {}).get("run", "")
        return run

    # ---- processes

    def replica_kubeconfig(self, name: str, port: int) -> Path:
        """The aggregator's service account, through a port of its own."""
        made = self.cluster.service_account_kubeconfig(self.namespace, "eidos-aggregator")
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(made.read_text().replace(self.cluster.url, f"https://127.0.0.1:{port}"))
        return path

    def start(self, name: str, *arguments: str) -> Replica:
        """Another replica."""
        replica = Replica(self, name, *arguments)
        self.replicas.append(replica)
        return replica

    def leader(self, within: float = 60.0) -> Replica:
        """The replica that is ready, as soon as one is."""
        return wait_for(lambda: next((replica for replica in self.replicas if replica.ready()), None), within)

    def _ready_link(self) -> int | None:
        return next((replica.link_port for replica in self.replicas if replica.ready()), None)

    def join(self, *nodes: str) -> None:
        """Start the agents of these nodes."""
        (self.folder / "ca.crt").write_text(self.get("configmap", "eidos-ca")["data"]["ca.crt"])
        for node in nodes:
            token = self.folder / f"token-{node}"
            token.write_text(self.agent_token(node))
            self.agents[node] = Process(
                [
                    *("agent", "--aggregator", f"https://127.0.0.1:{self._service.port}", "--node", node),
                    *("--server-name", f"eidos-link.{self.namespace}.svc", "--ca-file", str(self.folder / "ca.crt")),
                    *("--token-file", str(token), "--health-port", "0"),
                ],
                self.folder / f"agent-{node}.log",
            )

    def agent_token(self, node: str, audience: str = "eidos-aggregator") -> str:
        """As kubelet mounts it into the agent's pod on the node."""
        pods = json.loads(self.kubectl("get", "pods", "-n", self.namespace, "-o", "json"))["items"]
        pod = next(each["metadata"]["name"] for each in pods if each["spec"]["nodeName"] == node)
        return self.kubectl(
            *("create", "token", "eidos-agent", "-n", self.namespace, "--audience", audience),
            *("--bound-object-kind", "Pod", "--bound-object-name", pod),
        ).strip()

    # ---- a user

    def token(self) -> str:
        """Of a user who may read and start runs."""
        return self.kubectl("create", "token", "user", *self.here).strip()

    def ask(
        self,
        path: str,
        body: object = None,
        replica: Replica | None = None,
        token: str = "",
        more: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON of one request by that user."""
        port = (replica or self.leader()).api_port
        token = token or self.token()
        context = ssl.create_default_context(cadata=self.get("configmap", "eidos-ca")["data"]["ca.crt"])
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", **(more or {})}
            text = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, text, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def states(self, seconds: float = 10.0) -> dict[str, tuple[str, str]]:
        """State and reason by node, of a run."""
        status, document = self.ask("/v1/runs", {"seconds": seconds})
        assert status == 200, document
        items = self.ask("/v1/nodes")[1]["items"]
        return {item["node"]: (item["state"], item.get("reason", "")) for item in items}

    def waiting(self, seconds: float) -> "tuple[ThreadPoolExecutor, Future[tuple[int, Any]]]":
        """A run that somebody waits for, once all but one node have answered."""
        replica, token, body = self.leader(), self.token(), {"seconds": seconds}
        pool = ThreadPoolExecutor(1)
        asking = pool.submit(lambda: self.ask("/v1/runs", body, replica, token))

        def all_but_one() -> bool:
            _, begun = self.ask("/v1/runs", body, replica, token, {"Prefer": "respond-async"})  # joins it
            return begun["answered"] == begun["expected"] - 1 > 0 if begun["state"] == "collecting" else False

        wait_for(all_but_one, seconds)
        return pool, asking

    def linked(self, count: int, within: float = 60.0) -> None:
        """Until so many agents are linked to the leader."""
        wait_for(lambda: sum(item["connected"] for item in self.ask("/v1/nodes")[1]["items"]) >= count, within)


def wait_for(find: Callable[[], T | None], within: float) -> T:
    """What `find` finds, as soon as it is something."""
    until = time.monotonic() + within
    while not (found := find()):
        if time.monotonic() > until:
            raise AssertionError(f"not so within {within:g} s")
        time.sleep(0.05)
    return found


def _free_port() -> socket.socket:
    """Bound to a port that the system gives to nobody else meanwhile; who asks for it by number may listen on it."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept
