"""The configuration files of a node's daemons, and why each setting that is not a default is there."""

from typing import Any

from tests.cluster import network
from tests.cluster.archive import PAUSE_IMAGE
from tests.cluster.machine import BIN

# What kubelet would otherwise write (its KernelTunables): they belong to the whole kernel, not to a namespace.
KUBELET_SYSCTLS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}


def containerd_toml() -> str:
    """Two handlers for one runc: the default, and `nvidia` for what asks for that RuntimeClass."""
    handlers = "\n".join(
        f"""
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{handler}]
  runtime_type = 'io.containerd.runc.v2'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{handler}.options]
    BinaryName = '{BIN}/runc'
    SystemdCgroup = false
"""
        for handler in ("runc", "nvidia")
    )
    return f"""version = 3
root = '/var/lib/containerd'
state = '/run/containerd'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{PAUSE_IMAGE}'

[plugins.'io.containerd.cri.v1.runtime']
  # Containers of CI have no CAP_SYS_RESOURCE to lower the score with.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '/etc/cni/net.d'
{handlers}"""


def kubelet_configuration(taints: tuple[str, ...]) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDomain": "cluster.local",
        "clusterDNS": [network.CONTROL_PLANE],
        "resolvConf": "/etc/resolv.conf",
        "registerWithTaints": [_taint(taint) for taint in taints],
        # No systemd drives the cgroups here, and the machine may still have cgroup v1.
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "oomScoreAdj": 0,
        # A full or busy disk of the machine must not evict a test's pods or images.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        # Tests make many pods and objects at once.
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "registryPullQPS": 0,
        "serializeImagePulls": False,
        "maxPods": 250,
    }


def _taint(text: str) -> dict[str, str]:
    """`key=value:Effect` as a Taint object."""
    pair, _, effect = text.rpartition(":")
    key, _, value = pair.partition("=")
    return {"key": key, "value": value, "effect": effect}


def kube_proxy_configuration(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node,
        "clusterCIDR": network.PODS,
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.kubeconfig"},
        # The table's size is the machine's, not ours to set.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
    }
