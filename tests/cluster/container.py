"""What one container of a running pod costs, as the kernel counts it: its cgroup, and its first process."""

from pathlib import Path
from typing import NamedTuple

from tests.cluster.cluster import Cluster
from tests.cluster.machine import Machine


class Memory(NamedTuple):
    """Bytes. The cgroup's are what its limit is held against, the page cache of what it reads included."""

    cgroup: int
    peak: int
    """The most its cgroup ever had."""
    anonymous: int
    """Of the cgroup's, what cannot be dropped: no page cache."""
    resident: int
    """Of the first process, shared libraries included."""


class Container:
    """A container that runs. cgroup v1 (Documentation/admin-guide/cgroup-v1) and v2 (cgroup-v2.rst)."""

    def __init__(self, machine: Machine, identity: str) -> None:
        """`identity` as the pod's status gives it, `containerd://…`. Raises LookupError when it does not run."""
        self._machine = machine
        wanted = identity.partition("://")[2]
        found = machine.run(["sh", "-c", f"grep -l {wanted} /proc/[0-9]*/cgroup | cut -d/ -f3"]).split()
        if not wanted or not found:
            raise LookupError(f"no process of the container {identity}")
        self._pid = min(map(int, found))
        self._groups = dict(self._read_groups())

    def _read_groups(self) -> list[tuple[str, Path]]:
        """The folder of each controller; that of v2 is the empty one's."""
        lines = self._machine.run(["cat", f"/proc/{self._pid}/cgroup"]).splitlines()
        return [
            (controller, Path("/sys/fs/cgroup") / controllers / path.lstrip("/"))
            for _, controllers, path in (line.split(":", 2) for line in lines)
            for controller in controllers.split(",")
        ]

    def _text(self, controller: str, v1: str, v2: str) -> str:
        folder = self._groups.get(controller)
        path = folder / v1 if folder is not None else self._groups[""] / v2
        return self._machine.run(["cat", str(path)])

    def _field(self, text: str, names: tuple[str, ...]) -> int:
        fields = dict(line.split()[:2] for line in text.splitlines())
        return next(int(fields[name]) for name in names if name in fields)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        text = self._text("cpuacct", "cpuacct.usage", "cpu.stat")
        return int(text) / 1e9 if "cpuacct" in self._groups else self._field(text, ("usage_usec",)) / 1e6

    def memory(self) -> Memory:
        """Now, and at its most."""
        status = self._machine.run(["cat", f"/proc/{self._pid}/status"])
        return Memory(
            int(self._text("memory", "memory.usage_in_bytes", "memory.current")),
            int(self._text("memory", "memory.max_usage_in_bytes", "memory.peak")),
            self._field(self._text("memory", "memory.stat", "memory.stat"), ("total_rss", "anon")),
            self._field(status.replace(" kB", ""), ("VmRSS:",)) * 1024,
        )


def container_of(cluster: Cluster, selector: str, namespace: str) -> Container:
    """The first container of the one pod that a label selector finds."""
    path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
    (pod,) = (each for each in cluster.api.get(path)["items"] if "deletionTimestamp" not in each["metadata"])
    return Container(
        cluster.nodes[pod["spec"]["nodeName"]].machine, pod["status"]["containerStatuses"][0]["containerID"]
    )
