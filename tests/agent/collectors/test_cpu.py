"""OS.cpu."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context, Options
from agent.collectors.cpu import CpuCollector, counts, fold_cpus, models, parse_cpuinfo, parse_cpulist
from agent.host import Host
from common.model import Absent, Failed, FailureCode, Ok
from common.stability import Stability, default_rules
from tests.agent.collectors.closed import ClosedHost
from tests.agent.collectors.device_tree import DeviceTree


def x86(cpus: int, odd_microcode: int = -1) -> str:
    """Two sockets with two threads for each core, numbered as Linux does."""
    cores = cpus // 2
    return "\n".join(
        f"processor\t: {cpu}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
        f"model name\t: Intel(R) Xeon(R) Platinum 8480C\nstepping\t: 8\n"
        f"microcode\t: {'0x2b0001b0' if cpu == odd_microcode else '0x2b000603'}\ncpu MHz\t\t: {2000 + cpu}.125\n"
        f"physical id\t: {cpu % cores // (cores // 2)}\ncore id\t\t: {cpu % (cores // 2)}\n"
        f"flags\t\t: vme fpu avx512f\naddress sizes\t: 52 bits physical, 57 bits virtual\n"
        for cpu in range(cpus)
    )


GRACE = "\n".join(
    f"processor\t: {cpu}\nBogoMIPS\t: 2000.00\nFeatures\t: fp asimd sve2\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd4f\nCPU revision\t: 0\n"
    for cpu in range(4)
)


def test_parse_cpuinfo() -> None:
    assert parse_cpuinfo("") == {}
    assert parse_cpuinfo("processor : 3\nmodel name : a: b\n\nprocessor : x\nmodel : 1\n") == {
        3: {"model name": "a: b"}
    }
    assert sorted(parse_cpuinfo(x86(8))) == list(range(8))


@given(st.text() | st.text(st.sampled_from("processor: 019\n\tCPU")))
def test_parsers_take_anything(text: str) -> None:
    models(parse_cpuinfo(text))
    parse_cpulist(text)


def test_fold_cpus() -> None:
    assert fold_cpus("a", {}) == {}
    assert fold_cpus("a", {0: "x", 1: "x"}) == {"a": "x"}
    assert fold_cpus("a", {0: "x", 1: "x", 2: "y", 3: "x"}) == {"a[0-1,3]": "x", "a[2]": "y"}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-3,8", [0, 1, 2, 3, 8]), ("", []), ("0", [0]), ("3-1", []), ("a", []), ("0-999999999", [])],
)
def test_parse_cpulist(text: str, numbers: list[int]) -> None:
    assert parse_cpulist(text) == numbers


def test_counts() -> None:
    assert counts([]) == {}
    assert counts([("0", "0"), ("0", "0"), ("1", "0"), ("1", "0")]) == {
        "sockets": 2,
        "cores": 2,
        "threads": 4,
        "threads-per-core": 2,
    }


def server(root: Path) -> DeviceTree:
    tree = DeviceTree(root)
    tree.write("/proc/cpuinfo", x86(8))
    cpu = "/sys/devices/system/cpu"
    tree.attributes(cpu, {"online": "0-7", "offline": "", "possible": "0-7", "present": "0-7", "isolated": "2-3"})
    tree.write(f"{cpu}/nohz_full", "(null)")
    tree.attributes(f"{cpu}/smt", {"active": 1, "control": "on"})
    tree.attributes(f"{cpu}/vulnerabilities", {"l1tf": "Not affected", "retbleed": "Mitigation: Enhanced IBRS"})
    tree.attributes(f"{cpu}/intel_pstate", {"status": "active", "no_turbo": 0})
    tree.attributes(f"{cpu}/cpuidle", {"current_driver": "intel_idle", "current_governor": "menu"})
    for state, name in enumerate(("POLL", "C1", "C1E", "C6")):
        tree.write(f"{cpu}/cpu0/cpuidle/state{state}/name", name)
    for number in range(8):
        tree.attributes(
            f"{cpu}/cpufreq/policy{number}",
            {
                "scaling_driver": "intel_pstate",
                "scaling_governor": "powersave" if number == 5 else "performance",
                "scaling_min_freq": 800000,
                "scaling_max_freq": 3800000,
                "scaling_cur_freq": 2000000 + number,
                "related_cpus": number,
            },
        )
    for node, cpulist in enumerate(("0-1,4-5", "2-3,6-7")):
        tree.attributes(f"/sys/devices/system/node/node{node}", {"cpulist": cpulist, "distance": "10 21"})
    tree.attributes(
        "/sys/devices/system/clocksource/clocksource0",
        {"current_clocksource": "tsc", "available_clocksource": "tsc hpet acpi_pm"},
    )
    return tree


def test_an_x86_server(tmp_path: Path) -> None:
    assert server(tmp_path).facts(CpuCollector()) == {
        "vendor": "GenuineIntel",
        "model-name": "Intel(R) Xeon(R) Platinum 8480C",
        "family": "6",
        "model": "143",
        "stepping": "8",
        "microcode": "0x2b000603",
        "flags": "avx512f fpu vme",
        "address-sizes": "52 bits physical, 57 bits virtual",
        "sockets": 2,
        "cores": 4,
        "threads": 8,
        "threads-per-core": 2,
        "cpus.online": "0-7",
        "cpus.offline": "",
        "cpus.possible": "0-7",
        "cpus.present": "0-7",
        "cpus.isolated": "2-3",
        "cpus.nohz-full": "",
        "smt.active": "1",
        "smt.control": "on",
        "vulnerabilities.l1tf": "Not affected",
        "vulnerabilities.retbleed": "Mitigation: Enhanced IBRS",
        "intel-pstate.status": "active",
        "intel-pstate.no-turbo": "0",
        "idle.driver": "intel_idle",
        "idle.governor": "menu",
        "idle.states": "POLL,C1,C1E,C6",
        "frequency.driver": "intel_pstate",
        "frequency.governor[0-4,6-7]": "performance",
        "frequency.governor[5]": "powersave",
        "frequency.min-khz": "800000",
        "frequency.max-khz": "3800000",
        "numa.nodes": 2,
        "numa.0.cpus": "0-1,4-5",
        "numa.0.distance": "10 21",
        "numa.1.cpus": "2-3,6-7",
        "numa.1.distance": "10 21",
        "clocksource.current": "tsc",
        "clocksource.available": "tsc hpet acpi_pm",
    }


def test_one_cpu_with_older_microcode_stands_out(tmp_path: Path) -> None:
    tree = server(tmp_path)
    tree.write("/proc/cpuinfo", x86(8, odd_microcode=6))
    facts = tree.facts(CpuCollector())
    assert facts["microcode[0-5,7]"] == "0x2b000603"
    assert facts["microcode[6]"] == "0x2b0001b0"
    assert "microcode" not in facts


def test_grace(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/cpuinfo", GRACE)
    for cpu in range(4):
        topology = f"/sys/devices/system/cpu/cpu{cpu}/topology"
        tree.attributes(topology, {"physical_package_id": cpu // 2, "core_id": cpu})
    tree.attributes("/sys/devices/system/node/node0", {"cpulist": "0-3", "distance": "10 80"})
    tree.attributes("/sys/devices/system/node/node1", {"cpulist": "", "distance": "80 10"})
    assert tree.facts(CpuCollector()) == {
        "vendor": "ARM",
        "model-name": "Neoverse-V2",
        "implementer": "0x41",
        "architecture": "8",
        "part": "0xd4f",
        "variant": "0x0",
        "revision": "0",
        "flags": "asimd fp sve2",
        "sockets": 2,
        "cores": 4,
        "threads": 4,
        "threads-per-core": 1,
        "numa.nodes": 2,
        "numa.0.cpus": "0-3",
        "numa.0.distance": "10 80",
        "numa.1.cpus": "",
        "numa.1.distance": "80 10",
    }


def test_an_unknown_arm_cpu_is_called_by_its_numbers() -> None:
    cpus = parse_cpuinfo("processor: 0\nCPU implementer: 0x99\nCPU part: 0x001\n")
    assert models(cpus)["model-name"] == "implementer 0x99 part 0x001"


def test_clocks_are_read_only_when_asked_for_and_are_volatile(tmp_path: Path) -> None:
    tree = server(tmp_path)
    context = Context(Host(str(tmp_path)), "n", 0, Options(include_volatile=True))

    def clocks() -> dict[str, object]:
        [outcome] = CpuCollector().collect(context).subtypes.values()
        assert isinstance(outcome, Ok)
        return {key: value for key, value in outcome.data.items() if key.startswith("current-mhz")}

    assert clocks() == {"current-mhz.lowest": 2000, "current-mhz.highest": 2007}
    tree.write("/proc/cpuinfo", GRACE)
    assert clocks() == {"current-mhz.lowest": 2000, "current-mhz.highest": 2000}
    assert default_rules().classify("OS", "cpu", "current-mhz.lowest") is Stability.VOLATILE
    assert not [key for key in tree.facts(CpuCollector()) if key.startswith("current-mhz")]


def test_absent_closed_and_too_large(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    assert isinstance(tree.collect(CpuCollector()), Absent)
    tree.write("/proc/cpuinfo", b"x" * (17 << 20))
    outcome = tree.collect(CpuCollector())
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.TOO_LARGE
    [outcome] = CpuCollector().collect(Context(ClosedHost(str(tmp_path), "/proc/cpuinfo"), "n", 0)).subtypes.values()
    assert outcome == Failed(FailureCode.PERMISSION_DENIED, "/proc/cpuinfo may not be read")


def test_what_is_closed_in_sys_is_named(tmp_path: Path) -> None:
    server(tmp_path)
    closed = "/sys/devices/system/cpu/smt/control"
    [outcome] = CpuCollector().collect(Context(ClosedHost(str(tmp_path), closed), "n", 0)).subtypes.values()
    assert isinstance(outcome, Ok)
    assert outcome.context == {"unreadable": closed}
    assert "smt.control" not in outcome.data
