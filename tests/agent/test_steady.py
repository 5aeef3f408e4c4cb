"""Fifty snapshots of a busy machine: the same bytes but for the time they were taken."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest

from agent.collect import run, snapshot
from agent.collectors.base import Collector, Options
from agent.collectors.cmdline import CmdlineCollector
from agent.collectors.cpu import CpuCollector
from agent.collectors.firmware import FirmwareCollector
from agent.collectors.memory import MemoryCollector
from agent.collectors.module_parameters import ModuleParametersCollector
from agent.collectors.modules import ModulesCollector
from agent.collectors.release import ReleaseCollector
from agent.collectors.sysctl import SysctlCollector
from agent.host import Host

COLLECTORS: list[Collector] = [
    ReleaseCollector(),
    CmdlineCollector(),
    SysctlCollector(),
    ModulesCollector(),
    ModuleParametersCollector(),
    CpuCollector(),
    MemoryCollector(),
    FirmwareCollector(),
]

# Ends by itself after a minute, should nobody be left to end it.
LOAD = """
import mmap, os, pty, socket, tempfile, time
os.nice(5)
end = time.monotonic() + 60
listener = socket.create_server(("127.0.0.1", 0))
print("busy", flush=True)
while time.monotonic() < end:
    for _ in range(8):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    with tempfile.TemporaryDirectory() as folder:
        files = [open(os.path.join(folder, str(number)), "wb") for number in range(100)]
        for file in files:
            file.write(b"x" * 65536)
            file.close()
    with mmap.mmap(-1, 64 << 20) as memory:
        for page in range(0, len(memory), 4096):
            memory[page] = 1
    for _ in range(20):
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"x" * 4096)
            listener.accept()[0].close()
    for descriptor in pty.openpty():
        os.close(descriptor)
"""


@pytest.fixture
def busy_machine() -> Iterator[None]:
    """Processes starting, files opening, memory moving, connections made, terminals opened, all the while."""
    loads = [subprocess.Popen([sys.executable, "-c", LOAD], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for load in loads:
            assert load.stdout is not None
            assert load.stdout.readline() == b"busy\n"
        yield
        assert all(load.poll() is None for load in loads), "the load ended before the snapshots did"
    finally:
        for load in loads:
            load.kill()
            load.communicate()


def test_fifty_snapshots_of_a_busy_machine_are_the_same(busy_machine: None) -> None:
    host, moment = Host(), datetime.now(UTC)
    taken = [snapshot(run(COLLECTORS, host, "node-1", Options()), "node-1", now=moment) for _ in range(50)]
    assert all(entry.state != "failed" for entry in taken[0].collection)
    assert len(taken[0].facts()) > 500
    first, *others = (document.facts() for document in taken)
    for other in others:
        assert not {key for key in first.keys() | other.keys() if first.get(key) != other.get(key)}
    assert len({msgspec.json.encode(document) for document in taken}) == 1


def test_the_load_moves_what_is_volatile(busy_machine: None) -> None:
    """Else the test above would show nothing."""
    host, options = Host(), Options(include_volatile=True)
    first, second = (
        snapshot(run(COLLECTORS, host, "node-1", options), "node-1", include_volatile=True).facts() for _ in range(2)
    )
    moved = {key for key, value in first.items() if second.get(key) != value}
    assert ("OS", "sysctl", "/proc/sys/kernel/random/uuid") in moved
    assert len(moved) >= 3
