"""Processors and memory of a constructed host."""

from dataclasses import dataclass, field
from typing import Final

from common.nodeset import fold_indexes
from tests.hosts.tree import Content, Tree

_CPU: Final = "/sys/devices/system/cpu"
_NODE: Final = "/sys/devices/system/node"
_MM: Final = "/sys/kernel/mm"
_BLOCK_KIB: Final = 2 << 20  # memory is added in blocks of 2 GiB on large x86 servers


@dataclass
class Processors:
    """What the CPUs are. CPUs are numbered as Linux does on x86: first threads of all cores, then second ones."""

    sockets: int
    cores: int
    """Of one socket."""
    threads: int
    """Of one core."""
    fields: dict[str, str | int]
    """Lines of /proc/cpuinfo that are the same for all CPUs, in their order; those about place come by themselves."""
    settings: dict[str, Content] = field(default_factory=dict)
    """Files below /sys/devices/system/cpu."""
    policy: dict[str, Content] = field(default_factory=dict)
    """Files of every cpufreq policy; no cpufreq when empty."""

    @property
    def count(self) -> int:
        return self.sockets * self.cores * self.threads

    def place(self, cpu: int) -> tuple[int, int]:
        """(socket, core in it)."""
        return cpu % (self.sockets * self.cores) // self.cores, cpu % self.cores


def x86(tree: Tree, processors: Processors) -> None:
    """/proc/cpuinfo as x86 writes it, and the CPUs in /sys."""
    blocks = []
    for cpu in range(processors.count):
        socket, core = processors.place(cpu)
        apic = socket * 128 + core * processors.threads + cpu // (processors.sockets * processors.cores)
        lines: dict[str, str | int] = {"processor": cpu}
        for name, value in processors.fields.items():
            lines[name] = value
            if name == "cache size":
                lines |= {"physical id": socket, "siblings": processors.cores * processors.threads, "core id": core}
                lines |= {"cpu cores": processors.cores, "apicid": apic, "initial apicid": apic}
        blocks.append("".join(f"{name}\t: {value}\n" for name, value in lines.items()))
    tree.write("/proc/cpuinfo", "\n".join(blocks).encode() + b"\n")
    _in_sys(tree, processors)


def arm64(tree: Tree, processors: Processors) -> None:
    """/proc/cpuinfo as arm64 writes it: numbers without places, which are in /sys."""
    blocks = [
        "".join(f"{name}\t: {value}\n" for name, value in {"processor": cpu, **processors.fields}.items())
        for cpu in range(processors.count)
    ]
    tree.write("/proc/cpuinfo", "\n".join(blocks).encode() + b"\n")
    for cpu in range(processors.count):
        socket, core = processors.place(cpu)
        tree.write_all(f"{_CPU}/cpu{cpu}/topology", {"physical_package_id": socket, "core_id": core})
    _in_sys(tree, processors)


def _in_sys(tree: Tree, processors: Processors) -> None:
    everyone = f"0-{processors.count - 1}"
    for name in ("online", "possible", "present"):
        tree.write(f"{_CPU}/{name}", everyone)
    tree.write_all(_CPU, {"offline": "", "isolated": "", "nohz_full": "(null)"})
    tree.write_all(_CPU, processors.settings)
    for cpu in range(processors.count if processors.policy else 0):
        tree.write_all(f"{_CPU}/cpufreq/policy{cpu}", {**processors.policy, "related_cpus": cpu})


@dataclass
class Memory:
    """How much memory each NUMA node has, and which CPUs."""

    nodes: list[tuple[int, int]]
    """(number of CPUs, GiB) of each; a node may have no CPUs, as a GPU's memory has none."""
    distances: list[str]
    huge: dict[str, int]
    """Size of huge pages to how many, such as {"2048kB": 0}."""
    default_huge_kib: int = 2048
    thp: str = "always [madvise] never"
    thp_kib: int = 2048
    swap: str = ""
    """A line of /proc/swaps."""

    @property
    def total_kib(self) -> int:
        # Firmware and kernel keep somewhat less than two percent.
        return sum(gib for _, gib in self.nodes) * (1 << 20) * 983 // 1000


def memory(tree: Tree, memory: Memory, processors: Processors) -> None:
    """/proc/meminfo, NUMA nodes, huge pages and settings."""
    total = memory.total_kib
    tree.write(
        "/proc/meminfo",
        "\n".join(
            f"{name + ':':<16}{value:>8}{unit}"
            for name, value, unit in (
                ("MemTotal", total, " kB"),
                ("MemFree", total * 7 // 10, " kB"),
                ("MemAvailable", total * 8 // 10, " kB"),
                ("SwapTotal", 0, " kB"),
                ("SwapFree", 0, " kB"),
                ("HardwareCorrupted", 0, " kB"),
                ("HugePages_Total", memory.huge.get(f"{memory.default_huge_kib}kB", 0), ""),
                ("Hugepagesize", memory.default_huge_kib, " kB"),
            )
        ),
    )
    tree.write("/proc/swaps", "\n".join(["Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority", memory.swap]).rstrip())
    _nodes(tree, memory, processors)
    _pools(tree, f"{_MM}/hugepages", memory.huge)
    tree.write_all(
        f"{_MM}/transparent_hugepage",
        {
            "enabled": memory.thp,
            "defrag": "always defer defer+madvise [madvise] never",
            "shmem_enabled": "always within_size advise [never] deny force",
            "use_zero_page": 1,
            "hpage_pmd_size": memory.thp_kib * 1024,
            "khugepaged/defrag": 1,
            "khugepaged/pages_to_scan": 4096,
            "khugepaged/max_ptes_none": 511,
        },
    )
    tree.write_all(f"{_MM}/ksm", {"run": 0, "merge_across_nodes": 1, "pages_to_scan": 100, "sleep_millisecs": 20})
    tree.write_all(f"{_MM}/lru_gen", {"enabled": "0x0007", "min_ttl_ms": 0})
    tree.write(f"{_MM}/numa/demotion_enabled", "false")


def _nodes(tree: Tree, memory: Memory, processors: Processors) -> None:
    tree.write("/sys/devices/system/memory/block_size_bytes", f"{_BLOCK_KIB * 1024:x}")
    tree.write("/sys/devices/system/memory/auto_online_blocks", "online")
    first_cpu = first_block = 0
    firsts = processors.sockets * processors.cores
    for number, (cpus, gib) in enumerate(memory.nodes):
        cores = range(first_cpu, first_cpu + cpus // processors.threads)
        listed = [core + thread * firsts for thread in range(processors.threads) for core in cores]
        first_cpu += cpus // processors.threads
        directory = f"{_NODE}/node{number}"
        tree.write_all(directory, {"cpulist": fold_indexes(listed), "distance": memory.distances[number]})
        blocks = gib * (1 << 20) // _BLOCK_KIB
        for block in range(first_block, first_block + blocks):
            tree.links[f"{directory}/memory{block}"] = f"../../memory/memory{block}"
        first_block += blocks
        if gib:
            share = {size: count // sum(1 for _, gib in memory.nodes if gib) for size, count in memory.huge.items()}
            _pools(tree, f"{directory}/hugepages", share)


def _pools(tree: Tree, directory: str, pools: dict[str, int]) -> None:
    for size, count in pools.items():
        tree.write_all(
            f"{directory}/hugepages-{size}",
            {"nr_hugepages": count, "free_hugepages": count, "surplus_hugepages": 0},
        )
        if directory.startswith(_MM):
            tree.write_all(f"{directory}/hugepages-{size}", {"nr_overcommit_hugepages": 0, "resv_hugepages": 0})
