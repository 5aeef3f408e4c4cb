"""The one list of collectors. Adding one is one file and one line here."""

from agent.cluster import ClusterAccess
from agent.collectors.base import Collector
from agent.collectors.cmdline import CmdlineCollector
from agent.collectors.container_runtime import ContainerRuntimeCollector
from agent.collectors.cpu import CpuCollector
from agent.collectors.firmware import FirmwareCollector
from agent.collectors.gpu import GpuCollector
from agent.collectors.infiniband import InfinibandCollector
from agent.collectors.kubernetes import KubernetesCollector
from agent.collectors.memory import MemoryCollector
from agent.collectors.module_parameters import ModuleParametersCollector
from agent.collectors.modules import ModulesCollector
from agent.collectors.network import NetworkCollector
from agent.collectors.nvme import NvmeCollector
from agent.collectors.pci import PciCollector
from agent.collectors.release import ReleaseCollector
from agent.collectors.sysctl import SysctlCollector
from agent.collectors.systemd import SystemdCollector
from agent.collectors.topology import TopologyCollector


def collectors() -> list[Collector]:
    """All collectors, in the order of `collection:` and of `--collectors` help."""
    cluster = ClusterAccess()
    return [
        ReleaseCollector(),
        CmdlineCollector(),
        SysctlCollector(),
        ModulesCollector(),
        ModuleParametersCollector(),
        CpuCollector(),
        MemoryCollector(),
        FirmwareCollector(),
        PciCollector(),
        NetworkCollector(),
        InfinibandCollector(),
        NvmeCollector(),
        ContainerRuntimeCollector(),
        GpuCollector(),
        SystemdCollector(),
        KubernetesCollector(cluster),
        TopologyCollector(cluster),
    ]
