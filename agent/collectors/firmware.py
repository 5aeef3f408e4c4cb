"""OS.firmware: what the machine is, what it was started by, and how far it is locked down.

Sources: /sys/class/dmi/id (SMBIOS), /sys/firmware/efi and its variables (UEFI specification, global variables),
/sys/class/tpm, the device tree, /sys/kernel/security (securityfs), /sys/kernel/iommu_groups and /sys/class/iommu.
"""

from typing import Final

from agent.collectors.base import Context
from agent.collectors.memory import parse_choice
from agent.collectors.sysfs import Sysfs
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_DMI: Final = "/sys/class/dmi/id"
_EFI: Final = "/sys/firmware/efi"
_EFIVARS: Final = f"{_EFI}/efivars"
_TREES: Final = ("/sys/firmware/devicetree/base", "/proc/device-tree")
_TPM: Final = "/sys/class/tpm"
_SECURITY: Final = "/sys/kernel/security"
_GROUPS: Final = "/sys/kernel/iommu_groups"

_DMI_ATTRIBUTES: Final = (
    "bios_date",
    "bios_release",
    "bios_vendor",
    "bios_version",
    "board_asset_tag",
    "board_name",
    "board_serial",
    "board_vendor",
    "board_version",
    "chassis_asset_tag",
    "chassis_serial",
    "chassis_type",
    "chassis_vendor",
    "chassis_version",
    "ec_firmware_release",
    "product_family",
    "product_name",
    "product_serial",
    "product_sku",
    "product_uuid",
    "product_version",
    "sys_vendor",
)

# Variables of the UEFI specification's global namespace, one byte each.
_GLOBAL: Final = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_EFI_SWITCHES: Final = {"SecureBoot": "secure-boot", "SetupMode": "secure-boot.setup-mode"}


def parse_efi_switch(content: bytes) -> bool | None:
    """A boolean EFI variable as efivarfs shows it: four bytes of attributes, then one byte; None for another form."""
    return content[4] == 1 if len(content) == 5 and content[4] in (0, 1) else None


def parse_device_tree_strings(content: bytes) -> str:
    """A string list of the device tree: each ends in a zero byte. Joined by `,` in their order."""
    return ",".join(part.decode("utf-8", "replace") for part in content.split(b"\0") if part)


def boot_mode(has_efi: bool, has_dmi: bool, has_tree: bool) -> str:
    """Who started the kernel: `uefi`, `bios`, `devicetree`, or `direct` when it shows neither (a small VM)."""
    if has_efi:
        return "uefi"
    if has_tree:
        return "devicetree"
    return "bios" if has_dmi else "direct"


class FirmwareCollector:
    """Reads DMI, EFI, TPM, device tree, lockdown and IOMMU."""

    name = "firmware"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        if not ctx.host.is_dir("/sys"):
            return Collected.of({"firmware": Absent("/sys is not there")})
        sysfs = Sysfs(ctx.host)
        data: dict[str, Scalar] = {}
        for name in _DMI_ATTRIBUTES:
            if value := sysfs.text(f"{_DMI}/{name}"):
                data[f"dmi.{name}"] = value
        tree = _device_tree(sysfs)
        if not ctx.host.hidden(_EFI):
            has_dmi = any(key.startswith("dmi.") for key in data)
            data["boot-mode"] = boot_mode(ctx.host.is_dir(_EFI), has_dmi, bool(tree))
        data |= tree | _efi(sysfs) | _tpm(sysfs) | _security(sysfs) | _iommu(sysfs)
        return Collected.of({"firmware": Ok(data, sysfs.context())})


def _device_tree(sysfs: Sysfs) -> dict[str, Scalar]:
    for tree in _TREES:
        if sysfs.exists(tree):
            values = {
                name: parse_device_tree_strings(sysfs.content(f"{tree}/{name}", 4096))
                for name in ("compatible", "model", "serial-number")
            }
            return {f"device-tree.{name}": value for name, value in values.items() if value}
    return {}


def _efi(sysfs: Sysfs) -> dict[str, Scalar]:
    data: dict[str, Scalar] = {}
    if size := sysfs.integer(f"{_EFI}/fw_platform_size"):
        data["efi.platform-bits"] = size
    for variable, key in _EFI_SWITCHES.items():
        value = parse_efi_switch(sysfs.content(f"{_EFIVARS}/{variable}-{_GLOBAL}", 64))
        if value is not None:
            data[key] = value
    return data


def _tpm(sysfs: Sysfs) -> dict[str, Scalar]:
    devices = [name for name in sysfs.names(_TPM) if name.startswith("tpm") and name[3:].isdigit()]
    data: dict[str, Scalar] = {"tpm.count": len(devices)}
    for device in devices:
        if version := sysfs.integer(f"{_TPM}/{device}/tpm_version_major"):
            data[f"tpm.{device[3:]}.version"] = version
    return data


def _security(sysfs: Sysfs) -> dict[str, Scalar]:
    data: dict[str, Scalar] = {}
    if lockdown := sysfs.text(f"{_SECURITY}/lockdown"):
        data["lockdown"] = parse_choice(lockdown)
    if modules := sysfs.text(f"{_SECURITY}/lsm"):
        data["lsm"] = modules
    enforcing = sysfs.integer("/sys/fs/selinux/enforce")
    if enforcing is not None:
        data["selinux.enforcing"] = enforcing == 1
    return data


def _iommu(sysfs: Sysfs) -> dict[str, Scalar]:
    """IOMMUs, groups, and which types of domain these have: `DMA` and `DMA-FQ` translate, `identity` does not."""
    groups = sysfs.names(_GROUPS)
    data: dict[str, Scalar] = {"iommu.units": len(sysfs.names("/sys/class/iommu")), "iommu.groups": len(groups)}
    if types := {kind for group in groups if (kind := sysfs.text(f"{_GROUPS}/{group}/type"))}:
        data["iommu.domain-types"] = ",".join(sorted(types))
    return data
