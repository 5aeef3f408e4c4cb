"""The whole cluster: start it, use it, stop it."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.cluster import cgroups, kwok, network, systemd
from tests.cluster.api import Api
from tests.cluster.archive import write_busybox, write_pause
from tests.cluster.binaries import binaries_directory, build_binaries, built
from tests.cluster.controlplane import ControlPlane
from tests.cluster.debian import build_debian, debian_built
from tests.cluster.machine import Machine
from tests.cluster.node import DEFAULT_NODES, SOCKET, Node, NodeSpec
from tests.cluster.paths import run_directory
from tests.cluster.pki import Pki, certificate_user
from tests.cluster.processes import MARK, kill_marked
from tests.cluster.requirements import check_go, check_machine, install_packages

_FORWARD = Path(__file__).with_name("forward.py")


class KubectlError(RuntimeError):
    """kubectl ended with an error; the text is what it wrote to stderr."""


def prepare() -> None:
    """Builds and installs everything a start needs; raises ClusterUnavailableError where this machine cannot."""
    check_machine()
    ready = built() and debian_built()
    if not ready:
        check_go()
    install_packages(to_build=not ready)
    build_binaries()
    build_debian()


class Cluster:
    """One cluster, known by its name. Several may run at once.

    `bound` ties its life to the calling thread: when that ends, however it ends, the kernel kills every process of
    the cluster.
    """

    def __init__(
        self, name: str = "default", specs: Iterable[NodeSpec] = DEFAULT_NODES, *, bound: bool = False
    ) -> None:
        self.name = name
        self.state = run_directory(name)
        self.pki = Pki(self.state / "pki")
        self.kubeconfig = self.state / "kubeconfig"
        self._bound = bound
        self._children: list[subprocess.Popen[bytes]] = []
        self.control_plane = ControlPlane(self._machine("control-plane"), self.pki)
        self.nodes = {
            spec.name: Node(spec, index, self._machine(spec.name, f"{self._group}/{spec.name}"))
            for index, spec in enumerate(specs)
        }
        self.api_port = 0

    @property
    def _group(self) -> str:
        return f"eidos-{self.name}"

    def _machine(self, name: str, group: str = "") -> Machine:
        return Machine(name, self.state / name, mark=str(self.state), bound=self._bound, group=group)

    # ---- life

    def start(self) -> None:
        """Starts everything and returns when every node is Ready. Clears what an earlier run of the name left."""
        self.stop()
        self.state.mkdir(parents=True)
        self.pki.create()
        self.control_plane.boot()
        self.control_plane.start_api()
        for node in self.nodes.values():
            node.boot(len(self.nodes))
            node.plug_in(self.control_plane.machine)
            node.start_containerd()
        self._open_api()
        self._load_own_images()
        self.api.wait_ready(120)
        self.control_plane.start_controllers()
        for node in self.nodes.values():
            self._start_kubelet(node)
        self.wait_nodes_ready(120)
        for node in self.nodes.values():
            if node.spec.systemd:
                node.machine.run(["sh", "-c", systemd.WAIT])
        self._save()

    def stop(self) -> None:
        """Ends the cluster and everything it left, also one that crashed or another process started."""
        kill_marked(str(self.state))
        for node in self.nodes.values():
            node.machine.reap()
        self.control_plane.machine.reap()
        for child in self._children:
            child.wait(timeout=60)
        self._children.clear()
        if self.api_port:
            self.api.close()
            self.api_port = 0
        cgroups.remove(self._group)
        if self.state.exists():
            shutil.rmtree(self.state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _save(self) -> None:
        machines = [self.control_plane.machine, *(node.machine for node in self.nodes.values())]
        saved = {
            "port": self.api_port,
            "nodes": list(self.nodes),
            "pids": {machine.name: [machine.pid, machine.inside] for machine in machines},
        }
        (self.state / "cluster.json").write_text(json.dumps(saved))

    @classmethod
    def attach(cls, name: str) -> Self:
        """The running cluster of that name, started by another process; raises FileNotFoundError if there is none."""
        saved = json.loads((run_directory(name) / "cluster.json").read_text())
        cluster = cls(name, [NodeSpec(node) for node in saved["nodes"]])
        for machine in (cluster.control_plane.machine, *(node.machine for node in cluster.nodes.values())):
            machine.pid, machine.inside = saved["pids"][machine.name]
        cluster._connect(saved["port"])
        return cluster

    # ---- use

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Runs the cluster's own kubectl as admin and returns its stdout; raises KubectlError."""
        done = subprocess.run(
            [str(binaries_directory() / "kubectl"), f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(done.stderr.strip() or f"exit status {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def load_image(self, archive: Path) -> None:
        """Puts the image of a docker archive on every node; `imagePullPolicy: Never` or `IfNotPresent` finds it."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            list(pool.map(lambda node: node.load_image(archive), self.nodes.values()))

    def kwok(self, count: int, name_length: int = 63, labels: int = 30) -> list[str]:
        """Adds `count` fake nodes and returns their names when all are Ready.

        Until `remove_kwok` no node becomes NotReady by falling silent, because the fake ones send no sign of life.
        """
        names = kwok.node_names(count, name_length)
        self.control_plane.stop_manager()
        self.api.create_all("/api/v1/nodes", [kwok.node(name, at, labels) for at, name in enumerate(names)])
        self.control_plane.start_manager(fake_nodes=True)
        self.control_plane.start_kwok()
        wanted = set(names)
        self._wait(lambda: wanted - self.ready_nodes(), 240, "kwok nodes not Ready")
        return names

    def remove_kwok(self) -> None:
        """Deletes every fake node and ends kwok, so that the next test sees the real nodes only."""
        self.control_plane.stop_manager()
        fake = self.api.get(f"/api/v1/nodes?labelSelector={kwok.SELECTOR}")["items"]
        self.api.text("DELETE", f"/api/v1/nodes?labelSelector={kwok.SELECTOR}", timeout=300)
        self.control_plane.stop_kwok()
        # The manager would look at them for a minute first.
        names = {node["metadata"]["name"] for node in fake}
        self.api.delete_all(
            [
                "/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0".format_map(pod["metadata"])
                for pod in self.api.get("/api/v1/pods")["items"]
                if pod["spec"].get("nodeName") in names
            ]
        )
        self.control_plane.start_manager()

    def ready_nodes(self) -> set[str]:
        """The names of the nodes that are Ready and no longer tainted for having been otherwise."""
        found = set()
        for node in self.api.get("/api/v1/nodes")["items"]:
            conditions = node.get("status", {}).get("conditions", [])
            taints = {each["key"] for each in node["spec"].get("taints", [])}
            is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
            if is_ready and "node.kubernetes.io/not-ready" not in taints:
                found.add(node["metadata"]["name"])
        return found

    def user_kubeconfig(self, user: str, groups: Iterable[str] = (), namespace: str = "default") -> Path:
        """A kubeconfig for a user known by certificate, who may do only what RBAC grants the name or groups."""
        target = self.state / f"user-{user}.kubeconfig"
        pair = self.pki.issue(f"user-{user}", user, groups)
        return self.pki.kubeconfig(target, self.url, certificate_user(pair), namespace)

    def service_account_kubeconfig(self, namespace: str, name: str, duration: str = "1h") -> Path:
        """A kubeconfig with a bound token of a ServiceAccount (`duration` at least 10m, the API server's minimum)."""
        token = self.kubectl("create", "token", name, f"--namespace={namespace}", f"--duration={duration}").strip()
        target = self.state / f"sa-{namespace}-{name}.kubeconfig"
        return self.pki.kubeconfig(target, self.url, {"token": token}, namespace)

    def token_kubeconfig(self, user: str) -> Path:
        """A kubeconfig for one of the users in the API server's token file (controlplane.TOKEN_USERS)."""
        return self.pki.kubeconfig(self.state / f"token-{user}.kubeconfig", self.url, {"token": f"eidos-test-{user}"})

    @property
    def url(self) -> str:
        """The API server as the machine outside reaches it."""
        return f"https://127.0.0.1:{self.api_port}"

    def forward(self, address: str, port: int, via: str = "control-plane") -> tuple[int, subprocess.Popen[bytes]]:
        """Opens a loopback port outside that leads to `address` as seen from the node `via`.

        From a node Service addresses work, from the control plane pod addresses do. Returns the port and the
        forwarder, which a test may kill.
        """
        machine = self.nodes[via].machine if via in self.nodes else self.control_plane.machine
        argv = [sys.executable, str(_FORWARD), str(machine.pid), address, str(port)]
        if self._bound:
            argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        with (self.state / "forward.log").open("ab") as log:
            child = subprocess.Popen(
                argv,
                env={**os.environ, MARK: str(self.state)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._children.append(child)
        assert child.stdout is not None
        with child.stdout:
            answer = child.stdout.readline()
        if not answer:
            raise RuntimeError(f"the forwarder did not start:\n{(self.state / 'forward.log').read_text()[-2000:]}")
        return int(answer), child

    # ---- steps of a start

    def _open_api(self) -> None:
        port, _ = self.forward(network.CONTROL_PLANE, network.API_PORT)
        admin = self.pki.issue("admin", "eidos-test-admin", ("system:masters",))
        self._connect(port)
        self.pki.kubeconfig(self.kubeconfig, self.url, certificate_user(admin))

    def _connect(self, port: int) -> None:
        self.api_port = port
        self.api = Api(port, self.pki.ca, self.pki._pair("admin"))

    def _load_own_images(self) -> None:
        for name, write in (("pause", write_pause), ("busybox", write_busybox)):
            archive = self.state / f"{name}.tar"
            write(archive)
            for node in self.nodes.values():
                node.machine.run(["sh", "-c", f"until [ -S {SOCKET} ]; do sleep 0.05; done"])
            self.load_image(archive)

    def _start_kubelet(self, node: Node) -> None:
        server = f"https://{network.CONTROL_PLANE}:{network.API_PORT}"
        pair = self.pki.issue(f"kubelet-{node.name}", f"system:node:{node.name}", ("system:nodes",))
        target = node.machine.state / "kubelet.kubeconfig"
        node.start_kubelet(self.pki.kubeconfig(target, server, certificate_user(pair)), self.pki.ca.certificate)
        proxy = self.control_plane.kubeconfig("kube-proxy", "system:kube-proxy")
        node.start_kube_proxy(proxy)

    def wait_nodes_ready(self, timeout: float) -> None:
        """Until every node is Ready and has its pods' addresses, also again after its object was deleted."""
        wanted = set(self.nodes)
        self._wait(lambda: wanted - self.ready_nodes(), timeout, "nodes not Ready")
        # Without its ServiceAccount no pod can be made.
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        self._wait(lambda: set() if self.api.get(accounts)["items"] else {"default"}, timeout, "no ServiceAccount")
        for node in self.nodes.values():
            subnet = network.pod_subnet(node.index)
            self.api.text(
                "PATCH",
                f"/api/v1/nodes/{node.name}",
                {"spec": {"podCIDR": subnet, "podCIDRs": [subnet]}},
                kind="application/strategic-merge-patch+json",
            )

    def _wait(self, missing: Callable[[], set[str]], timeout: float, what: str) -> None:
        deadline = time.monotonic() + timeout
        while True:
            asked = time.monotonic()
            left = missing()
            if not left:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} after {timeout:.0f} s: {sorted(left)[:5]}; logs in {self.state}")
            # A list of thousands of nodes costs the API server too: ask less often when the answer took long.
            time.sleep(max(0.1, 2 * (time.monotonic() - asked)))
