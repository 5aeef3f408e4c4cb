"""OS.cpu: processors, how they are laid out, and how they are set to run.

Sources: /proc/cpuinfo; /sys/devices/system/cpu (Documentation/ABI/testing/sysfs-devices-system-cpu,
admin-guide/pm/cpufreq.rst, admin-guide/hw-vuln/); /sys/devices/system/node; the clock source of timekeeping.
psutil has none of it under another root than `/` and tells no CPU from another, so files are read instead.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.sysfs import Sysfs, parse_integer
from common.errors import UsageError
from common.model import Absent, Collected, MeasurementType, Ok, Scalar
from common.nodeset import fold_indexes, unfold_indexes

_CPUINFO: Final = "/proc/cpuinfo"
_CPUINFO_LIMIT: Final = 16 << 20  # about 1.6 KB for each CPU of an x86 server, thousands of CPUs at most
_SYSTEM: Final = "/sys/devices/system"
_CPU: Final = f"{_SYSTEM}/cpu"

# What a line of /proc/cpuinfo is called with us: the first group as x86 writes it, the second as arm64 does.
_FIELDS: Final = {
    "vendor_id": "vendor",
    "model name": "model-name",
    "cpu family": "family",
    "model": "model",
    "stepping": "stepping",
    "microcode": "microcode",
    "flags": "flags",
    "address sizes": "address-sizes",
    "CPU implementer": "implementer",
    "CPU architecture": "architecture",
    "CPU variant": "variant",
    "CPU part": "part",
    "CPU revision": "revision",
    "Features": "flags",
}

# arm64 writes numbers only. (implementer, part) as Arm, NVIDIA and Ampere assigned them in MIDR_EL1.
_ARM_MODELS: Final = {
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",  # NVIDIA Grace, AWS Graviton4, Google Axion
    ("0x41", "0xd84"): "Neoverse-V3",
    ("0x41", "0xd8e"): "Neoverse-N3",
    ("0x4e", "0x004"): "Carmel",
    ("0x4e", "0x010"): "Olympus",  # NVIDIA Vera
    ("0xc0", "0xac3"): "Ampere-1",
    ("0xc0", "0xac4"): "Ampere-1a",
}
_ARM_VENDORS: Final = {"0x41": "ARM", "0x4e": "NVIDIA", "0x46": "Fujitsu", "0x48": "HiSilicon", "0xc0": "Ampere"}

_LISTS: Final = ("isolated", "nohz_full", "offline", "online", "possible", "present")
_POLICY: Final = {
    "scaling_driver": "driver",
    "scaling_governor": "governor",
    "scaling_min_freq": "min-khz",
    "scaling_max_freq": "max-khz",
    "cpuinfo_min_freq": "hardware-min-khz",
    "cpuinfo_max_freq": "hardware-max-khz",
    "energy_performance_preference": "energy-performance-preference",
}
# One setting for the whole machine. Below /sys/devices/system.
_SETTINGS: Final = {
    "cpu/smt/active": "smt.active",
    "cpu/smt/control": "smt.control",
    "cpu/cpufreq/boost": "frequency.boost",
    "cpu/intel_pstate/status": "intel-pstate.status",
    "cpu/intel_pstate/no_turbo": "intel-pstate.no-turbo",
    "cpu/intel_pstate/min_perf_pct": "intel-pstate.min-perf-pct",
    "cpu/intel_pstate/max_perf_pct": "intel-pstate.max-perf-pct",
    "cpu/intel_pstate/hwp_dynamic_boost": "intel-pstate.hwp-dynamic-boost",
    "cpu/amd_pstate/status": "amd-pstate.status",
    "cpu/amd_pstate/prefcore": "amd-pstate.prefcore",
    "cpu/cpuidle/current_driver": "idle.driver",
    "cpu/cpuidle/current_governor": "idle.governor",
    "clocksource/clocksource0/current_clocksource": "clocksource.current",
    "clocksource/clocksource0/available_clocksource": "clocksource.available",
}


def parse_cpuinfo(text: str) -> dict[int, dict[str, str]]:
    """Fields of every CPU, as the kernel of x86 or arm64 names them, by CPU number.

    Only lines that come after a `processor` line with a number count; where a number comes twice the last wins.
    """
    cpus: dict[int, dict[str, str]] = {}
    fields: dict[str, str] | None = None
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if not colon:
            continue
        name, value = name.strip(), value.strip()
        if name == "processor":
            number = parse_integer(value)
            fields = cpus.setdefault(number, {}) if number is not None and 0 <= number < 1 << 20 else None
        elif fields is not None:
            fields[name] = value
    return cpus


def fold_cpus(key: str, values: Mapping[int, str]) -> dict[str, str]:
    """One fact where all CPUs agree, else one for each value with its CPUs: `microcode[0-62]`, `microcode[63]`."""
    holders: dict[str, list[int]] = {}
    for cpu, value in values.items():
        holders.setdefault(value, []).append(cpu)
    if len(holders) == 1:
        return {key: next(iter(holders))}
    return {f"{key}[{fold_indexes(cpus)}]": value for value, cpus in holders.items()}


def models(cpus: Mapping[int, Mapping[str, str]]) -> dict[str, Scalar]:
    """What the CPUs are, from the fields of /proc/cpuinfo."""
    by_key: dict[str, dict[int, str]] = {}
    for cpu, fields in cpus.items():
        for field, key in _FIELDS.items():
            if value := fields.get(field):
                by_key.setdefault(key, {})[cpu] = value
        if implementer := fields.get("CPU implementer"):
            part = fields.get("CPU part", "")
            name = _ARM_MODELS.get((implementer, part), f"implementer {implementer} part {part}")
            by_key.setdefault("model-name", {}).setdefault(cpu, name)
            by_key.setdefault("vendor", {}).setdefault(cpu, _ARM_VENDORS.get(implementer, implementer))
    facts: dict[str, Scalar] = {}
    for key, values in by_key.items():
        folded = fold_cpus(key, values)
        # The order of flags means nothing, and is not the same in all kernels.
        facts |= (
            {name: " ".join(sorted(value.split())) for name, value in folded.items()} if key == "flags" else folded
        )
    return facts


def counts(places: Iterable[tuple[str, str]]) -> dict[str, Scalar]:
    """Sockets, cores and threads (CPUs online) from the (package, core) of every CPU; nothing from no CPU."""
    listed = list(places)
    if not listed:
        return {}
    cores = len(set(listed))
    return {
        "sockets": len({package for package, _ in listed}),
        "cores": cores,
        "threads": len(listed),
        "threads-per-core": len(listed) // cores,
    }


def parse_cpulist(text: str) -> list[int]:
    """CPU numbers of a list such as `0-3,8`; [] when it is empty or no list."""
    try:
        return unfold_indexes(text.strip().replace(" ", ""))
    except UsageError:
        return []


class CpuCollector:
    """Reads processors, topology, frequency settings and mitigations."""

    name = "cpu"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            cpus = parse_cpuinfo(ctx.host.read_text(_CPUINFO, _CPUINFO_LIMIT))
        except OSError as error:
            outcome = outcome_of(error, _CPUINFO)
            if not isinstance(outcome, Absent):
                return Collected.of({"cpu": outcome})
            cpus = {}
        sysfs = Sysfs(ctx.host)
        data = models(cpus) | counts(_places(sysfs, cpus)) | _settings(sysfs) | _policies(sysfs) | _nodes(sysfs)
        if ctx.options.include_volatile:
            data |= _current(sysfs, cpus)
        if not data:
            return Collected.of({"cpu": Absent(f"neither {_CPUINFO} nor {_CPU} is there")})
        return Collected.of({"cpu": Ok(data, sysfs.context())})


def _places(sysfs: Sysfs, cpus: Mapping[int, Mapping[str, str]]) -> list[tuple[str, str]]:
    """(package, core) of every CPU: x86 has them in /proc/cpuinfo, elsewhere they cost two files for each CPU."""
    if cpus and all("physical id" in fields and "core id" in fields for fields in cpus.values()):
        return [(fields["physical id"], fields["core id"]) for fields in cpus.values()]
    places = []
    for cpu in sorted(cpus) or parse_cpulist(sysfs.text(f"{_CPU}/online") or ""):
        topology = f"{_CPU}/cpu{cpu}/topology"
        # Without a topology every CPU counts as a core, as in the kernel.
        package, core = sysfs.text(f"{topology}/physical_package_id"), sysfs.text(f"{topology}/core_id")
        places.append((package or "0", core if core is not None else f"cpu{cpu}"))
    return places


def _settings(sysfs: Sysfs) -> dict[str, Scalar]:
    data: dict[str, Scalar] = {}
    for path, key in _SETTINGS.items():
        if value := sysfs.text(f"{_SYSTEM}/{path}"):
            data[key] = value
    for name in _LISTS:
        numbers = sysfs.text(f"{_CPU}/{name}")
        if numbers is not None:
            data[f"cpus.{name.replace('_', '-')}"] = "" if numbers == "(null)" else numbers
    directories = sorted(sysfs.names(f"{_CPU}/cpu0/cpuidle"), key=lambda name: (len(name), name))
    states = [sysfs.text(f"{_CPU}/cpu0/cpuidle/{directory}/name") or "unknown" for directory in directories]
    if states:
        data["idle.states"] = ",".join(states)
    for name in sysfs.names(f"{_CPU}/vulnerabilities"):
        if value := sysfs.text(f"{_CPU}/vulnerabilities/{name}"):
            data[f"vulnerabilities.{name}"] = value
    return data


def _policies(sysfs: Sysfs) -> dict[str, Scalar]:
    """Frequency settings. There is a policy for each CPU or group of CPUs; equal ones fold by CPU."""
    by_key: dict[str, dict[int, str]] = {}
    for number, directory in _policy_directories(sysfs):
        # A group's policy lists its CPUs; by far most are of one CPU, whose number is in the name.
        related = sysfs.text(f"{directory}/related_cpus") or number
        cpus = [cpu for cpu in map(parse_integer, related.split()) if cpu is not None and cpu >= 0]
        for file, key in _POLICY.items():
            if value := sysfs.text(f"{directory}/{file}"):
                by_key.setdefault(key, {}).update((cpu, value) for cpu in cpus)
    facts: dict[str, Scalar] = {}
    for key, values in by_key.items():
        facts |= fold_cpus(f"frequency.{key}", values)
    return facts


def _policy_directories(sysfs: Sysfs) -> list[tuple[str, str]]:
    """(number, directory) of every policy."""
    names = sysfs.names(f"{_CPU}/cpufreq")
    return [(name[6:], f"{_CPU}/cpufreq/{name}") for name in names if name[:6] == "policy" and name[6:].isdigit()]


def _nodes(sysfs: Sysfs) -> dict[str, Scalar]:
    """NUMA nodes, and the CPUs of each: a node may have memory only, as a GPU's has on Grace Hopper."""
    data: dict[str, Scalar] = {}
    numbers = [name[4:] for name in sysfs.names(f"{_SYSTEM}/node") if name[:4] == "node" and name[4:].isdigit()]
    for number in numbers:
        for file, key in (("cpulist", "cpus"), ("distance", "distance")):
            value = sysfs.text(f"{_SYSTEM}/node/node{number}/{file}")
            if value is not None:
                data[f"numa.{number}.{key}"] = value
    return {**data, "numa.nodes": len(numbers)} if numbers else data


def _current(sysfs: Sysfs, cpus: Mapping[int, Mapping[str, str]]) -> dict[str, Scalar]:
    """Lowest and highest clock of any CPU at this moment, in MHz."""
    clocks = [clock for fields in cpus.values() if (clock := _mhz(fields.get("cpu MHz", ""))) is not None]
    if not clocks:
        khz = (sysfs.integer(f"{directory}/scaling_cur_freq") for _, directory in _policy_directories(sysfs))
        clocks = [value // 1000 for value in khz if value is not None]
    return {"current-mhz.lowest": min(clocks), "current-mhz.highest": max(clocks)} if clocks else {}


def _mhz(text: str) -> int | None:
    whole = text.partition(".")[0]
    return int(whole) if whole.isascii() and whole.isdigit() and len(whole) <= 9 else None
