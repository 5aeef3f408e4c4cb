"""OS.firmware."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context
from agent.collectors.firmware import FirmwareCollector, boot_mode, parse_device_tree_strings, parse_efi_switch
from common.model import Absent, Ok
from common.stability import Stability, default_rules
from tests.agent.collectors.closed import ClosedHost
from tests.agent.collectors.device_tree import DeviceTree

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"\x06\0\0\0\x01", True),
        (b"\x16\0\0\0\x00", False),
        (b"\x06\0\0\0\x07", None),
        (b"\x06\0\0\0", None),
        (b"", None),
        (b"\x06\0\0\0\x01\x01", None),
    ],
)
def test_parse_efi_switch(content: bytes, value: bool | None) -> None:
    assert parse_efi_switch(content) is value


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"nvidia,p3971\0nvidia,th500\0", "nvidia,p3971,nvidia,th500"), (b"Model\0", "Model"), (b"", ""), (b"\0\0", "")],
)
def test_parse_device_tree_strings(content: bytes, text: str) -> None:
    assert parse_device_tree_strings(content) == text


@given(st.binary(max_size=16))
def test_parsers_take_anything(content: bytes) -> None:
    parse_efi_switch(content)
    assert "\0" not in parse_device_tree_strings(content)


@pytest.mark.parametrize(
    ("efi", "dmi", "tree", "mode"),
    [
        (True, True, False, "uefi"),
        (True, True, True, "uefi"),
        (False, True, False, "bios"),
        (False, False, True, "devicetree"),
        (False, False, False, "direct"),
    ],
)
def test_boot_mode(efi: bool, dmi: bool, tree: bool, mode: str) -> None:
    assert boot_mode(efi, dmi, tree) == mode


def server(root: Path) -> DeviceTree:
    tree = DeviceTree(root)
    dmi = "/sys/devices/virtual/dmi/id"
    tree.attributes(
        dmi,
        {"sys_vendor": "Supermicro", "product_name": "SYS-821GE", "bios_version": "2.1a", "product_serial": "S1",
         "product_uuid": "u-1", "board_asset_tag": "i-0abc", "product_family": "", "modalias": "dmi:x"},
    )  # fmt: skip
    tree.link("/sys/class/dmi/id", dmi)
    tree.write("/sys/firmware/efi/fw_platform_size", 64)
    tree.write(f"/sys/firmware/efi/efivars/SecureBoot-{GLOBAL}", b"\x06\0\0\0\x01")
    tree.write(f"/sys/firmware/efi/efivars/SetupMode-{GLOBAL}", b"\x06\0\0\0\0")
    tree.write("/sys/class/tpm/tpm0/tpm_version_major", 2)
    tree.attributes("/sys/kernel/security", {"lockdown": "none [integrity] confidentiality", "lsm": "lockdown,yama"})
    tree.write("/sys/fs/selinux/enforce", b"1")
    for group, kind in enumerate(("DMA-FQ", "identity", "DMA-FQ")):
        tree.write(f"/sys/kernel/iommu_groups/{group}/type", kind)
    tree.attributes("/sys/class/iommu/dmar0", {})
    return tree


def test_a_server(tmp_path: Path) -> None:
    facts = server(tmp_path).facts(FirmwareCollector())
    assert facts == {
        "dmi.sys_vendor": "Supermicro",
        "dmi.product_name": "SYS-821GE",
        "dmi.bios_version": "2.1a",
        "dmi.product_serial": "S1",
        "dmi.product_uuid": "u-1",
        "dmi.board_asset_tag": "i-0abc",
        "boot-mode": "uefi",
        "efi.platform-bits": 64,
        "secure-boot": True,
        "secure-boot.setup-mode": False,
        "tpm.count": 1,
        "tpm.0.version": 2,
        "lockdown": "integrity",
        "lsm": "lockdown,yama",
        "selinux.enforcing": True,
        "iommu.units": 1,
        "iommu.groups": 3,
        "iommu.domain-types": "DMA-FQ,identity",
    }
    rules = default_rules()
    assert set(rules.select("OS", "firmware", facts, [Stability.IDENTITY])) == {
        "dmi.product_serial",
        "dmi.product_uuid",
        "dmi.board_asset_tag",
    }
    assert set(rules.select("OS", "firmware", facts, [Stability.VOLATILE])) == {"iommu.groups"}


def test_a_board_with_a_device_tree(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/sys/firmware/devicetree/base/model", b"NVIDIA Jetson AGX Orin\0")
    tree.write("/sys/firmware/devicetree/base/compatible", b"nvidia,p3737\0nvidia,tegra234\0")
    tree.write("/sys/firmware/devicetree/base/serial-number", b"142\0")
    assert tree.facts(FirmwareCollector()) == {
        "boot-mode": "devicetree",
        "device-tree.model": "NVIDIA Jetson AGX Orin",
        "device-tree.compatible": "nvidia,p3737,nvidia,tegra234",
        "device-tree.serial-number": "142",
        "tpm.count": 0,
        "iommu.units": 0,
        "iommu.groups": 0,
    }


def test_serials_closed_to_us_are_named(tmp_path: Path) -> None:
    server(tmp_path)
    closed = [f"/sys/class/dmi/id/{name}" for name in ("product_serial", "product_uuid")]
    [outcome] = FirmwareCollector().collect(Context(ClosedHost(str(tmp_path), *closed), "n", 0)).subtypes.values()
    assert isinstance(outcome, Ok)
    assert outcome.context == {"unreadable": ", ".join(closed)}
    assert "dmi.product_uuid" not in outcome.data
    assert outcome.data["dmi.bios_version"] == "2.1a"


def test_variables_and_strings_without_end(tmp_path: Path) -> None:
    tree = server(tmp_path)
    variable = f"/sys/firmware/efi/efivars/SecureBoot-{GLOBAL}"
    tree.write(variable, b"\x01" * 4096)
    tree.write("/sys/devices/virtual/dmi/id/bios_version", b"x" * (1 << 20))
    outcome = tree.collect(FirmwareCollector())
    assert isinstance(outcome, Ok)
    assert "secure-boot" not in outcome.data
    assert outcome.context == {"unreadable": f"/sys/class/dmi/id/bios_version, {variable}"}


def test_absent(tmp_path: Path) -> None:
    assert DeviceTree(tmp_path).collect(FirmwareCollector()) == Absent("/sys is not there")
