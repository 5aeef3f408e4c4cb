"""Which interfaces fold."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors import interface_names
from agent.collectors.interface_names import interface_pattern
from common.stability import Stability, default_rules

COME_AND_GO = {
    "veth3f2a91c0": "veth*",
    "vethwepl1234567": "veth*",
    "cali1a2b3c4d5e6": "cali*",
    "lxc1a2b3c4d5e6f": "lxc[0-9a-f_]*",
    "lxc_health": "lxc[0-9a-f_]*",
    "eni1a2b3c4d5e6": "eni[0-9a-f]*",
    "vlan1a2b3c4d5e6": "vlan[0-9a-f]*",
    "gke1a2b3c4d5e6": "gke[0-9a-f]*",
    "azv1a2b3c4d5e6": "azv[0-9a-f]*",
    "br-0a1b2c3d4e5f": "br-[0-9a-f]*",
    "0a1b2c3d4e5f6a7": "[0-9a-f]*",
    "0a1b2c3d4e5f_h": "[0-9a-f]*_h",
    "tun0": "tun[0-9]*",
    "tap0a1b2c3d-4e": "tap*",
    "vnet12": "vnet[0-9]*",
    "macvtap3": "macvtap[0-9]*",
    "qbr0a1b2c3d-4e": "qbr[0-9a-f-]*",
    "qvb0a1b2c3d-4e": "qvb[0-9a-f-]*",
    "qvo0a1b2c3d-4e": "qvo[0-9a-f-]*",
    "enp1s0f0v3": "enp1s0f0v[0-9]*",
    "ens3f1np1v12": "ens3f1np1v[0-9]*",
    "eth0v1": "eth0v[0-9]*",
    "ibp65s0v2": "ibp65s0v[0-9]*",
    "enp1s0f0npf0vf3": "enp1s0f0npf0vf[0-9]*",
    "pf0vf7": "pf0vf[0-9]*",
    "enp8s0f0npf0sf88": "enp8s0f0npf0sf[0-9]*",
}

KEPT = [
    "all", "default", "lo", "eth0", "eth10", "ens5", "eno1", "enp1s0f0", "enp1s0f0np0", "enp65s0f1np1", "enP5p9s0f0",
    "enP22p3s0f0np0", "enP6s2", "ib0", "ibp24s0", "ibs1f0", "bond0", "bond0.100", "vlan100", "eth0.100", "team0",
    "docker0", "docker_gwbridge", "cni0", "cni-podman0", "podman0", "flannel.1", "cilium_host", "cilium_net",
    "cilium_vxlan", "tunl0", "vxlan.calico", "wireguard.cali", "kube-ipvs0", "nodelocaldns", "br0", "br-int", "br-ex",
    "br-lan", "ovs-system", "ovn-k8s-mp0", "antrea-gw0", "lxcbr0", "virbr0", "dummy0", "ifb0", "wg0", "sit0",
    "ip6tnl0", "gre0", "usb0", "env2", "enx0a1b2c3d4e5f",
]  # fmt: skip


@pytest.mark.parametrize(("name", "pattern"), COME_AND_GO.items())
def test_many_of_a_kind_fold(name: str, pattern: str) -> None:
    assert interface_pattern(name) == pattern
    assert fnmatch.fnmatchcase(name, pattern), "the key is a shell pattern that stands for the name"


@pytest.mark.parametrize("name", KEPT)
def test_the_only_one_of_its_kind_is_kept(name: str) -> None:
    assert interface_pattern(name) == name
    for kind in ("conf", "neigh"):
        key = f"/proc/sys/net/ipv6/{kind}/{name}/mtu"
        assert default_rules().classify("OS", "sysctl", key) is Stability.STABLE


def test_a_random_pci_domain_is_left_out_of_the_name() -> None:
    assert interface_pattern("enP30832s1") == interface_pattern("enP4711s1") == "enP[0-9]*s1"
    key = "/proc/sys/net/ipv4/conf/enP[0-9]*s1/rp_filter"
    assert default_rules().classify("OS", "sysctl", key) is Stability.STABLE


@pytest.mark.parametrize("pattern", [*COME_AND_GO.values(), "ena[1-9]*"])
@pytest.mark.parametrize("directory", ["ipv4/conf", "ipv4/neigh", "ipv6/conf", "ipv6/neigh", "mpls/conf"])
def test_what_comes_and_goes_is_volatile(pattern: str, directory: str) -> None:
    key = f"/proc/sys/net/{directory}/{pattern}/"
    assert default_rules().classify("OS", "sysctl", key) is Stability.VOLATILE
    assert default_rules().classify("OS", "sysctl", f"{key}mtu") is Stability.VOLATILE


def test_every_pattern_of_the_list_is_tried() -> None:
    listed = {pattern for _, _, pattern in interface_names._GENERATED}
    assert listed == {pattern for pattern in COME_AND_GO.values() if pattern in listed}


@given(st.text(min_size=1) | st.from_regex(r"(veth|enp1s0f0v|pf0vf|[0-9a-f]{10,16})\w{0,4}", fullmatch=True))
def test_it_takes_anything(name: str) -> None:
    pattern = interface_pattern(name)
    assert pattern == name or "*" in pattern
