"""A node: containerd, kubelet and kube-proxy in a stand-in machine with a Debian root of its own."""

import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import cgroups, network, systemd
from tests.cluster.binaries import binaries_directory
from tests.cluster.debian import node_root
from tests.cluster.machine import BIN, Machine
from tests.cluster.nodeconfig import KUBELET_SYSCTLS, containerd_toml, kube_proxy_configuration, kubelet_configuration

SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class NodeSpec:
    """What a node is.

    `binds` are (source outside, target in the node) files or folders, mounted read-write before containerd starts,
    also over what the machine itself prepared (/run/..., /dev/..., /etc/...). `systemd` runs a real systemd and
    D-Bus whose sockets are at their usual places in the node's /run.
    """

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    binds: tuple[tuple[Path, str], ...] = ()
    systemd: bool = False


DEFAULT_NODES = (
    NodeSpec(
        "gpu-1",
        labels={"nvidia.com/gpu.present": "true"},
        taints=("nvidia.com/gpu=present:NoSchedule",),
        systemd=True,
    ),
    NodeSpec("cpu-1"),
)


class Node:
    """A running node; `machine.run([...])` runs a command on it."""

    def __init__(self, spec: NodeSpec, index: int, machine: Machine) -> None:
        self.spec = spec
        self.name = spec.name
        self.index = index
        self.address = network.node_address(index)
        self.machine = machine

    # ---- the machine

    def boot(self, nodes: int) -> None:
        """Builds the node's file system and makes it a machine without daemons."""
        state = self.machine.state
        for folder in ("upper", "work", "root", "kubelet"):
            (state / folder).mkdir(parents=True, exist_ok=True)
        self.machine.boot(self._boot_script(), systemd.PROCESS_1 if self.spec.systemd else f"{BIN}/pause")
        self._nodes = nodes

    def _boot_script(self) -> str:
        state = self.machine.state
        root = shlex.quote(str(state / "root"))
        layers = f"lowerdir={node_root()},upperdir={state / 'upper'},workdir={state / 'work'}"
        lines = [
            f"mount -t overlay -o {shlex.quote(layers)} node {root}",
            f"mount -t proc proc {root}/proc",
            f"mount -t sysfs sysfs {root}/sys",
            cgroups.mount_script(root),
            f"mount -t tmpfs -o mode=755 run {root}/run",
            # Device nodes of its own, so that a test can add or hide one.
            f"mount -t tmpfs -o mode=755 dev {root}/dev",
            f"cp -ax /dev/. {root}/dev/; rm -f {root}/dev/console {root}/dev/tty?*",
            f"mkdir -p {root}/dev/pts {root}/dev/shm {root}/dev/mqueue {root}{BIN} {root}/var/lib/containerd"
            f" {root}/var/lib/kubelet {root}/.outside",
            f"mount -t devpts -o mode=620,ptmxmode=666 devpts {root}/dev/pts",
            f"mount -t tmpfs -o mode=1777 shm {root}/dev/shm",
            f"mount --bind -o ro {shlex.quote(str(binaries_directory()))} {root}{BIN}",
            # containerd's overlays cannot lie on an overlay; in memory, an import takes half the time.
            f"mount -t tmpfs -o mode=711 containerd {root}/var/lib/containerd",
            f"mount --bind {shlex.quote(str(state / 'kubelet'))} {root}/var/lib/kubelet",
            *self._sysctl_lines(root),
        ]
        if self.spec.systemd:
            lines.append(systemd.prepare_script(root, state, binaries_directory() / "pause"))
        for source, target in self.spec.binds:
            outside, inside = shlex.quote(str(source)), f"{root}{shlex.quote(target)}"
            made = "mkdir -p" if source.is_dir() else f"mkdir -p {root}{shlex.quote(str(Path(target).parent))}; touch"
            lines.append(f"{made} {inside}; mount --rbind {outside} {inside}")
        lines += [
            f"hostname {self.name}",
            f"echo {self.name} > {root}/etc/hostname",
            f"printf '%032x\\n' {self.index + 1} > {root}/etc/machine-id",
            f"echo nameserver {network.CONTROL_PLANE} > {root}/etc/resolv.conf",
            f"printf '127.0.0.1 localhost\\n{self.address} {self.name}\\n' > {root}/etc/hosts",
            "ip link set lo up",
            f"cd {root}",
            "pivot_root . .outside",
            "umount -l /.outside",
            "mount --make-rshared /",
        ]
        return "\n".join(lines)

    def _sysctl_lines(self, root: str) -> list[str]:
        """kubelet sets a few settings of the one kernel everybody here shares: let it find them already set."""
        folder = self.machine.state / "sysctl"
        folder.mkdir(exist_ok=True)
        lines = []
        for name, value in KUBELET_SYSCTLS.items():
            (folder / name.replace("/", ".")).write_text(f"{value}\n")
            lines.append(f"mount --bind {shlex.quote(str(folder / name.replace('/', '.')))} {root}/proc/sys/{name}")
        return lines

    def plug_in(self, control_plane: Machine) -> None:
        """Connects the node to the cluster's network."""
        control_plane.run_in_network(network.link_script(self.machine.pid, self.index))
        self.machine.run_in_network(network.node_script(self.index, self._nodes))

    # ---- files

    def put(self, source: Path, target: str) -> None:
        """Copies a file to the path `target` of the running node: pods that mount the host's root see it at once."""
        with self._replaced(target) as unfinished:
            shutil.copy(source, unfinished)

    def write(self, target: str, text: str) -> None:
        with self._replaced(target) as unfinished:
            unfinished.write_text(text)

    @contextmanager
    def _replaced(self, target: str) -> Iterator[Path]:
        """What is written in the block takes the place of `target` at once: a pod may be using that."""
        inside = self.machine.root / target.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        unfinished = inside.with_name(f".{inside.name}.unfinished")
        yield unfinished
        unfinished.rename(inside)

    # ---- daemons

    def start_containerd(self) -> None:
        self.write("/etc/containerd/config.toml", containerd_toml())
        self.write("/etc/cni/net.d/10-pods.conflist", network.cni_configuration(self.index))
        self.machine.spawn([f"{BIN}/containerd"])

    def start_kubelet(self, kubeconfig: Path, authority: Path) -> None:
        self.put(kubeconfig, "/etc/kubernetes/kubelet.kubeconfig")
        self.put(authority, "/etc/kubernetes/ca.crt")
        self.write("/etc/kubernetes/kubelet.json", json.dumps(kubelet_configuration(self.spec.taints)))
        self.spawn_kubelet()

    def spawn_kubelet(self) -> None:
        """Starts kubelet, also again after `kill("kubelet")`."""
        labels = ",".join(f"{key}={value}" for key, value in self.spec.labels.items())
        self.machine.spawn(
            [
                f"{BIN}/kubelet",
                "--config=/etc/kubernetes/kubelet.json",
                "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address}",
                f"--node-labels={labels}",
            ]
        )

    def start_kube_proxy(self, kubeconfig: Path) -> None:
        self.put(kubeconfig, "/etc/kubernetes/kube-proxy.kubeconfig")
        self.write("/etc/kubernetes/kube-proxy.json", json.dumps(kube_proxy_configuration(self.name)))
        self.machine.spawn([f"{BIN}/kube-proxy", "--config=/etc/kubernetes/kube-proxy.json"])

    def kill(self, program: str) -> None:
        """SIGKILLs every process of that exact name on the node: a kubelet that went away, a broken runtime."""
        self.machine.kill(program)

    def load_image(self, archive: Path) -> None:
        """Imports a docker archive into the node's containerd; its images need no pull then."""
        with archive.open("rb") as content:
            # The local client is twice as fast as containerd's transfer service.
            argv = [f"{BIN}/ctr", f"--address={SOCKET}", "--namespace=k8s.io", "images", "import", "--local", "-"]
            self.machine.run(argv, stdin=content, timeout=300)
