"""OS.memory: how much there is, and how the kernel is told to manage it.

Sources: /proc/meminfo; /sys/kernel/mm (Documentation/admin-guide/mm/: hugetlbpage, transhuge, ksm, multigen_lru,
numa_memory_policy); /sys/devices/system/{node,memory}; /proc/swaps; zswap and zram (admin-guide/mm/zswap,
blockdev/zram). psutil has the totals, but only of the machine it runs on and not of its NUMA nodes.
"""

import re
from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.sysfs import Sysfs, parse_integer
from common.model import Collected, MeasurementType, Ok, Scalar

_MEMINFO: Final = "/proc/meminfo"
_MM: Final = "/sys/kernel/mm"
_THP: Final = f"{_MM}/transparent_hugepage"
_NODES: Final = "/sys/devices/system/node"
_MEMORY: Final = "/sys/devices/system/memory"
_KIB_PER_GIB: Final = 1 << 20

# Fields of /proc/meminfo that are readings of this moment.
_LIVE: Final = ("MemAvailable", "MemFree", "SwapFree", "HardwareCorrupted")

_KHUGEPAGED: Final = (
    "alloc_sleep_millisecs",
    "defrag",
    "max_ptes_none",
    "max_ptes_shared",
    "max_ptes_swap",
    "pages_to_scan",
    "scan_sleep_millisecs",
)
_KSM: Final = (
    "advisor_mode",
    "max_page_sharing",
    "merge_across_nodes",
    "run",
    "sleep_millisecs",
    "smart_scan",
    "use_zero_pages",
)
_ZRAM: Final = ("backing_dev", "comp_algorithm", "disksize")
# Single settings: file, key.
_SETTINGS: Final = (
    (f"{_THP}/enabled", "thp.enabled"),
    (f"{_THP}/defrag", "thp.defrag"),
    (f"{_THP}/shmem_enabled", "thp.shmem_enabled"),
    (f"{_THP}/use_zero_page", "thp.use_zero_page"),
    (f"{_THP}/hpage_pmd_size", "thp.hpage_pmd_size"),
    (f"{_MM}/lru_gen/enabled", "lru_gen.enabled"),
    (f"{_MM}/lru_gen/min_ttl_ms", "lru_gen.min_ttl_ms"),
    (f"{_MM}/numa/demotion_enabled", "numa.demotion_enabled"),
    ("/proc/sys/kernel/numa_balancing", "numa.balancing"),
    (f"{_MEMORY}/auto_online_blocks", "hotplug.auto_online_blocks"),
)

_MEMINFO_LINE: Final = re.compile(r"(?:Node\s+\d+\s+)?([\w()]+):\s*(\d{1,15})(?:\s+kB)?\s*", re.ASCII)
_POOL: Final = re.compile(r"hugepages-(\d+kB)", re.ASCII)
_NODE: Final = re.compile(r"node(\d+)", re.ASCII)
_BLOCK: Final = re.compile(r"memory\d+", re.ASCII)
_ZRAM_DEVICE: Final = re.compile(r"zram\d+", re.ASCII)
_OCTAL: Final = re.compile(r"\\([0-3][0-7]{2})")


def parse_meminfo(text: str) -> dict[str, int]:
    """Name to KiB (or to a count, for huge pages), of /proc/meminfo and of a NUMA node's meminfo."""
    return {found[1]: int(found[2]) for line in text.split("\n") if (found := _MEMINFO_LINE.fullmatch(line.strip()))}


def parse_choice(text: str) -> str:
    """The chosen one of `always [madvise] never`; the text itself when none is marked."""
    start, end = text.find("["), text.find("]")
    return text[start + 1 : end] if 0 <= start < end else text


def parse_swaps(text: str) -> dict[str, Scalar]:
    """/proc/swaps: `swap.<device>.<type|size-kib|used-kib|priority>` for each device, and `swap.devices`."""
    data: dict[str, Scalar] = {}
    devices: set[str] = set()
    for line in text.split("\n")[1:]:
        fields = line.split()
        if len(fields) != 5:
            continue
        device = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[0])
        devices.add(device)
        data[f"swap.{device}.type"] = fields[1]
        for name, value in zip(("size-kib", "used-kib", "priority"), map(parse_integer, fields[2:]), strict=True):
            if value is not None:
                data[f"swap.{device}.{name}"] = value
    return {**data, "swap.devices": len(devices)}


def parse_block_size(text: str) -> int | None:
    """Bytes in one memory block: hexadecimal, without 0x."""
    return parse_integer(f"0x{text}") if text.isalnum() else None


def rounded_gib(kib: float) -> int:
    """Whole GiB: firmware and kernel keep a few MiB more on one machine than on its equal."""
    return round(kib / _KIB_PER_GIB)


