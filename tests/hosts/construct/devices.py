"""Devices of a constructed host, laid out as the kernel does: a tree of PCI bridges, links by class and driver."""

from dataclasses import dataclass, field
from typing import Final

from tests.hosts.tree import Content, Tree

_GIB: Final = 1 << 30
_MIB: Final = 1 << 20


def config_space(device_control: int | None = None, acs_control: int | None = None, express: bool = True) -> bytes:
    """Configuration space with a PCI Express capability and, when given, Access Control Services."""
    space = bytearray(4096 if express else 256)
    space[0x06] = 0x10
    space[0x34], space[0x40], space[0x41] = 0x40, 0x01, 0x70
    if device_control is not None:
        space[0x70] = 0x10
        space[0x78:0x7A] = device_control.to_bytes(2, "little")
    else:
        space[0x41] = 0
    if express:
        space[0x100:0x104] = (0x0001 | 2 << 16 | (0x150 if acs_control is not None else 0) << 20).to_bytes(
            4, "little"
        )
    if acs_control is not None:
        space[0x150:0x154] = (0x000D | 1 << 16).to_bytes(4, "little")
        space[0x156:0x158] = acs_control.to_bytes(2, "little")
    return bytes(space)


def device_control(payload: int, read_request: int, relaxed: bool = True) -> int:
    """The Device Control register for sizes in bytes."""
    return (payload // 128).bit_length() - 1 << 5 | (read_request // 128).bit_length() - 1 << 12 | relaxed << 4


@dataclass(frozen=True)
class Model:
    """What a PCI device is."""

    device_class: str
    vendor: str
    device: str
    subsystem: tuple[str, str]
    driver: str = ""
    revision: str = "0x00"
    speed: str = ""
    """Now and at most; a GPU's is given apart."""
    width: int = 0
    idle_speed: str = ""
    more: dict[str, Content] = field(default_factory=dict)
    config: bytes = b""

    def attributes(self, numa: int) -> dict[str, Content]:
        values: dict[str, Content] = {
            "class": self.device_class,
            "vendor": self.vendor,
            "device": self.device,
            "subsystem_vendor": self.subsystem[0],
            "subsystem_device": self.subsystem[1],
            "revision": self.revision,
            "numa_node": numa,
        }
        if self.speed:
            values |= {"current_link_speed": self.idle_speed or self.speed, "max_link_speed": self.speed}
            values |= {"current_link_width": self.width, "max_link_width": self.width}
        return values | self.more | ({"config": self.config} if self.config else {})


def bars(*sizes: int) -> str:
    """A `resource` file: BARs of these sizes (0 for none), the expansion ROM and nothing after."""
    lines, at = [], 0x20000000000
    for size in [*sizes, *[0] * (6 - len(sizes)), 0]:
        at += -at % size if size else 0
        end, flags = (at + size - 1, 0x14220C if size > _GIB else 0x40200) if size else (0, 0)
        lines.append(f"0x{at if size else 0:016x} 0x{end:016x} 0x{flags:016x}")
        at += size
    return "\n".join(lines)


class Machine:
    """Puts devices into a tree and keeps count of IOMMU groups."""

    def __init__(self, tree: Tree, iommu: str = "") -> None:
        self.tree = tree
        self._iommu = iommu  # type of every group; no IOMMU when empty
        self._groups = 0
        if iommu:
            self.tree.directories.update(f"/sys/class/iommu/dmar{number}" for number in range(8))

    def pci(self, path: str, model: Model, numa: int = -1) -> str:
        """A device at `path` below /sys/devices, such as pci0000:00/0000:00:01.0; gives its directory."""
        directory, address = f"/sys/devices/{path}", path.rpartition("/")[2]
        self.tree.write_all(directory, model.attributes(numa))
        self.tree.link(f"/sys/bus/pci/devices/{address}", directory)
        if model.driver:
            self.tree.link(f"{directory}/driver", f"/sys/bus/pci/drivers/{model.driver}")
        if self._iommu:
            group = f"/sys/kernel/iommu_groups/{self._groups}"
            self._groups += 1
            self.tree.write(f"{group}/type", self._iommu)
            self.tree.link(f"{directory}/iommu_group", group)
        return directory

    def bridge(self, path: str, acs: int | None, vendor: str = "0x8086", device: str = "0x352a") -> None:
        """A root port or a port of a switch, with its ACS control."""
        config = config_space(device_control(256, 128), acs)
        self.pci(
            path,
            Model(
                "0x060400",
                vendor,
                device,
                (vendor, "0x0000"),
                "pcieport",
                speed="32.0 GT/s PCIe",
                width=16,
                config=config,
            ),
        )

    def interface(self, device: str, name: str, mac: str, **attributes: Content) -> str:
        """A network interface of a device."""
        directory = f"{device}/net/{name}"
        standard: dict[str, Content] = {
            "type": 1,
            "address": mac,
            "flags": "0x1003",
            "mtu": 1500,
            "operstate": "up",
            "duplex": "full",
            "tx_queue_len": 1000,
        }
        self.tree.write_all(directory, {**standard, **attributes})
        self.tree.link(f"{directory}/device", device)
        self.tree.link(f"/sys/class/net/{name}", directory)
        return directory

    def queues(self, interface: str, rx: int, tx: int) -> None:
        for kind, count in (("rx", rx), ("tx", tx)):
            self.tree.directories.update(f"{interface}/queues/{kind}-{number}" for number in range(count))

    def virtual(self, name: str, **attributes: Content) -> str:
        """An interface without hardware."""
        directory = f"/sys/devices/virtual/net/{name}"
        self.tree.write_all(directory, {"type": 1, "mtu": 1500, "operstate": "up", "flags": "0x1003", **attributes})
        self.tree.link(f"/sys/class/net/{name}", directory)
        return directory

    def bond(self, name: str, mtu: int, **settings: Content) -> None:
        self.tree.write_all(f"{self.virtual(name, mtu=mtu)}/bonding", settings)

    def vlan(self, name: str, number: int, parent: str, mtu: int) -> None:
        """A VLAN; the only one, as /proc/net/vlan/config is written with it."""
        self.virtual(name, mtu=mtu)
        heading = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD"
        self.tree.write("/proc/1/net/vlan/config", f"{heading}\n{name:<15}| {number}  | {parent}")

    def bridge_of(self, name: str, ports: tuple[str, ...], **settings: Content) -> None:
        """A bridge of interfaces."""
        directory = self.virtual(name)
        self.tree.write_all(f"{directory}/bridge", settings)
        self.tree.directories.update(f"{directory}/brif/{port}" for port in ports)

    def rdma(self, device: str, name: str, guid: str, port: dict[str, Content], **attributes: Content) -> None:
        """An RDMA device with one port."""
        directory = f"{device}/infiniband/{name}"
        self.tree.write_all(directory, {"node_guid": guid, "sys_image_guid": guid, **attributes})
        self.tree.write_all(f"{directory}/ports/1", port)
        self.tree.link(f"{directory}/device", device)
        self.tree.link(f"/sys/class/infiniband/{name}", directory)

    def nvme(self, device: str, number: int, gib: int, **attributes: Content) -> None:
        """An NVMe controller with one namespace."""
        directory = f"{device}/nvme/nvme{number}"
        standard: dict[str, Content] = {
            "state": "live",
            "transport": "pcie",
            "address": device.rpartition("/")[2],
            "sqsize": 1023,
        }
        self.tree.write_all(directory, {**standard, **attributes})
        block = f"{directory}/nvme{number}n1"
        self.tree.write_all(block, {"size": gib * _GIB // 512, "wwid": f"eui.0000000000000001{number:016x}"})
        self.tree.write_all(
            f"{block}/queue",
            {
                "scheduler": "[none] mq-deadline",
                "nr_requests": 1023,
                "read_ahead_kb": 128,
                "rq_affinity": 1,
                "nomerges": 0,
                "io_timeout": 30000,
                "max_sectors_kb": 128,
                "logical_block_size": 512,
                "physical_block_size": 4096,
                "write_cache": "write through",
                "wbt_lat_usec": 0,
            },
        )
        self.tree.link(f"/sys/class/nvme/nvme{number}", directory)

    def dmi(self, **values: Content) -> None:
        self.tree.write_all("/sys/devices/virtual/dmi/id", values)
        self.tree.link("/sys/class/dmi/id", "/sys/devices/virtual/dmi/id")

    def efi(self, secure_boot: bool) -> None:
        """UEFI with the variables of the global namespace that say whether it checks signatures."""
        self.tree.write("/sys/firmware/efi/fw_platform_size", 64)
        for variable, on in (("SecureBoot", secure_boot), ("SetupMode", False)):
            path = f"/sys/firmware/efi/efivars/{variable}-8be4df61-93ca-11d2-aa0d-00e098032b8c"
            self.tree.write(path, bytes([6, 0, 0, 0, on]))


def gpu(device: str, subsystem: str, bar1_gib: int, speed: str = "32.0 GT/s PCIe", **more: Content) -> Model:
    """An NVIDIA GPU that idles, so its link is slow now."""
    return Model(
        "0x030200",
        "0x10de",
        device,
        ("0x10de", subsystem),
        "nvidia",
        "0xa1",
        speed,
        16,
        "2.5 GT/s PCIe",
        {"resource": bars(16 * _MIB, bar1_gib * _GIB, 0, 32 * _MIB), **more},
    )
