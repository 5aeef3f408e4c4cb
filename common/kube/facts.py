"""K8s.server, and what a Node's object says for K8s.node."""

from typing import TYPE_CHECKING, Final

from common.model import Ok, Outcome, Scalar

if TYPE_CHECKING:
    from common.kube.client import Kube
    from common.kube.types import NodeInfo

_PROVIDERS: Final = {"aws": "eks", "gce": "gke", "azure": "aks", "oci": "oke"}
"""What the prefix of a provider id says about the managed service; any other prefix stands for itself."""


async def read_server(kube: "Kube") -> dict[str, Outcome]:
    """The one subtype. Raises KubeError."""
    from common.kube.types import VersionInfo

    version = await kube.get("/version", VersionInfo)
    data = {"version": version.git_version, "platform": version.platform, "goVersion": version.go_version}
    return {"server": Ok({key: value for key, value in data.items() if value})}


def node_facts(name: str, provider_id: str, info: "NodeInfo") -> dict[str, Scalar]:
    """What a node's object says about it; what is not set there is left out."""
    runtime, _, runtime_version = info.container_runtime_version.partition("://")
    data: dict[str, Scalar] = {
        "source-node": name,
        "provider": provider_of(provider_id),
        "provider-id": provider_id,
        "container-runtime-id": info.container_runtime_version,
        "container-runtime-name": runtime,
        "container-runtime-version": runtime_version,
        "kubelet-version": info.kubelet_version,
        "kernel-version": info.kernel_version,
        "operating-system": info.operating_system,
        "os-image": info.os_image,
    }
    return {key: value for key, value in data.items() if value}


def provider_of(provider_id: str) -> str:
    """`aws:///us-east-1e/i-0861` is eks; nothing when there is no prefix."""
    prefix, separator, _ = provider_id.partition("://")
    return _PROVIDERS.get(prefix, prefix) if separator else ""
