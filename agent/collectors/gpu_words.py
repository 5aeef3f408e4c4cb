"""NVML's numbers in the words nvidia-smi uses for them. Pure; every function takes any value and never raises.

Sources: nvml.h for the numbers, nvidia-smi(1) and its query output for the words.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from agent.nvml_reading import Value
from common.model import Scalar

Word: TypeAlias = Callable[[Value], Scalar | None]
"""What a value is called; None when it has no meaning, so that the fact is left out."""


def named(names: Mapping[int, str]) -> Word:
    """The name of a number; a number that a newer driver brought is shown as one."""
    return lambda value: names.get(value, f"unknown ({value})") if isinstance(value, int) else None


def item(position: int, word: Word) -> Word:
    """The word for one item of a list."""
    return lambda value: word(value[position]) if isinstance(value, list) and position < len(value) else None


def text(value: Value) -> Scalar | None:
    return value.strip() or None if isinstance(value, str) else None


def number(value: Value) -> Scalar | None:
    return value if isinstance(value, int) and abs(value) < 1 << 63 else None


def mebibytes(value: Value) -> Scalar | None:
    """Bytes as whole MiB, as nvidia-smi shows memory."""
    return number(value >> 20) if isinstance(value, int) else None


def watts(value: Value) -> Scalar | None:
    """Milliwatts as watts: whole where they are."""
    if not isinstance(value, int) or number(value) is None:
        return None
    return value // 1000 if value % 1000 == 0 else value / 1000


def capability(value: Value) -> Scalar | None:
    """CUDA compute capability: `9.0`."""
    return f"{value[0]}.{value[1]}" if isinstance(value, list) and len(value) == 2 else None


def pci_pair(value: Value) -> Scalar | None:
    """A PCI id as NVML packs it, device above vendor: `10de:2330`."""
    return f"{value & 0xFFFF:04x}:{value >> 16 & 0xFFFF:04x}" if isinstance(value, int) and value else None


def cuda_version(value: Value) -> Scalar | None:
    """12080 is `12.8`."""
    return f"{value // 1000}.{value % 1000 // 10}" if isinstance(value, int) else None


def uuid(value: Value) -> Scalar | None:
    """32 hexadecimal digits in the usual groups."""
    if not isinstance(value, str) or len(value) != 32:
        return None
    return "-".join((value[:8], value[8:12], value[12:16], value[16:20], value[20:]))


def event_reasons(value: Value) -> Scalar | None:
    """Why clocks are not at their maximum, as `nvidia-smi -q -d PERFORMANCE` calls it; `None` when nothing holds."""
    if not isinstance(value, int):
        return None
    return ",".join(name for bit, name in _EVENT_REASONS.items() if value & bit) or "None"


enabled: Final = named({0: "Disabled", 1: "Enabled"})
yes: Final = named({0: "No", 1: "Yes"})
performance_state: Final = named({state: f"P{state}" for state in range(16)})

architecture: Final = named(
    {
        2: "Kepler",
        3: "Maxwell",
        4: "Pascal",
        5: "Volta",
        6: "Turing",
        7: "Ampere",
        8: "Ada Lovelace",
        9: "Hopper",
        10: "Blackwell",
        13: "Rubin",
    }
)
brand: Final = named(
    {
        0: "Unknown",
        1: "Quadro",
        2: "Tesla",
        3: "NVS",
        4: "Grid",
        5: "GeForce",
        6: "Titan",
        7: "NVIDIA Virtual Applications",
        8: "NVIDIA Virtual PC",
        9: "NVIDIA Virtual Compute Server",
        10: "NVIDIA RTX Virtual Workstation",
        11: "NVIDIA Cloud Gaming",
        12: "Quadro RTX",
        13: "NVIDIA RTX",
        14: "NVIDIA",
        15: "GeForce RTX",
        16: "Titan RTX",
    }
)
addressing_mode: Final = named({0: "None", 1: "HMM", 2: "ATS"})
compute_mode: Final = named({0: "Default", 1: "Exclusive_Thread", 2: "Prohibited", 3: "Exclusive_Process"})
virtualization_mode: Final = named({0: "None", 1: "Pass-Through", 2: "VGPU", 3: "Host VGPU", 4: "Host VSGA"})
recovery_action: Final = named(
    {
        0: "None",
        1: "Reset",
        2: "Reboot",
        3: "Drain P2P",
        4: "Drain and Reset",
        5: "Recover IMEX Domain",
        6: "Bus Reset",
        7: "System Reboot",
    }
)

link_version: Final = named({1: "1.0", 2: "2.0", 3: "2.2", 4: "3.0", 5: "3.1", 6: "4.0", 7: "5.0", 8: "6.0"})
link_remote: Final = named({0: "gpu", 1: "npu", 2: "switch"})

fabric_state: Final = named({0: "N/A", 1: "Not Started", 2: "In Progress", 3: "Completed"})
fabric_status: Final = named({0: "Success", 3: "Not Supported", 17: "Operating System Error", 999: "Unknown Error"})
# Fields of the fabric's health mask: name, first bit, mask, words (nvmlGpuFabricInfo_v2_t.healthMask)
FABRIC_HEALTH: Final = (
    ("health.bandwidth", 0, 0x3, {1: "Degraded", 2: "Full"}),
    ("health.route-recovery", 2, 0x3, {1: "True", 2: "False"}),
    ("health.route-unhealthy", 4, 0x3, {1: "True", 2: "False"}),
    ("health.access-timeout-recovery", 6, 0x3, {1: "True", 2: "False"}),
    (
        "health.incorrect-configuration",
        8,
        0xF,
        {
            1: "None",
            2: "Incorrect System GUID",
            3: "Incorrect Chassis Serial Number",
            4: "No Partition",
            5: "Insufficient NVLinks",
            6: "Incompatible GPU Firmware",
            7: "Invalid Location",
            8: "Invalid GPU State",
        },
    ),
)

cc_environment: Final = named({0: "N/A", 1: "SIM", 2: "PROD"})
cc_switch: Final = named({0: "OFF", 1: "ON"})
cc_multi_gpu: Final = named({0: "None", 1: "Protected PCIe", 2: "NVLE"})
cc_ready: Final = named({0: "Not Ready", 1: "Ready"})

_EVENT_REASONS: Final = {
    0x1: "Idle",
    0x2: "Applications Clocks Setting",
    0x4: "SW Power Cap",
    0x8: "HW Slowdown",
    0x10: "Sync Boost",
    0x20: "SW Thermal Slowdown",
    0x40: "HW Thermal Slowdown",
    0x80: "HW Power Brake Slowdown",
    0x100: "Display Clock Setting",
}
