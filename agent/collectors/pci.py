"""OS.pci: the PCI devices a GPU server is judged by, how they are linked, and what isolates them.

Source: /sys/bus/pci/devices (Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups) and, where root may
read it, configuration space (PCI Express Base Specification: Device Control, Access Control Services).
"""

from dataclasses import dataclass
from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.sysfs import Sysfs, fold_devices, present
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_DEVICES: Final = "/sys/bus/pci/devices"
_CONFIG_SIZE: Final = 4096
_NVIDIA: Final = 0x10DE
_BRIDGE: Final = 0x0604

_CATEGORIES: Final = {0x01: "storage", 0x02: "network", 0x03: "display", 0x06: "bridge", 0x12: "accelerator"}
_CLASSES: Final = {
    0x0100: "SCSI storage controller",
    0x0104: "RAID bus controller",
    0x0106: "SATA controller",
    0x0107: "Serial Attached SCSI controller",
    0x0108: "Non-Volatile memory controller",
    0x0180: "Mass storage controller",
    0x0200: "Ethernet controller",
    0x0207: "Infiniband controller",
    0x0280: "Network controller",
    0x0300: "VGA compatible controller",
    0x0302: "3D controller",
    0x0380: "Display controller",
    0x0680: "Bridge",
    0x0B40: "Co-processor",
    0x1200: "Processing accelerators",
}

_EXPRESS_CAPABILITY: Final = 0x10
_ACS_EXTENDED_CAPABILITY: Final = 0x000D
_ACS_CONTROLS: Final = {
    "source-validation": 1 << 0,
    "request-redirect": 1 << 2,
    "completion-redirect": 1 << 3,
    "upstream-forwarding": 1 << 4,
}


@dataclass(frozen=True, slots=True)
class PciConfig:
    """What configuration space says; None where the device has no such capability or it may not be read."""

    max_payload: int | None = None
    """Bytes in one packet, as set (Device Control)."""
    max_read_request: int | None = None
    """Bytes asked for in one read, as set (Device Control)."""
    relaxed_ordering: bool | None = None
    acs_control: int | None = None
    """The Access Control Services control register; None on a device without ACS."""


def parse_config(content: bytes) -> PciConfig:
    """Configuration space, whole or cut anywhere (64 bytes for all but root, 256 without PCI Express)."""
    control = _device_control(content)
    acs = _extended_capability(content, _ACS_EXTENDED_CAPABILITY)
    return PciConfig(
        max_payload=None if control is None else 128 << (control >> 5 & 7),
        max_read_request=None if control is None else 128 << (control >> 12 & 7),
        relaxed_ordering=None if control is None else bool(control & 1 << 4),
        acs_control=None if acs is None else _word(content, acs + 6),
    )


def _word(content: bytes, offset: int) -> int | None:
    return int.from_bytes(content[offset : offset + 2], "little") if offset + 2 <= len(content) else None


def _device_control(content: bytes) -> int | None:
    """The Device Control register of the PCI Express capability."""
    status = _word(content, 0x06)
    if status is None or status == 0xFFFF or not status & 1 << 4 or len(content) < 0x40:
        return None
    at, seen = content[0x34] & 0xFC, set[int]()
    while 0x40 <= at < min(len(content) - 1, 0x100) and at not in seen:
        seen.add(at)
        if content[at] == _EXPRESS_CAPABILITY:
            return _word(content, at + 8)
        at = content[at + 1] & 0xFC
    return None


def _extended_capability(content: bytes, wanted: int) -> int | None:
    """Offset of an extended capability: linked headers from 0x100 on, 16 bits id and the next one's offset."""
    at, seen = 0x100, set[int]()
    while 0x100 <= at <= len(content) - 4 and at not in seen:
        seen.add(at)
        header = int.from_bytes(content[at : at + 4], "little")
        if header in (0, 0xFFFFFFFF):
            return None
        if header & 0xFFFF == wanted:
            return at
        at = header >> 20 & 0xFFC
    return None


def parse_resource(text: str) -> dict[str, Scalar]:
    """Sizes in bytes of the memory BARs in a device's `resource` file: lines of start, end and flags."""
    sizes: dict[str, Scalar] = {}
    for number, line in enumerate(text.splitlines()[:6]):
        try:
            start, end, flags = (int(field, 16) for field in line.split())
        except ValueError:
            continue
        if flags & 0x200 and 0 <= start < end < 1 << 64:
            sizes[f"bar{number}-bytes"] = min(end - start + 1, (1 << 63) - 1)
    return sizes


def parse_resizable(text: str) -> int | None:
    """The largest size in bytes that a resizable BAR may take: bit n of the hexadecimal mask is 2^n MiB."""
    try:
        mask = int(text, 16)
    except ValueError:
        return None
    return 1 << (mask.bit_length() - 1 + 20) if 0 < mask < 1 << 40 else None


def category_of(device_class: int, vendor: int) -> str | None:
    """The group a device is listed in, by its 24-bit class; None for what is not listed (host bridges, USB...)."""
    code, base = device_class >> 8, device_class >> 16
    if base == 0x06:  # of bridges only NVIDIA's own, which are NVSwitches
        return "bridge" if code == 0x0680 and vendor == _NVIDIA else None
    if code == 0x0B40:
        return "accelerator"
    return _CATEGORIES.get(base)


