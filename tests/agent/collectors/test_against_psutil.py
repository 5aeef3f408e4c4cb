"""What /proc and /sys say of this machine, beside what psutil says (docs/decisions/005-psutil.md)."""

import psutil

from agent.collectors.base import Collector, Context
from agent.collectors.cpu import CpuCollector
from agent.collectors.memory import MemoryCollector
from agent.collectors.network import NetworkCollector
from agent.host import Host
from common.model import Ok, Scalar


def facts(collector: Collector, subtype: str) -> dict[str, Scalar]:
    """One subtype of this machine."""
    outcome = collector.collect(Context(Host(), "node-1", float("inf"))).subtypes[subtype]
    assert isinstance(outcome, Ok), outcome
    return outcome.data


def test_cores_and_threads() -> None:
    cpu = facts(CpuCollector(), "cpu")
    assert cpu["threads"] == psutil.cpu_count(logical=True)
    assert cpu["cores"] == psutil.cpu_count(logical=False)


def test_total_memory() -> None:
    memory = facts(MemoryCollector(), "memory")
    total = psutil.virtual_memory().total
    assert abs(int(memory["MemTotal"]) * 1024 - total) < total / 100  # it grows while a machine starts
    assert abs(int(memory["total-gib"]) - total / (1 << 30)) <= 1


def test_interfaces() -> None:
    addresses = {entry.address for entries in psutil.net_if_addrs().values() for entry in entries}
    ours = {str(value) for key, value in facts(NetworkCollector(), "network").items() if ".address" in key}
    assert ours
    assert ours <= addresses
