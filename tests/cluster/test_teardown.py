"""However a cluster ends, nothing of it stays on the machine."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import cgroups
from tests.cluster.cluster import Cluster
from tests.cluster.node import NodeSpec
from tests.cluster.processes import alive, marked

pytestmark = pytest.mark.cluster

# Starts a cluster bound to the process, says so, and waits to be killed.
_HOLDER = """
import sys
from tests.cluster.cluster import Cluster
from tests.cluster.node import NodeSpec
Cluster(sys.argv[1], [NodeSpec("only")], bound=True).start()
print("started", flush=True)
sys.stdin.read()
"""


def _outside() -> dict[str, str]:
    """What a cluster could have changed on the machine outside it."""
    commands = {
        "routes": ["ip", "route", "show", "table", "all"],
        "links": ["ip", "-o", "link", "show"],
        "sysctl": ["sysctl", "kernel.panic", "kernel.panic_on_oops", "vm.overcommit_memory", "net.ipv4.ip_forward"],
    }
    seen = {
        name: subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        for name, argv in commands.items()
    }
    seen["mounts"] = Path("/proc/self/mountinfo").read_text()
    seen["named namespaces"] = str(sorted(Path("/run/netns").glob("*")))
    return seen


def _namespaces(pids: set[int]) -> dict[str, Path]:
    """The pid, mount and network namespaces of these processes that are not ours, and where each is seen."""
    found = {}
    for pid in pids:
        for kind in ("pid", "mnt", "net"):
            place = Path(f"/proc/{pid}/ns/{kind}")
            with contextlib.suppress(OSError):  # the process has ended
                found[os.readlink(place)] = place
    own = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt", "net")}
    return {name: place for name, place in found.items() if name not in own}


@contextlib.contextmanager
def _held(places: dict[str, Path]) -> Iterator[set[str]]:
    """The names of these namespaces, which nothing else bears during the block: the kernel gives free ones anew."""
    with contextlib.ExitStack() as stack:
        held = set()
        for place in places.values():
            with contextlib.suppress(OSError):  # the process has ended meanwhile
                held.add(os.readlink(f"/proc/self/fd/{stack.enter_context(place.open('rb')).fileno()}"))
        yield held & places.keys()


def _every_process() -> set[int]:
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def _groups(name: str) -> list[Path]:
    return [each.mount / f"eidos-{name}" for each in cgroups.mounted() if (each.mount / f"eidos-{name}").exists()]


@pytest.fixture
def victim(cluster: Cluster) -> Iterator[Cluster]:
    """A second cluster beside the session's, not started yet; whatever is left of it goes in the end."""
    second = Cluster(f"victim-{os.getpid()}", [NodeSpec("only")])
    yield second
    second.stop()


def _assert_nothing_left(victim: Cluster, namespaces: set[str]) -> None:
    assert marked(str(victim.state)) == set()
    assert not namespaces & _namespaces({pid for pid in _every_process() if alive(pid)}).keys()
    assert not victim.state.exists()
    assert _groups(victim.name) == []


def test_binds_are_there_before_anything_runs(victim: Cluster, tmp_path: Path) -> None:
    """A file where nothing was, a folder in /run, a device: all in the node, none of it outside."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("given")
    targets = {"/usr/lib/eidos-test/libmade-up.so": "folder/file", "/run/eidos-test": "folder"}
    spec = NodeSpec("only", binds=tuple((tmp_path / source, target) for target, source in targets.items()))
    victim.state.mkdir(parents=True)
    second = Cluster(victim.name, [spec])
    node = second.nodes["only"]
    node.boot(1)
    shown = node.machine.run(["cat", "/usr/lib/eidos-test/libmade-up.so", "/run/eidos-test/file"])
    node.machine.run(["mknod", "/dev/nvidia0", "c", "195", "0"])
    second.stop()
    assert shown == "givengiven"
    assert not any(Path(path).exists() for path in (*targets, "/dev/nvidia0"))


def test_kill_everything_then_down(victim: Cluster, cluster: Cluster) -> None:
    before = _outside()
    victim.start()
    victim.kubectl(
        "run", "sleeper", "--image=eidos.test/busybox:1", "--image-pull-policy=Never", "--", "sleep", "999"
    )
    victim.kubectl("wait", "--for=condition=ready", "pod/sleeper", "--timeout=100s")
    assert _outside() == before
    pids = marked(str(victim.state))
    with _held(_namespaces(pids)) as namespaces:
        assert len(namespaces) >= 6
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # killed with its machine
                os.kill(pid, signal.SIGKILL)
        subprocess.run([sys.executable, "-m", "tests.cluster", "--name", victim.name, "down"], check=True)
        _assert_nothing_left(victim, namespaces)
    assert _outside() == before
    assert cluster.ready_nodes() >= {"gpu-1", "cpu-1"}, "the cluster beside it lives on"


def test_a_bound_cluster_dies_with_its_process(victim: Cluster) -> None:
    argv = [sys.executable, "-c", _HOLDER, victim.name]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "started\n"
        pids = marked(str(victim.state))
        ends = []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # a program that kubelet ran for a moment
                ends.append(os.pidfd_open(pid))
        assert len(ends) >= 6
        with _held(_namespaces(pids)) as namespaces:
            holder.kill()
            for end in ends:
                assert select.select([end], [], [], 60)[0], "a process outlives the one that started it"
                os.close(end)
            victim.stop()
            _assert_nothing_left(victim, namespaces)
