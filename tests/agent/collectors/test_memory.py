"""OS.memory."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context
from agent.collectors.memory import (
    MemoryCollector,
    parse_block_size,
    parse_choice,
    parse_meminfo,
    parse_swaps,
    rounded_gib,
)
from agent.host import DEFAULT_LIMIT, Host
from common.model import Absent, Failed, FailureCode, Ok
from common.stability import Stability, default_rules
from tests.agent.collectors.closed import ClosedHost
from tests.agent.collectors.device_tree import DeviceTree

MEMINFO = """\
MemTotal:       2113540144 kB
MemFree:        2000000000 kB
MemAvailable:   2050000000 kB
Active(anon):       1592 kB
HugePages_Total:    1024
Hugepagesize:       2048 kB
"""

SWAPS = """\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/nvme0n1p3                          partition\t8388604\t\t1024\t\t-2
/swap\\040file                           file\t\t1048572\t\t0\t\t10
"""


def test_parse_meminfo() -> None:
    assert parse_meminfo(MEMINFO)["MemTotal"] == 2113540144
    assert parse_meminfo(MEMINFO)["HugePages_Total"] == 1024
    assert parse_meminfo("Node 1 MemTotal:       123 kB\n") == {"MemTotal": 123}
    assert parse_meminfo("MemTotal: x kB\nMemFree: -1 kB\n:\nA: 9999999999999999999999 kB\n") == {}


@pytest.mark.parametrize(
    ("text", "choice"),
    [("always [madvise] never", "madvise"), ("[none]", "none"), ("Y", "Y"), ("] [", "] ["), ("[", "["), ("", "")],
)
def test_parse_choice(text: str, choice: str) -> None:
    assert parse_choice(text) == choice


def test_parse_swaps() -> None:
    assert parse_swaps("") == {"swap.devices": 0}
    assert parse_swaps("Filename Type\nbroken line\n") == {"swap.devices": 0}
    assert parse_swaps(SWAPS) == {
        "swap.devices": 2,
        "swap./dev/nvme0n1p3.type": "partition",
        "swap./dev/nvme0n1p3.size-kib": 8388604,
        "swap./dev/nvme0n1p3.used-kib": 1024,
        "swap./dev/nvme0n1p3.priority": -2,
        "swap./swap file.type": "file",
        "swap./swap file.size-kib": 1048572,
        "swap./swap file.used-kib": 0,
        "swap./swap file.priority": 10,
    }


@pytest.mark.parametrize(("text", "size"), [("8000000", 1 << 27), ("80000000", 1 << 31), ("", None), ("-1", None)])
def test_parse_block_size(text: str, size: int | None) -> None:
    assert parse_block_size(text) == size


@given(st.text() | st.text(st.sampled_from("MemTotal: 09kB\n/\\[]-")))
def test_parsers_take_anything(text: str) -> None:
    parse_meminfo(text)
    parse_choice(text)
    parse_swaps(text)
    parse_block_size(text)


def test_equal_machines_round_alike() -> None:
    assert rounded_gib(2113540144) == rounded_gib(2113539876) == 2016


def pool(free: int, persistent: int = 512, surplus: int = 0) -> dict[str, str | int | bytes]:
    return {"nr_hugepages": persistent + surplus, "free_hugepages": free, "surplus_hugepages": surplus}


def server(root: Path) -> DeviceTree:
    tree = DeviceTree(root)
    tree.write("/proc/meminfo", MEMINFO)
    tree.write("/proc/swaps", SWAPS)
    mm = "/sys/kernel/mm"
    tree.attributes(
        f"{mm}/hugepages/hugepages-2048kB",
        {**pool(1000, 1024, 6), "resv_hugepages": 3, "nr_overcommit_hugepages": 64},
    )
    thp = f"{mm}/transparent_hugepage"
    tree.attributes(thp, {"enabled": "always [madvise] never", "defrag": "always defer [madvise] never"})
    tree.attributes(f"{thp}/khugepaged", {"defrag": 1, "full_scans": 17, "pages_collapsed": 40})
    tree.attributes(f"{thp}/hugepages-64kB", {"enabled": "always inherit madvise [never]"})
    tree.attributes(
        f"{mm}/ksm", {"run": 0, "pages_to_scan": 100, "full_scans": 5, "advisor_mode": "[none] scan-time"}
    )
    tree.attributes("/sys/devices/system/memory", {"block_size_bytes": "80000000", "auto_online_blocks": "offline"})
    for node in range(2):
        directory = f"/sys/devices/system/node/node{node}"
        tree.attributes(f"{directory}/hugepages/hugepages-2048kB", pool(500))
        tree.write(f"{directory}/meminfo", f"Node {node} MemTotal:    1056770072 kB")
        for block in range(504):
            (root / f"{directory}/memory{node * 504 + block}".lstrip("/")).mkdir()
    tree.attributes("/sys/module/zswap/parameters", {"enabled": "N"})
    tree.attributes("/sys/block/zram0", {"comp_algorithm": "lzo [zstd]", "disksize": 0})
    tree.write("/sys/block/nvme0n1/size", 1)
    tree.write("/proc/sys/kernel/numa_balancing", 0)
    return tree


def test_a_server(tmp_path: Path) -> None:
    facts = server(tmp_path).facts(MemoryCollector())
    assert facts == {
        "MemTotal": 2113540144,
        "MemFree": 2000000000,
        "MemAvailable": 2050000000,
        "total-gib": 2016,
        "hugepages.default-kib": 2048,
        "hugepages.2048kB.persistent": 1024,
        "hugepages.2048kB.surplus": 6,
        "hugepages.2048kB.overcommit": 64,
        "hugepages.2048kB.free": 1000,
        "hugepages.2048kB.reserved": 3,
        **{f"numa.{node}.total-gib": 1008 for node in range(2)},
        **{f"numa.{node}.hugepages.2048kB.persistent": 512 for node in range(2)},
        **{f"numa.{node}.hugepages.2048kB.surplus": 0 for node in range(2)},
        **{f"numa.{node}.hugepages.2048kB.free": 500 for node in range(2)},
        "numa.balancing": "0",
        "thp.enabled": "madvise",
        "thp.defrag": "madvise",
        "thp.khugepaged.defrag": "1",
        "thp.64kB.enabled": "never",
        "ksm.run": "0",
        "ksm.advisor_mode": "none",
        "ksm.pages_to_scan": "100",
        "hotplug.auto_online_blocks": "offline",
        "zswap.enabled": "N",
        "zram0.comp_algorithm": "zstd",
        "zram0.disksize": "0",
        **parse_swaps(SWAPS),
    }
    stable = default_rules().select("OS", "memory", facts, [Stability.STABLE])
    assert not [key for key in stable if key.endswith((".free", ".surplus", ".reserved", "used-kib", "MemFree"))]
    assert "hugepages.2048kB.persistent" in stable
    assert default_rules().classify("OS", "memory", "MemTotal") is Stability.IDENTITY


def test_a_node_without_memory_blocks_is_measured_by_what_it_says(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/meminfo", MEMINFO)
    tree.write("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:    100000000 kB")
    assert tree.facts(MemoryCollector())["numa.0.total-gib"] == 95


def test_what_an_advisor_sets_by_itself_is_left_out(tmp_path: Path) -> None:
    tree = server(tmp_path)
    tree.write("/sys/kernel/mm/ksm/advisor_mode", "none [scan-time]")
    facts = tree.facts(MemoryCollector())
    assert facts["ksm.advisor_mode"] == "scan-time"
    assert "ksm.pages_to_scan" not in facts


class BorrowingHost(Host):
    """Pages are borrowed between one read and the next, twice; the total read in between is already wrong."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.borrowed = iter([6, 8, 9])
        self.now = 0

    def read_bytes(self, path: str, limit: int = DEFAULT_LIMIT) -> bytes:
        if path.startswith("/sys/kernel/mm/hugepages"):
            if path.endswith("surplus_hugepages"):
                self.now = next(self.borrowed, self.now)
                return str(self.now).encode()
            if path.endswith("nr_hugepages"):
                return str(1024 + (9 if self.now >= 8 else 7)).encode()
        return super().read_bytes(path, limit)


