"""Every key the OS collectors of system settings give is explained, and the explanations are of keys there are."""

import pytest

from agent.collectors.base import Collector, Context, Options
from agent.collectors.cmdline import CmdlineCollector
from agent.collectors.cpu import CpuCollector
from agent.collectors.firmware import FirmwareCollector
from agent.collectors.memory import MemoryCollector
from agent.collectors.module_parameters import ModuleParametersCollector
from agent.collectors.modules import ModulesCollector
from agent.collectors.registry import collectors
from agent.collectors.release import ReleaseCollector
from agent.collectors.sysctl import SysctlCollector
from agent.host import Host
from common.keys import default_keys
from common.model import Ok

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


@pytest.mark.parametrize("collector", COLLECTORS, ids=lambda collector: collector.name)
def test_every_key_of_this_machine_is_explained(collector: Collector) -> None:
    context = Context(Host(), "node-1", float("inf"), Options(include_volatile=True))
    for subtype, outcome in collector.collect(context).subtypes.items():
        assert default_keys().find(f"OS.{subtype}") is not None
        if isinstance(outcome, Ok):
            unexplained = [key for key in outcome.data if default_keys().find(f"OS.{subtype}.{key}") is None]
            assert not unexplained


def test_they_come_first_in_the_registry_in_this_order() -> None:
    assert [type(collector) for collector in collectors()][: len(COLLECTORS)] == [type(c) for c in COLLECTORS]


@pytest.mark.parametrize(
    "key",
    [
        "vm/swappiness",
        "vm/max_map_count",
        "vm/zone_reclaim_mode",
        "kernel/numa_balancing",
        "kernel/yama/ptrace_scope",
        "net/core/rmem_max",
        "net/ipv4/tcp_rmem",
        "net/ipv4/conf/eth0/rp_filter",
        "net/ipv4/conf/all/arp_ignore",
        "net/bridge/bridge-nf-call-iptables",
        "fs/inotify/max_user_watches",
    ],
)
def test_settings_that_matter_have_a_text_of_their_own(key: str) -> None:
    entry, general = (default_keys().find(f"OS.sysctl./proc/sys/{name}") for name in (key, "kernel/whatever"))
    assert entry is not None
    assert general is not None
    assert entry.what != general.what
