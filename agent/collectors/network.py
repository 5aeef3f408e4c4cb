"""OS.network: the node's own network interfaces, and the bonds, VLANs and bridges made of them.

Source: /sys/class/net (Documentation/ABI/testing/sysfs-class-net, networking/bonding.rst), /proc/net/vlan/config, and
the ethtool ioctl where our network namespace is the host's. What pods bring with them (veth, cali, virtual functions
and their representors, subfunctions, container bridges) comes and goes and is not listed.
"""

import re
from collections.abc import Mapping
from typing import Final

from agent.collectors.base import Context, outcome_of
from agent.collectors.interface_names import interface_pattern
from agent.collectors.sysfs import Sysfs, fold_devices, model_of, pci_address, present
from agent.ethtool import Ethtool
from common.model import Absent, Collected, MeasurementType, Ok, Scalar

_CLASS: Final = "/sys/class/net"
_VLANS: Final = ("/proc/1/net/vlan/config", "/proc/net/vlan/config")
_ETHERNET: Final = 1
_INFINIBAND: Final = 32
_ADMIN_UP: Final = 1

_REPRESENTOR: Final = re.compile(r"(c\d+)?pf\d+(vf|sf)\d+")
_SUBFUNCTION: Final = re.compile(r"\w+\.sf\.\d+")

_BOND_SETTINGS: Final = (
    "ad_select",
    "downdelay",
    "fail_over_mac",
    "lacp_rate",
    "miimon",
    "min_links",
    "mode",
    "primary",
    "primary_reselect",
    "updelay",
    "xmit_hash_policy",
)
_BRIDGE_SETTINGS: Final = ("multicast_snooping", "stp_state", "vlan_filtering")


def parse_bonding(text: str) -> str:
    """A value of bonding/: choices are written as name and number (`802.3ad 4`), of which the name is kept."""
    words = text.split()
    return words[0] if len(words) == 2 and words[1].isdigit() else " ".join(words)


def parse_vlan_config(text: str) -> dict[str, tuple[int, str]]:
    """/proc/net/vlan/config: VLAN interface to its id and the interface below it; two heading lines come first."""
    vlans: dict[str, tuple[int, str]] = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) == 3 and all(fields) and fields[1].isascii() and fields[1].isdigit() and len(fields[1]) <= 4:
            vlans[fields[0]] = (int(fields[1]), fields[2])
    return vlans


class NetworkCollector:
    """Reads the interfaces of the network namespace that /sys was mounted in: the host's."""

    name = "network"
    type = MeasurementType.OS

    def collect(self, ctx: Context) -> Collected:
        try:
            names = ctx.host.listdir(_CLASS)
        except OSError as error:
            return Collected.of({"network": outcome_of(error, _CLASS)})
        sysfs = Sysfs(ctx.host)
        physical = {name: path for name in names if (path := _physical(sysfs, name))}
        facts = fold_devices(_devices(sysfs, physical, ctx.host.shares_network))
        facts.update(_virtual(sysfs, names, set(physical)))
        if not facts:
            return Collected.of({"network": Absent("there is no network interface but the loopback")})
        return Collected.of({"network": Ok(facts, sysfs.context())})


def _physical(sysfs: Sysfs, name: str) -> str:
    """Where in /sys/devices an interface of the node's own hardware is; empty for any other interface."""
    directory = f"{_CLASS}/{name}"
    if sysfs.integer(f"{directory}/type") not in (_ETHERNET, _INFINIBAND):
        return ""
    device = sysfs.link(f"{directory}/device")
    if not device or sysfs.exists(f"{directory}/device/physfn") or _SUBFUNCTION.fullmatch(device):
        return ""
    if _REPRESENTOR.fullmatch(sysfs.text(f"{directory}/phys_port_name") or ""):
        return ""
    return sysfs.target(directory)


def _devices(sysfs: Sysfs, physical: Mapping[str, str], asked: bool) -> list[tuple[str, dict[str, Scalar]]]:
    """(model, attributes) in the order of PCI address, then name: equal servers number their ports alike."""
    devices: list[tuple[str, dict[str, Scalar]]] = []
    for name in sorted(physical, key=lambda name: (pci_address(physical[name]), name)):
        driver = sysfs.link(f"{_CLASS}/{name}/device/driver")
        attributes = _attributes(sysfs, name, driver)
        if asked:  # what /sys says is said the same where only /sys can be read
            attributes = {**_settings(name), **attributes}
        devices.append((model_of(sysfs, pci_address(physical[name]), driver), attributes))
    return devices