class MemoryCollector:
    """Reads sizes and settings; free memory and the like are readings, kept only when asked for."""

    name = "memory"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            meminfo = parse_meminfo(ctx.host.read_text(_MEMINFO))
        except OSError as error:
            return Collected.of({"memory": outcome_of(error, _MEMINFO)})
        sysfs = Sysfs(ctx.host)
        data: dict[str, Scalar] = {name: meminfo[name] for name in ("MemTotal", *_LIVE) if name in meminfo}
        if "MemTotal" in meminfo:
            data["total-gib"] = rounded_gib(meminfo["MemTotal"])
        if "Hugepagesize" in meminfo:
            data["hugepages.default-kib"] = meminfo["Hugepagesize"]
        data |= _pools(sysfs, f"{_MM}/hugepages", "hugepages.")
        data |= _nodes(sysfs) | _settings(sysfs) | _swap(sysfs)
        return Collected.of({"memory": Ok(data, sysfs.context())})


def _pools(sysfs: Sysfs, directory: str, prefix: str) -> dict[str, Scalar]:
    """Huge pages of each size, as configured (`persistent`, `overcommit`) and at this moment."""
    data: dict[str, Scalar] = {}
    for name in sysfs.names(directory):
        if not (found := _POOL.fullmatch(name)):
            continue
        pool, key = f"{directory}/{name}", f"{prefix}{found[1]}"
        persistent, surplus = _persistent(sysfs, pool)
        values = {
            "persistent": persistent,
            "surplus": surplus,
            "overcommit": sysfs.integer(f"{pool}/nr_overcommit_hugepages"),
            "free": sysfs.integer(f"{pool}/free_hugepages"),
            "reserved": sysfs.integer(f"{pool}/resv_hugepages"),
        }
        data |= {f"{key}.{what}": value for what, value in values.items() if value is not None}
    return data


def _persistent(sysfs: Sysfs, pool: str) -> tuple[int | None, int | None]:
    """Pages set aside for good, and those lent beyond that.

    nr_hugepages counts both, and two files are not read at one moment: read again while the second one moves.
    """
    surplus = sysfs.integer(f"{pool}/surplus_hugepages")
    pages = sysfs.integer(f"{pool}/nr_hugepages")
    for _ in range(3):
        again = sysfs.integer(f"{pool}/surplus_hugepages")
        if again == surplus:
            break
        surplus, pages = again, sysfs.integer(f"{pool}/nr_hugepages")
    return (None if pages is None else max(pages - (surplus or 0), 0)), surplus


def _nodes(sysfs: Sysfs) -> dict[str, Scalar]:
    """Of each NUMA node: size and huge pages.

    The size is that of its memory blocks. MemTotal of a node is less sure: it grows after the start where a kernel
    sets up memory only when it is needed.
    """
    data: dict[str, Scalar] = {}
    block = parse_block_size(sysfs.text(f"{_MEMORY}/block_size_bytes") or "")
    for name in sysfs.names(_NODES):
        if not (found := _NODE.fullmatch(name)):
            continue
        prefix = f"numa.{found[1]}."
        blocks = sum(1 for entry in sysfs.names(f"{_NODES}/{name}") if _BLOCK.fullmatch(entry))
        if block is not None and blocks:
            data[f"{prefix}total-gib"] = rounded_gib(blocks * block / 1024)
        elif total := parse_meminfo(sysfs.text(f"{_NODES}/{name}/meminfo") or "").get("MemTotal"):
            data[f"{prefix}total-gib"] = rounded_gib(total)
        data |= _pools(sysfs, f"{_NODES}/{name}/hugepages", f"{prefix}hugepages.")
    return data


def _settings(sysfs: Sysfs) -> dict[str, Scalar]:
    files = list(_SETTINGS)
    files += [(f"{_THP}/khugepaged/{name}", f"thp.khugepaged.{name}") for name in _KHUGEPAGED]
    files += [(f"{_MM}/ksm/{name}", f"ksm.{name}") for name in _KSM]
    # Sizes smaller than the usual huge page, each with a switch of its own.
    files += [
        (f"{_THP}/{name}/{switch}", f"thp.{found[1]}.{switch}")
        for name in sysfs.names(_THP)
        if (found := _POOL.fullmatch(name))
        for switch in ("enabled", "shmem_enabled")
    ]
    data: dict[str, Scalar] = {}
    for path, key in files:
        if value := sysfs.text(path):
            data[key] = parse_choice(value)
    # An advisor sets this by itself.
    if data.get("ksm.advisor_mode", "none") == "none" and (pages := sysfs.text(f"{_MM}/ksm/pages_to_scan")):
        data["ksm.pages_to_scan"] = pages
    return data


def _swap(sysfs: Sysfs) -> dict[str, Scalar]:
    data: dict[str, Scalar] = {}
    swaps = sysfs.text("/proc/swaps")
    if swaps is not None:
        data |= parse_swaps(swaps)
    directory = "/sys/module/zswap/parameters"
    for name in sysfs.names(directory):
        if value := sysfs.text(f"{directory}/{name}"):
            data[f"zswap.{name}"] = value
    for device in sysfs.names("/sys/block"):
        if _ZRAM_DEVICE.fullmatch(device):
            for name in _ZRAM:
                if value := sysfs.text(f"/sys/block/{device}/{name}"):
                    data[f"{device}.{name}"] = parse_choice(value)
    return data