def test_pages_borrowed_while_we_look_are_not_counted_as_set_aside(tmp_path: Path) -> None:
    server(tmp_path)
    [outcome] = MemoryCollector().collect(Context(BorrowingHost(str(tmp_path)), "n", 0)).subtypes.values()
    assert isinstance(outcome, Ok)
    assert outcome.data["hugepages.2048kB.persistent"] == 1024
    assert outcome.data["hugepages.2048kB.surplus"] == 9


def test_absent_closed_and_too_large(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    assert tree.collect(MemoryCollector()) == Absent("/proc/meminfo is not there")
    tree.write("/proc/meminfo", b"x" * (2 << 20))
    outcome = tree.collect(MemoryCollector())
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.TOO_LARGE
    [outcome] = (
        MemoryCollector().collect(Context(ClosedHost(str(tmp_path), "/proc/meminfo"), "n", 0)).subtypes.values()
    )
    assert outcome == Failed(FailureCode.PERMISSION_DENIED, "/proc/meminfo may not be read")


def test_what_is_closed_in_sys_is_named(tmp_path: Path) -> None:
    server(tmp_path)
    [outcome] = MemoryCollector().collect(Context(ClosedHost(str(tmp_path), "/proc/swaps"), "n", 0)).subtypes.values()
    assert isinstance(outcome, Ok)
    assert outcome.context == {"unreadable": "/proc/swaps"}
    assert "swap.devices" not in outcome.data
