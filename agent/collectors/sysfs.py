"""What the device collectors share: reading attributes of /sys, and folding of equal devices.

Source: the kernel's Documentation/ABI/testing/sysfs-*; an attribute is a file with one value.
"""

import errno
import re
from collections.abc import Iterable, Mapping
from typing import Final

from agent.host import Host
from common.model import Scalar
from common.nodeset import fold_indexes

_PCI_ADDRESS: Final = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]")

# The kernel says in these ways that a device has no such value now: a link that is down has no speed.
_NO_VALUE: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EINVAL,
        errno.EOPNOTSUPP,
        errno.ENODATA,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENETDOWN,
    }
)
_MOST_NAMED: Final = 8


class Sysfs:
    """Reads attributes; one that is there but cannot be read is remembered instead of raised."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._unreadable: set[str] = set()

    def text(self, path: str) -> str | None:
        """The value without surrounding space; None when there is none."""
        try:
            return self._host.read_text(path, limit=1 << 16).strip()
        except OSError as error:
            self._remember(error, path)
            return None

    def content(self, path: str, limit: int) -> bytes:
        """A binary attribute; b"" when there is none."""
        try:
            return self._host.read_bytes(path, limit)
        except OSError as error:
            self._remember(error, path)
            return b""

    def integer(self, path: str) -> int | None:
        """A decimal value, or a hexadecimal one written with 0x; None when it is neither or too large."""
        return parse_integer(self.text(path))

    def link(self, path: str) -> str:
        """The last part of a symbolic link's target, such as a driver's name; empty when there is no link."""
        try:
            return self._host.readlink(path).rstrip("/").rpartition("/")[2]
        except OSError as error:
            self._remember(error, path)
            return ""

    def target(self, path: str) -> str:
        """A symbolic link's whole target, unresolved; empty when there is no link."""
        try:
            return self._host.readlink(path)
        except OSError as error:
            self._remember(error, path)
            return ""

    def names(self, path: str) -> list[str]:
        """Names in a directory, sorted; [] when it is not there."""
        try:
            return self._host.listdir(path)
        except OSError as error:
            self._remember(error, path)
            return []

    def exists(self, path: str) -> bool:
        return self._host.exists(path)

    def context(self) -> dict[str, str]:
        """What could not be read, for a subtype's context."""
        if not self._unreadable:
            return {}
        paths = sorted(self._unreadable)
        more = f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else ""
        return {"unreadable": ", ".join(paths[:_MOST_NAMED]) + more}

    def _remember(self, error: OSError, path: str) -> None:
        if error.errno not in _NO_VALUE:
            self._unreadable.add(path)


def parse_integer(text: str | None) -> int | None:
    """A decimal number, or a hexadecimal one written with 0x, of at most 64 bits."""
    if not text or len(text) > 20:
        return None
    try:
        value = int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        return None
    return value if -(1 << 63) <= value < 1 << 63 else None


def pci_address(path: str) -> str:
    """The innermost PCI address (domain:bus:device.function) in a path below /sys/devices; empty when none."""
    found = _PCI_ADDRESS.findall(path)
    return found[-1] if found else ""


def model_of(sysfs: Sysfs, address: str, otherwise: str) -> str:
    """The `vendor:device` of a PCI device, to group equal devices by; `otherwise` where it has none."""
    if address:
        directory = f"/sys/bus/pci/devices/{address}"
        vendor, device = sysfs.integer(f"{directory}/vendor"), sysfs.integer(f"{directory}/device")
        if vendor is not None and device is not None:
            return f"{vendor:04x}:{device:04x}"
    return otherwise or "unknown"


def present(values: Mapping[str, Scalar | None]) -> dict[str, Scalar]:
    """The values that are there: neither None nor empty text."""
    return {key: value for key, value in values.items() if value is not None and value != ""}


def fold_devices(devices: Iterable[tuple[str, Mapping[str, Scalar]]]) -> dict[str, Scalar]:
    """Facts of many devices, those of equal devices once.

    Takes (group, attributes) in a fixed order and numbers the devices of a group from 0. Gives `group.count`,
    then `group.attribute` where the whole group agrees, else `group.attribute[0-6]` and `group.attribute[7]`:
    so two servers with the same devices have the same facts, and an odd device stands out.
    """
    groups: dict[str, list[Mapping[str, Scalar]]] = {}
    for group, attributes in devices:
        groups.setdefault(group, []).append(attributes)
    facts: dict[str, Scalar] = {}
    for group, members in groups.items():
        facts[f"{group}.count"] = len(members)
        for attribute in sorted({name for member in members for name in member}):
            facts.update(_fold_attribute(f"{group}.{attribute}", attribute, members))
    return facts


def _fold_attribute(key: str, attribute: str, members: list[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    holders: dict[tuple[type, Scalar], list[int]] = {}
    for index, member in enumerate(members):
        if attribute in member:
            value = member[attribute]
            holders.setdefault((type(value), value), []).append(index)
    if len(holders) == 1 and len(next(iter(holders.values()))) == len(members):
        return {key: next(iter(holders))[1]}
    return {f"{key}[{fold_indexes(indexes)}]": value for (_, value), indexes in holders.items()}
