"""The cluster's network: a bridge in the control plane's namespace, a veth to each node, a subnet of pods per node.

All addresses live in namespaces without a way out, so every cluster uses the same ones. The control plane routes to
pods directly, as the aggregation layer and webhooks need; nodes reach each other's pods through host routes.
"""

import json

CONTROL_PLANE = "10.128.0.1"
API_PORT = 6443
PODS = "10.129.0.0/16"
SERVICES = "10.130.0.0/16"
FAKE_PODS = "10.131.0.0/16"
KUBERNETES_SERVICE = "10.130.0.1"


def node_address(index: int) -> str:
    return f"10.128.0.{11 + index}"


def pod_subnet(index: int) -> str:
    return f"10.129.{index}.0/24"


CONTROL_PLANE_SCRIPT = f"""
mount -t proc proc /proc
hostname control-plane
ip link set lo up
ip link add br0 type bridge
ip address add {CONTROL_PLANE}/24 dev br0
ip link set br0 up
echo 1 > /proc/sys/net/ipv4/ip_forward
"""


def link_script(node_pid: int, index: int) -> str:
    """Lines for the control plane's namespace: plug node number `index` into the bridge, route to its pods."""
    port = f"node{index}"
    return f"""
set -eu
ip link add {port} type veth peer name eth0 netns {node_pid}
ip link set {port} master br0 up
ip route add {pod_subnet(index)} via {node_address(index)}
"""


def node_script(index: int, nodes: int) -> str:
    """Lines for the node's own namespace."""
    lines = [
        "set -eu",
        f"ip address add {node_address(index)}/24 dev eth0",
        "ip link set eth0 up",
        f"ip route add default via {CONTROL_PLANE}",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        # Pods of one node that talk through a Service address cross their bridge; kube-proxy must see the answers.
        "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables",
    ]
    lines += [
        f"ip route add {pod_subnet(other)} via {node_address(other)}" for other in range(nodes) if other != index
    ]
    return "\n".join(lines)


def cni_configuration(index: int) -> str:
    """The bridge plugin with addresses from the node's own subnet, and host ports."""
    return json.dumps(
        {
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "isDefaultGateway": True,
                    "hairpinMode": True,
                    "ipam": {"type": "host-local", "ranges": [[{"subnet": pod_subnet(index)}]]},
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
    )
