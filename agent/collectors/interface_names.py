"""Which network interfaces are one of many of their kind, told by their names alone. Pure.

Interfaces that container runtimes, network plugins and hypervisors make for each pod or virtual machine get
generated names, and come and go with it; virtual functions and their representors are numbered, and there are
many. What is said about such interfaces is folded under a shell pattern of their names. Interfaces a node has once
(`eth0`, `bond0`, `docker0`, `cni0`, `cilium_host`, `flannel.1`) keep their names.
"""

import re
from typing import Final

_HASH: Final = "[0-9a-f]"

# (how the name begins, what a generated rest looks like, the pattern of the whole). Prefixes are told apart from
# interfaces a node has once: `lxcbr0`, `br-int`, `tunl0`, `vlan100` are none of these.
_GENERATED: Final = (
    ("veth", r".+", "veth*"),  # bridge, kindnet, flannel, Docker, Podman, Weave
    ("cali", r".+", "cali*"),  # Calico
    ("lxc", r"(?:[0-9a-f]{5,12}|_health)", "lxc[0-9a-f_]*"),  # Cilium
    ("eni", r"[0-9a-f]{11}", f"eni{_HASH}*"),  # Amazon VPC CNI
    ("vlan", r"[0-9a-f]{11}", f"vlan{_HASH}*"),  # Amazon VPC CNI, pods with security groups
    ("gke", r"[0-9a-f]{11}", f"gke{_HASH}*"),  # GKE
    ("azv", r"[0-9a-f]{11}", f"azv{_HASH}*"),  # Azure CNI
    ("br-", r"[0-9a-f]{12}", f"br-{_HASH}*"),  # Docker's own networks
    ("", r"[0-9a-f]{15}", f"{_HASH}*"),  # OVN-Kubernetes
    ("", r"[0-9a-f]{12}_h", f"{_HASH}*_h"),  # Kube-OVN
    ("tun", r"\d+", "tun[0-9]*"),  # VPN clients
    ("tap", r".+", "tap*"),  # virtual machines
    ("vnet", r"\d+", "vnet[0-9]*"),  # libvirt
    ("macvtap", r"\d+", "macvtap[0-9]*"),  # libvirt
    ("qbr", r"[0-9a-f-]{11}", "qbr[0-9a-f-]*"),  # OpenStack
    ("qvb", r"[0-9a-f-]{11}", "qvb[0-9a-f-]*"),
    ("qvo", r"[0-9a-f-]{11}", "qvo[0-9a-f-]*"),
)

# A number at the end of an interface that is one of several of its parent: the parent stays in the pattern.
_NUMBERED: Final = re.compile(
    r"""(?P<parent>
          (?:en|eth|ib)\S*?\d\S*?v       # virtual function: enp1s0f0v3, ens3f1np1v0
        | \S*?pf\d+vf                    # representor of a virtual function: enp1s0f0npf0vf3, pf0vf3
        | \S*?pf\d+sf                    # representor of a subfunction: enp8s0f0npf0sf88
        )\d+""",
    re.VERBOSE,
)

# Accelerated networking on Azure: the PCI domain in the name is random for every virtual machine.
_RANDOM_DOMAIN: Final = re.compile(r"enP\d{4,}(?P<slot>s\d+\S*)")

_GENERATED_NAME: Final = re.compile("|".join(f"({re.escape(prefix)}{rest})" for prefix, rest, _ in _GENERATED))


def interface_pattern(name: str) -> str:
    """The shell pattern that `name` folds under, or the name itself when the node has one such interface."""
    if generated := _GENERATED_NAME.fullmatch(name):
        return _GENERATED[(generated.lastindex or 1) - 1][2]
    if numbered := _NUMBERED.fullmatch(name):
        return f"{numbered['parent']}[0-9]*"
    if random := _RANDOM_DOMAIN.fullmatch(name):
        return f"enP[0-9]*{random['slot']}"
    return name