class PciCollector:
    """Reads every listed PCI device; virtual functions count with their physical one."""

    name = "pci"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            addresses = ctx.host.listdir(_DEVICES)
        except OSError as error:
            return Collected.of({"pci": outcome_of(error, _DEVICES)})
        if not addresses:
            return Collected.of({"pci": Absent("there are no PCI devices")})
        sysfs = Sysfs(ctx.host)
        devices: list[tuple[str, dict[str, Scalar]]] = []
        bridges: list[str] = []
        for address in addresses:
            directory = f"{_DEVICES}/{address}"
            device_class, vendor = sysfs.integer(f"{directory}/class"), sysfs.integer(f"{directory}/vendor")
            if device_class is None or vendor is None:
                continue
            category = category_of(device_class, vendor)
            if category and not sysfs.exists(f"{directory}/physfn"):
                device = sysfs.integer(f"{directory}/device") or 0
                group = f"{category}.{vendor:04x}:{device:04x}"
                devices.append((group, _attributes(sysfs, address, category, device_class)))
            elif device_class >> 8 == _BRIDGE:
                bridges.append(directory)
        facts = fold_devices(devices)
        facts.update(_isolation(sysfs, bridges))
        return Collected.of({"pci": Ok(facts, sysfs.context())})


def _attributes(sysfs: Sysfs, address: str, category: str, device_class: int) -> dict[str, Scalar]:
    directory = f"{_DEVICES}/{address}"
    vendor, device = (sysfs.integer(f"{directory}/subsystem_{part}") for part in ("vendor", "device"))
    attributes = present(
        {
            "address": address,
            "class": _CLASSES.get(device_class >> 8, f"class {device_class >> 8:04x}"),
            "driver": sysfs.link(f"{directory}/driver") or "none",
            "iommu-domain": sysfs.text(f"{directory}/iommu_group/type"),
            "iommu-group": sysfs.link(f"{directory}/iommu_group"),
            "numa-node": sysfs.integer(f"{directory}/numa_node"),
            "revision": sysfs.text(f"{directory}/revision"),
            "sriov-numvfs": sysfs.integer(f"{directory}/sriov_numvfs"),
            "sriov-totalvfs": sysfs.integer(f"{directory}/sriov_totalvfs"),
            "subsystem": f"{vendor:04x}:{device:04x}" if vendor is not None and device is not None else None,
        }
    )
    attributes.update(_link(sysfs, directory))
    if category in ("display", "accelerator"):
        attributes.update(_memory(sysfs, directory))
    else:
        # Not of GPUs: reading configuration space wakes a GPU that sleeps.
        config = _config(sysfs, directory)
        attributes.update(
            present(
                {
                    "max-payload": config.max_payload,
                    "max-read-request": config.max_read_request,
                    "relaxed-ordering": config.relaxed_ordering,
                }
            )
        )
    return attributes


def _link(sysfs: Sysfs, directory: str) -> dict[str, Scalar]:
    """Link speed as the kernel words it and width in lanes, now and at most; nothing on a virtual device."""
    link: dict[str, Scalar] = {}
    for ours, theirs in (("link", "current_link"), ("max-link", "max_link")):
        speed, width = sysfs.text(f"{directory}/{theirs}_speed"), sysfs.integer(f"{directory}/{theirs}_width")
        if speed and speed != "Unknown":
            link[f"{ours}-speed"] = speed
        if width:
            link[f"{ours}-width"] = width
    return link


def _config(sysfs: Sysfs, directory: str) -> PciConfig:
    """Configuration space of a device with a PCIe link. Others have nothing we want there, and in a virtual machine
    the hypervisor answers for every four bytes."""
    if not sysfs.integer(f"{directory}/max_link_width"):
        return PciConfig()
    return parse_config(sysfs.content(f"{directory}/config", _CONFIG_SIZE))


def _memory(sysfs: Sysfs, directory: str) -> dict[str, Scalar]:
    memory = parse_resource(sysfs.text(f"{directory}/resource") or "")
    for number in range(6):
        supported = sysfs.text(f"{directory}/resource{number}_resize")
        if supported and (largest := parse_resizable(supported)):
            memory[f"bar{number}-largest-bytes"] = largest
    return memory


def _isolation(sysfs: Sysfs, bridges: list[str]) -> dict[str, Scalar]:
    """How many bridges have ACS, and on how many each control is set that sends peer traffic through the root.

    Redirection makes GPUDirect between devices below one switch slow, and its absence makes groups unsafe to pass
    to a virtual machine. Nothing when configuration space cannot be read whole, which takes root.
    """
    controls = [control for bridge in bridges if (control := _config(sysfs, bridge).acs_control) is not None]
    if not controls:
        return {}
    return {
        "acs.bridges": len(controls),
        **{f"acs.{name}": sum(1 for control in controls if control & bit) for name, bit in _ACS_CONTROLS.items()},
    }
