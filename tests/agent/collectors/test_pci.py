"""OS.pci."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.pci import PciCollector, PciConfig, category_of, parse_config, parse_resizable, parse_resource
from common.stability import Stability, default_rules
from tests.agent.collectors.device_tree import DeviceTree


def pci_config(device_control: int | None = None, acs_control: int | None = None) -> bytes:
    """Configuration space with a power management, a PCI Express and, from 0x100 on, an AER and an ACS capability."""
    space = bytearray(0x200)
    space[0x06] = 0x10
    space[0x34], space[0x40], space[0x41] = 0x40, 0x01, 0x60
    if device_control is not None:
        space[0x60] = 0x10
        space[0x68:0x6A] = device_control.to_bytes(2, "little")
    if acs_control is not None:
        space[0x100:0x104] = (0x0001 | 2 << 16 | 0x140 << 20).to_bytes(4, "little")
        space[0x140:0x144] = (0x000D | 1 << 16).to_bytes(4, "little")
        space[0x146:0x148] = acs_control.to_bytes(2, "little")
    return bytes(space)


@pytest.mark.parametrize(
    ("content", "config"),
    [
        (b"", PciConfig()),
        (pci_config(), PciConfig()),
        (pci_config(0x2810 | 1 << 5), PciConfig(256, 512, True)),
        (pci_config(0x5820), PciConfig(256, 4096, False)),
        (pci_config(0x2810)[:64], PciConfig()),
        (pci_config(0x2000, acs_control=0x1D), PciConfig(128, 512, False, 0x1D)),
        (pci_config(0x2000, acs_control=0)[:256], PciConfig(128, 512, False)),
        (b"\xff" * 4096, PciConfig()),
    ],
)
def test_parse_config(content: bytes, config: PciConfig) -> None:
    assert parse_config(content) == config


def test_capabilities_that_point_in_a_circle_end() -> None:
    space = bytearray(pci_config())
    space[0x41] = 0x40
    space[0x100:0x104] = (0x0001 | 0x100 << 20).to_bytes(4, "little")
    assert parse_config(bytes(space)) == PciConfig()


@given(st.binary(max_size=600), st.integers(0, 600))
def test_parse_config_takes_anything(noise: bytes, at: int) -> None:
    space = bytearray(pci_config(0x2810, 0x1D))
    space[at : at + len(noise)] = noise
    parse_config(bytes(space))
    parse_config(noise)


GPU_BARS = """\
0x0000000092000000 0x0000000092ffffff 0x0000000000040200
0x0000044000000000 0x0000045fffffffff 0x000000000014220c
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000046000000000 0x0000046001ffffff 0x000000000014220c
0x0000000000000000 0x0000000000000000 0x0000000000000000
0x0000000000003000 0x000000000000307f 0x0000000000040101
0x0000000092080000 0x00000000920fffff 0x0000000000046200
"""


def test_parse_resource_gives_memory_bars_only() -> None:
    assert parse_resource(GPU_BARS) == {"bar0-bytes": 16 << 20, "bar1-bytes": 128 << 30, "bar3-bytes": 32 << 20}


@given(st.text() | st.from_regex(r"(0x[0-9a-f]{1,40} ?){3}", fullmatch=True))
def test_parse_resource_takes_anything(text: str) -> None:
    assert all(isinstance(size, int) and 0 < size < 1 << 63 for size in parse_resource(text).values())


@pytest.mark.parametrize(
    ("text", "largest"), [("000000000003ffc0", 128 << 30), ("1", 1 << 20), ("0", None), ("", None), ("f" * 40, None)]
)
def test_parse_resizable(text: str, largest: int | None) -> None:
    assert parse_resizable(text) == largest


@given(st.text())
def test_parse_resizable_takes_anything(text: str) -> None:
    parse_resizable(text)


@pytest.mark.parametrize(
    ("device_class", "vendor", "category"),
    [
        (0x030200, 0x10DE, "display"),
        (0x068000, 0x10DE, "bridge"),
        (0x068000, 0x8086, None),
        (0x060400, 0x10DE, None),
        (0x060000, 0x8086, None),
        (0x020700, 0x15B3, "network"),
        (0x010802, 0x144D, "storage"),
        (0x120000, 0x1DA3, "accelerator"),
        (0x0B4000, 0x8086, "accelerator"),
        (0x0C0330, 0x8086, None),
    ],
)
def test_only_devices_that_matter_are_listed(device_class: int, vendor: int, category: str | None) -> None:
    assert category_of(device_class, vendor) == category


GPU: dict[str, str | int | bytes] = {
    "class": "0x030200",
    "vendor": "0x10de",
    "device": "0x2330",
    "subsystem_vendor": "0x10de",
    "subsystem_device": "0x16c1",
    "revision": "0xa1",
    "current_link_speed": "2.5 GT/s PCIe",
    "max_link_speed": "32.0 GT/s PCIe",
    "current_link_width": 16,
    "max_link_width": 16,
    "numa_node": 0,
    "sriov_numvfs": 0,
    "sriov_totalvfs": 32,
    "resource": GPU_BARS,
    "resource1_resize": "000000000003ffc0",
}


def server(root: Path, gpus: int = 8) -> DeviceTree:
    tree = DeviceTree(root)
    for number in range(gpus):
        directory = tree.pci(f"0000:{0x18 + number:02x}:00.0", "nvidia", GPU | {"numa_node": number // 4})
        tree.attributes(f"/sys/kernel/iommu_groups/{number + 10}", {"type": "identity"})
        tree.link(f"{directory}/iommu_group", f"/sys/kernel/iommu_groups/{number + 10}")
    return tree


def test_equal_gpus_fold(tmp_path: Path) -> None:
    facts = server(tmp_path).facts(PciCollector())
    assert {key: value for key, value in facts.items() if "address" not in key and "iommu-group" not in key} == {
        "display.10de:2330.count": 8,
        "display.10de:2330.class": "3D controller",
        "display.10de:2330.driver": "nvidia",
        "display.10de:2330.iommu-domain": "identity",
        "display.10de:2330.link-speed": "2.5 GT/s PCIe",
        "display.10de:2330.link-width": 16,
        "display.10de:2330.max-link-speed": "32.0 GT/s PCIe",
        "display.10de:2330.max-link-width": 16,
        "display.10de:2330.numa-node[0-3]": 0,
        "display.10de:2330.numa-node[4-7]": 1,
        "display.10de:2330.revision": "0xa1",
        "display.10de:2330.sriov-numvfs": 0,
        "display.10de:2330.sriov-totalvfs": 32,
        "display.10de:2330.subsystem": "10de:16c1",
        "display.10de:2330.bar0-bytes": 16 << 20,
        "display.10de:2330.bar1-bytes": 128 << 30,
        "display.10de:2330.bar1-largest-bytes": 128 << 30,
        "display.10de:2330.bar3-bytes": 32 << 20,
    }
    assert facts["display.10de:2330.address[3]"] == "0000:1b:00.0"


def test_a_gpu_on_fewer_lanes_stands_out(tmp_path: Path) -> None:
    tree = server(tmp_path)
    tree.write("/sys/devices/pci0000:00/0000:1d:00.0/current_link_width", 8)
    facts = tree.facts(PciCollector())
    assert facts["display.10de:2330.link-width[5]"] == 8
    assert facts["display.10de:2330.link-width[0-4,6-7]"] == 16


def test_a_device_without_a_driver_says_so(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.pci("0000:18:00.0", attributes=GPU)
    assert tree.facts(PciCollector())["display.10de:2330.driver"] == "none"


def test_virtual_functions_are_not_listed(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    adapter: dict[str, str | int | bytes] = {"class": "0x020000", "vendor": "0x15b3", "sriov_numvfs": 1}
    physical = tree.pci("0000:18:00.0", "mlx5_core", adapter, device="0x1021")
    virtual = tree.pci("0000:18:00.2", "vfio-pci", adapter, device="0x101e")
    tree.link(f"{virtual}/physfn", physical)
    facts = tree.facts(PciCollector())
    assert facts["network.15b3:1021.sriov-numvfs"] == 1
    assert not [key for key in facts if "101e" in key]


def test_settings_from_configuration_space(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.pci(
        "0000:18:00.0",
        attributes={"class": "0x020700"},
        vendor="0x15b3",
        device="0x1021",
        max_link_width=16,
        config=pci_config(0x5820),
    )
    facts = tree.facts(PciCollector())
    assert facts["network.15b3:1021.max-payload"] == 256
    assert facts["network.15b3:1021.max-read-request"] == 4096
    assert facts["network.15b3:1021.relaxed-ordering"] is False


def test_access_control_is_counted_over_bridges(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    for number, control in enumerate((0x1D, 0x1D, 0x00, None)):
        tree.pci(
            f"0000:{number:02x}:00.0",
            attributes={"class": "0x060400"},
            vendor="0x1000",
            max_link_width=16,
            config=pci_config(acs_control=control),
        )
    assert tree.facts(PciCollector()) == {
        "acs.bridges": 3,
        "acs.source-validation": 2,
        "acs.request-redirect": 2,
        "acs.completion-redirect": 2,
        "acs.upstream-forwarding": 2,
    }


def test_configuration_space_without_a_link_is_left_alone(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.pci(
        "0000:00:03.0", attributes={"class": "0x020000"}, vendor="0x1af4", device="0x1041", config=pci_config(0x5820)
    )
    assert "network.1af4:1041.max-payload" not in tree.facts(PciCollector())


def test_configuration_space_of_gpus_is_left_alone(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.pci("0000:18:00.0", attributes=GPU | {"config": pci_config(0x5820)})
    assert "display.10de:2330.max-payload" not in tree.facts(PciCollector())


@pytest.mark.parametrize("make", [False, True])
def test_no_pci_is_absent(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    assert DeviceTree(tmp_path).reason(PciCollector()) == (
        "there are no PCI devices" if make else "/sys/bus/pci/devices is not there"
    )


@pytest.mark.parametrize(
    ("key", "stability"),
    [
        ("display.10de:2330.link-speed", Stability.VOLATILE),
        ("display.10de:2330.link-speed[0-3]", Stability.VOLATILE),
        ("display.10de:2330.max-link-speed", Stability.STABLE),
        ("display.10de:2330.link-width[3]", Stability.STABLE),
        ("network.15b3:1021.link-speed", Stability.STABLE),
        ("display.10de:2330.address[7]", Stability.IDENTITY),
        ("display.10de:2330.iommu-group", Stability.IDENTITY),
        ("display.10de:2330.iommu-domain", Stability.STABLE),
    ],
)
def test_stability(key: str, stability: Stability) -> None:
    assert default_rules().classify("OS", "pci", key) is stability
