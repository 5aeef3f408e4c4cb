"""What shows about NVIDIA GPUs without asking their driver, which may hang: PCI, and what the loaded module says.

Sources: /sys/bus/pci/devices, /sys/module/nvidia/version, /proc/driver/nvidia/version. The driver's other files
(/proc/driver/nvidia/gpus) wait for its locks, so only the NVML child reads them; here is what they mean.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent.collectors.gpu_folding import Folding
from agent.collectors.sysfs import Sysfs
from agent.host import Host
from common.model import Ok, Outcome

_DEVICES: Final = "/sys/bus/pci/devices"
_NVIDIA: Final = 0x10DE
_DISPLAY: Final = 0x03
_VERSION: Final = re.compile(r"(?<![\w.])(\d{2,4}\.\d{1,4}(?:\.\d{1,4})?)(?![\w.])")
_BUS: Final = re.compile(r"(?:0000)?([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2}\.[0-9a-f])")
# Files through which a program talks to the driver: on Linux, and on Windows Subsystem for Linux.
_CONTROL: Final = ("/dev/nvidiactl", "/dev/dxg")


@dataclass(frozen=True, slots=True)
class PciGpu:
    """One NVIDIA display device on PCI."""

    bus: str
    """Domain, bus, device and function as /sys writes them: `0000:1b:00.0`."""
    device: int
    driver: str
    """The kernel driver it is bound to, empty when none."""
    numa_node: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What points to NVIDIA GPUs on this node."""

    gpus: Sequence[PciGpu] = ()
    """By bus, which is the order NVML counts in."""
    module: bool = False
    """Whether the nvidia kernel module is loaded."""
    version: str = ""
    """Its version, empty when unknown."""
    flavour: str = ""
    """`open` or `proprietary`, empty when unknown."""
    control: bool = False
    """Whether there is a file to talk to a driver through."""

    @property
    def has_driver(self) -> bool:
        return self.module or self.control


def read_evidence(host: Host) -> Evidence:
    """Everything that can be had without the driver's help."""
    sysfs = Sysfs(host)
    running = sysfs.text("/proc/driver/nvidia/version")
    version = sysfs.text("/sys/module/nvidia/version") or ""
    said, flavour = parse_module_version(running or "")
    gpus = _pci_gpus(sysfs)
    bound = any(gpu.driver == "nvidia" for gpu in gpus)
    return Evidence(
        gpus=gpus,
        module=running is not None or bound or sysfs.exists("/sys/module/nvidia"),
        version=version if _VERSION.fullmatch(version) else said,
        flavour=flavour,
        control=any(host.exists(path) for path in _CONTROL),
    )


def _pci_gpus(sysfs: Sysfs) -> list[PciGpu]:
    gpus = []
    for bus in sysfs.names(_DEVICES):
        directory = f"{_DEVICES}/{bus}"
        if sysfs.integer(f"{directory}/vendor") != _NVIDIA:
            continue
        device_class = sysfs.integer(f"{directory}/class")
        # A virtual function belongs to a virtual machine; NVML here lists only its GPU.
        if device_class is None or device_class >> 16 != _DISPLAY or sysfs.link(f"{directory}/physfn"):
            continue
        numa_node = sysfs.integer(f"{directory}/numa_node")
        gpus.append(
            PciGpu(
                bus=bus,
                device=sysfs.integer(f"{directory}/device") or 0,
                driver=sysfs.link(f"{directory}/driver"),
                numa_node=numa_node if numa_node is not None and numa_node >= 0 else None,
            )
        )
    return gpus


def parse_module_version(text: str) -> tuple[str, str]:
    """Version and flavour in /proc/driver/nvidia/version; empty text for what it does not say."""
    for line in text.split("\n"):
        label, colon, rest = line.partition(":")
        if label.strip() == "NVRM version" and colon:
            found = _VERSION.search(rest)
            return (found[1] if found else ""), ("open" if "Open Kernel Module" in rest else "proprietary")
    return "", ""


def parse_information(text: str) -> dict[str, str]:
    """Labels and values of /proc/driver/nvidia/gpus/<bus>/information; values the driver does not know are left out.

    A driver that has not initialised a GPU writes question marks for what it has yet to learn.
    """
    values = {}
    for line in text.split("\n"):
        label, colon, value = line.partition(":")
        value = value.strip()
        if colon and label.strip() and value and "??" not in value and value != "Unknown":
            values[label.strip()] = value
    return values


def pci_bus(text: str) -> str:
    """A PCI bus id as /sys writes it; NVML writes capitals and eight digits of domain. Unchanged when it is none."""
    found = _BUS.fullmatch(text.lower())
    return f"{found[1]}:{found[2]}:{found[3]}" if found else text.lower()


def fallback(evidence: Evidence, information: Mapping[str, str]) -> dict[str, Outcome]:
    """Subtypes `smi` and `devices` without NVML. `information` is bus id to the text of that GPU's file."""
    folding = Folding()
    told = {pci_bus(bus): parse_information(text) for bus, text in information.items()}
    known = [told.get(gpu.bus, {}) for gpu in evidence.gpus]
    for index, (gpu, labels) in enumerate(zip(evidence.gpus, known, strict=True)):
        put_pci(folding, index, gpu)
        folding.put("devices", "name", index, labels.get("Model"))
        folding.put("devices", "uuid", index, labels.get("GPU UUID"))
        folding.put("devices", "vbios-version", index, labels.get("Video BIOS", "").upper() or None)
        folding.put("devices", "gsp-firmware-version", index, labels.get("GPU Firmware"))
    put_driver(folding, evidence)
    folding.put("smi", "gpu-count", None, len(evidence.gpus))
    folding.put("smi", "driver", None, evidence.version or None)
    first = known[0] if known else {}
    folding.put("smi", "gpu.model", None, first.get("Model"))
    folding.put("smi", "gpu.vbios-version", None, first.get("Video BIOS", "").upper() or None)
    folding.put("smi", "gpu.gsp-firmware-version", None, first.get("GPU Firmware"))
    return {name: Ok(data) for name, data in folding.folded().items()}


def put_pci(folding: Folding, index: int, gpu: PciGpu) -> None:
    """Facts of one GPU that PCI shows."""
    folding.put("devices", "pci-bus-id", index, gpu.bus)
    folding.put("devices", "pci-device-id", index, f"{_NVIDIA:04x}:{gpu.device:04x}")
    folding.put("devices", "kernel-driver", index, gpu.driver or "none")
    folding.put("devices", "numa-node", index, gpu.numa_node)


def put_driver(folding: Folding, evidence: Evidence) -> None:
    """Facts about the loaded kernel module."""
    folding.put("devices", "driver-version", None, evidence.version or None)
    folding.put("devices", "kernel-module", None, evidence.flavour or None)
