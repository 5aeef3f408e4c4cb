"""OS.network."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context
from agent.collectors.network import NetworkCollector, parse_bonding, parse_vlan_config
from agent.host import Host
from common.model import Ok
from common.stability import Stability, default_rules
from tests.agent.collectors.device_tree import DeviceTree


@pytest.mark.parametrize(
    ("text", "value"),
    [("802.3ad 4", "802.3ad"), ("layer3+4 1", "layer3+4"), ("100", "100"), ("", ""), ("eth0 eth1", "eth0 eth1")],
)
def test_parse_bonding(text: str, value: str) -> None:
    assert parse_bonding(text) == value


VLANS = """\
VLAN Dev name    | VLAN ID
Name-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD
bond0.100      | 100  | bond0
storage        | 4000  | eth0
"""


def test_parse_vlan_config() -> None:
    assert parse_vlan_config(VLANS) == {"bond0.100": (100, "bond0"), "storage": (4000, "eth0")}


@given(st.text(st.sampled_from("ab |9\n٣")))
def test_parsers_take_anything(text: str) -> None:
    parse_vlan_config(text)
    parse_bonding(text)


class Network(DeviceTree):
    """A tree with network interfaces."""

    def physical(self, name: str, address: str, driver: str = "mlx5_core", **attributes: str | int) -> str:
        """A port of a ConnectX-7 adapter."""
        device = self.pci(address, driver, vendor="0x15b3", device="0x1021")
        directory = f"{device}/net/{name}"
        standard: dict[str, str | int] = {
            "type": 1,
            "address": f"94:6d:ae:00:00:{address[5:7]}",
            "flags": "0x1003",
            "mtu": 9000,
            "operstate": "up",
            "speed": 400000,
            "duplex": "full",
            "tx_queue_len": 1000,
        }
        self.attributes(directory, {**standard, **attributes})
        for queue in ("rx-0", "rx-1", "tx-0"):
            self.attributes(f"{directory}/queues/{queue}", {})
        self.link(f"{directory}/device", device)
        self.link(f"/sys/class/net/{name}", directory)
        return directory

    def virtual(self, name: str, **attributes: str | int) -> str:
        directory = f"/sys/devices/virtual/net/{name}"
        standard: dict[str, str | int] = {"type": 1, "mtu": 1500, "operstate": "up", "flags": "0x1003"}
        self.attributes(directory, {**standard, **attributes})
        self.link(f"/sys/class/net/{name}", directory)
        return directory


def test_equal_adapters_fold(tmp_path: Path) -> None:
    network = Network(tmp_path)
    network.write("/sys/module/mlx5_core/version", "24.10-1.1.4")
    for number in (0x9A, 0x18, 0x3A):
        directory = network.physical(f"ens{number}", f"0000:{number:02x}:00.0")
        network.write(f"{directory}/device/infiniband/mlx5_{number}/fw_ver", "28.39.2048")
    assert network.facts(NetworkCollector()) == {
        "15b3:1021.count": 3,
        "15b3:1021.address[0]": "94:6d:ae:00:00:18",
        "15b3:1021.address[1]": "94:6d:ae:00:00:3a",
        "15b3:1021.address[2]": "94:6d:ae:00:00:9a",
        "15b3:1021.admin-up": True,
        "15b3:1021.driver": "mlx5_core",
        "15b3:1021.driver-version": "24.10-1.1.4",
        "15b3:1021.duplex": "full",
        "15b3:1021.firmware-version": "28.39.2048",
        "15b3:1021.mtu": 9000,
        "15b3:1021.name[0]": "ens24",
        "15b3:1021.name[1]": "ens58",
        "15b3:1021.name[2]": "ens154",
        "15b3:1021.operstate": "up",
        "15b3:1021.rx-queues": 2,
        "15b3:1021.speed-mbps": 400000,
        "15b3:1021.tx-queue-length": 1000,
        "15b3:1021.tx-queues": 1,
    }


def test_a_port_that_is_down_stands_out_and_has_no_speed(tmp_path: Path) -> None:
    network = Network(tmp_path)
    network.physical("eth0", "0000:18:00.0")
    network.physical("eth1", "0000:3a:00.0", operstate="down", speed=-1, duplex="unknown")
    facts = network.facts(NetworkCollector())
    assert facts["15b3:1021.operstate[1]"] == "down"
    assert facts["15b3:1021.speed-mbps[0]"] == 400000
    assert "15b3:1021.speed-mbps[1]" not in facts
    assert "15b3:1021.duplex[1]" not in facts


def test_what_comes_and_goes_with_pods_is_not_listed(tmp_path: Path) -> None:
    network = Network(tmp_path)
    network.physical("eth0", "0000:18:00.0")
    before = network.facts(NetworkCollector())
    network.physical("eth1", "0000:18:00.2")
    network.link("/sys/devices/pci0000:00/0000:18:00.2/physfn", "/sys/devices/pci0000:00/0000:18:00.0")
    network.physical("eth2", "0000:18:00.3", phys_port_name="pf0vf7")
    for name in ("cali0123456789a", "veth1a2b3c4d", "cilium_host", "docker0", "cni0"):
        network.virtual(name)
    network.attributes("/sys/devices/virtual/net/docker0/bridge", {"stp_state": 0})
    network.attributes("/sys/devices/virtual/net/docker0/brif/veth1a2b3c4d", {})
    network.virtual("lo", type=772)
    assert network.facts(NetworkCollector()) == before


def test_subfunctions_are_not_listed(tmp_path: Path) -> None:
    network = Network(tmp_path)
    directory = network.physical("eth0", "0000:18:00.0")
    (tmp_path / directory.lstrip("/") / "device").unlink()
    network.attributes("/sys/devices/pci0000:00/0000:18:00.0/mlx5_core.sf.4", {})
    network.link(f"{directory}/device", "/sys/devices/pci0000:00/0000:18:00.0/mlx5_core.sf.4")
    assert network.reason(NetworkCollector()) == "there is no network interface but the loopback"


def test_interfaces_without_pci_go_by_their_driver(tmp_path: Path) -> None:
    network = Network(tmp_path)
    directory = network.virtual("eth0")
    network.attributes("/sys/devices/vif-0", {})
    network.link("/sys/devices/vif-0/driver", "/sys/bus/xen/drivers/vif")
    network.link(f"{directory}/device", "/sys/devices/vif-0")
    assert network.facts(NetworkCollector())["vif.name"] == "eth0"


def test_bonds_vlans_and_bridges(tmp_path: Path) -> None:
    network = Network(tmp_path)
    for name, address in (("eth1", "0000:3a:00.0"), ("eth0", "0000:18:00.0")):
        port = network.physical(name, address)
        network.link(f"{port}/master", "/sys/devices/virtual/net/bond0")
    bond = network.virtual("bond0", mtu=9000)
    network.attributes(
        f"{bond}/bonding",
        {"mode": "802.3ad 4", "slaves": "eth1 eth0", "miimon": 100, "lacp_rate": "fast 1", "active_slave": "eth1"},
    )
    network.virtual("bond0.100", mtu=9000)
    network.virtual("vethX.7")
    network.write("/proc/1/net/vlan/config", VLANS + "vethX.7 | 7 | vethX\n")
    bridge = network.virtual("br0")
    network.attributes(f"{bridge}/bridge", {"stp_state": 0, "vlan_filtering": 1})
    for port in ("bond0.100", "veth0"):
        network.attributes(f"{bridge}/brif/{port}", {})
    facts = network.facts(NetworkCollector())
    assert {key: value for key, value in facts.items() if key[0] in "bv"} == {
        "bond0.kind": "bond",
        "bond0.lacp-rate": "fast",
        "bond0.miimon": "100",
        "bond0.mode": "802.3ad",
        "bond0.mtu": 9000,
        "bond0.operstate": "up",
        "bond0.slaves": "eth0,eth1",
        "bond0.100.kind": "vlan",
        "bond0.100.mtu": 9000,
        "bond0.100.operstate": "up",
        "bond0.100.parent": "bond0",
        "bond0.100.vlan-id": 100,
        "br0.kind": "bridge",
        "br0.mtu": 1500,
        "br0.operstate": "up",
        "br0.ports": "bond0.100",
        "br0.stp-state": "0",
        "br0.vlan-filtering": "1",
    }
    assert facts["15b3:1021.master"] == "bond0"


def test_ip_over_infiniband(tmp_path: Path) -> None:
    network = Network(tmp_path)
    network.physical("ib0", "0000:18:00.0", type=32, mode="datagram")
    assert network.facts(NetworkCollector())["15b3:1021.ipoib-mode"] == "datagram"


def test_ethtool_is_asked_where_the_network_is_the_hosts(tmp_path: Path) -> None:
    """As in a pod with hostNetwork: the host's root elsewhere, its first process in our network namespace."""
    network = Network(tmp_path)
    network.physical("lo", "0000:18:00.0")
    recorded = network.facts(NetworkCollector())
    (tmp_path / "proc/1/ns").mkdir(parents=True)
    (tmp_path / "proc/1/ns/net").symlink_to("/proc/self/ns/net")
    shared = network.facts(NetworkCollector())
    assert isinstance(shared["15b3:1021.gro"], bool)
    assert "15b3:1021.gro" not in recorded
    assert shared.items() >= recorded.items()


def test_no_sysfs_is_absent(tmp_path: Path) -> None:
    assert DeviceTree(tmp_path).reason(NetworkCollector()) == "/sys/class/net is not there"


def test_the_machine_we_run_on() -> None:
    context = Context(host=Host(), node="node-1", deadline=float("inf"))
    first, second = (NetworkCollector().collect(context).subtypes["network"] for _ in range(2))
    assert first == second
    if isinstance(first, Ok):  # else a sandbox without interfaces
        assert not [key for key in first.data if key.startswith("lo.")]


@pytest.mark.parametrize(
    ("key", "stability"),
    [
        ("15b3:1021.address[0]", Stability.IDENTITY),
        ("15b3:1021.name[0]", Stability.STABLE),
        ("15b3:1021.count", Stability.STABLE),
        ("15b3:1021.operstate", Stability.STABLE),
        ("1d0f:ec20.count", Stability.VOLATILE),
        ("1d0f:ec20.name[3]", Stability.VOLATILE),
        ("1d0f:ec20.mtu", Stability.STABLE),
        ("1d0f:efa1.count", Stability.STABLE),
    ],
)
def test_stability(key: str, stability: Stability) -> None:
    assert default_rules().classify("OS", "network", key) is stability