def _attributes(sysfs: Sysfs, name: str, driver: str) -> dict[str, Scalar]:
    directory = f"{_CLASS}/{name}"
    flags, speed = sysfs.integer(f"{directory}/flags"), sysfs.integer(f"{directory}/speed")
    duplex = sysfs.text(f"{directory}/duplex")
    queues = sysfs.names(f"{directory}/queues")
    return present(
        {
            "address": sysfs.text(f"{directory}/address"),
            "admin-up": None if flags is None else bool(flags & _ADMIN_UP),
            "driver": driver or "none",
            "driver-version": sysfs.text(f"/sys/module/{driver}/version") if driver else None,
            "duplex": None if duplex == "unknown" else duplex,
            "firmware-version": _rdma_firmware(sysfs, name),
            "ipoib-mode": sysfs.text(f"{directory}/mode"),
            "master": sysfs.link(f"{directory}/master"),
            "mtu": sysfs.integer(f"{directory}/mtu"),
            "name": interface_pattern(name),
            "operstate": sysfs.text(f"{directory}/operstate"),
            "rx-queues": sum(1 for queue in queues if queue.startswith("rx-")),
            "speed-mbps": speed if speed is not None and speed > 0 else None,
            "tx-queue-length": sysfs.integer(f"{directory}/tx_queue_len"),
            "tx-queues": sum(1 for queue in queues if queue.startswith("tx-")),
        }
    )


def _rdma_firmware(sysfs: Sysfs, name: str) -> str | None:
    """Firmware of an adapter that also speaks RDMA, which says so in /sys; others only tell ethtool."""
    base = f"{_CLASS}/{name}/device/infiniband"
    versions = [version for rdma in sysfs.names(base) if (version := sysfs.text(f"{base}/{rdma}/fw_ver"))]
    return versions[0] if versions else None


def _settings(name: str) -> dict[str, Scalar]:
    try:
        with Ethtool() as ethtool:
            return ethtool.settings(name)
    except OSError:  # no sockets for us (a sandbox): /sys alone must do
        return {}


def _virtual(sysfs: Sysfs, names: list[str], own: set[str]) -> dict[str, Scalar]:
    """Bonds, then VLANs and bridges on top of what is the node's own, keyed by interface name."""
    vlans: dict[str, tuple[int, str]] = {}
    for path in _VLANS:
        if text := sysfs.text(path):
            vlans = parse_vlan_config(text)
            break
    facts: dict[str, Scalar] = {}
    bonds = [name for name in names if name not in own and sysfs.exists(f"{_CLASS}/{name}/bonding")]
    for name in bonds:
        facts.update(_bond(sysfs, name))
    own = own | set(bonds)
    for name, (number, parent) in vlans.items():
        if parent in own and name in names:
            facts.update(_common(sysfs, name, "vlan") | {f"{name}.vlan-id": number, f"{name}.parent": parent})
    own = own | {name for name, (_, parent) in vlans.items() if parent in own}
    for name in names:
        ports = [port for port in sysfs.names(f"{_CLASS}/{name}/brif") if port in own]
        if ports:  # a bridge of veths alone is a container runtime's
            facts.update(_bridge(sysfs, name, ports))
    return facts


def _common(sysfs: Sysfs, name: str, kind: str) -> dict[str, Scalar]:
    return present(
        {
            f"{name}.kind": kind,
            f"{name}.mtu": sysfs.integer(f"{_CLASS}/{name}/mtu"),
            f"{name}.operstate": sysfs.text(f"{_CLASS}/{name}/operstate"),
        }
    )


def _bond(sysfs: Sysfs, name: str) -> dict[str, Scalar]:
    directory = f"{_CLASS}/{name}/bonding"
    slaves = sorted((sysfs.text(f"{directory}/slaves") or "").split())
    settings = {
        f"{name}.{setting.replace('_', '-')}": parse_bonding(sysfs.text(f"{directory}/{setting}") or "")
        for setting in _BOND_SETTINGS
    }
    return _common(sysfs, name, "bond") | present({**settings, f"{name}.slaves": ",".join(slaves)})


def _bridge(sysfs: Sysfs, name: str, ports: list[str]) -> dict[str, Scalar]:
    settings = {
        f"{name}.{setting.replace('_', '-')}": sysfs.text(f"{_CLASS}/{name}/bridge/{setting}")
        for setting in _BRIDGE_SETTINGS
    }
    return _common(sysfs, name, "bridge") | present({**settings, f"{name}.ports": ",".join(ports)})
