"""The objects of one installation: what manifests/fleet says, with the user's settings in it. Pure."""

from dataclasses import dataclass
from typing import Any, Final

from common.errors import UsageError
from common.kube.call import path_of
from common.kube.permissions import Permission
from installer.rendering import Manifest, overlays, render
from installer.settings import (
    CREATED_ANNOTATION,
    MANAGED_BY,
    NAMESPACE,
    PART_OF,
    PRODUCT,
    SETTINGS_ANNOTATION,
    Settings,
    check_overlays,
)

AGENT: Final = "eidos-agent"
AGGREGATOR: Final = "eidos-aggregator"
API_SERVICE: Final = "v1alpha1.fleet.eidos.nvidia.com"

WRITTEN: Final = (
    ("v1", "secrets", "eidos-authority"),
    ("v1", "configmaps", "eidos-ca"),
    ("coordination.k8s.io/v1", "leases", "eidos-aggregator"),
)
"""What the aggregator makes itself, besides the published snapshot."""
ISSUED: Final = (("v1", "secrets", "eidos-aggregator-tls"), ("v1", "secrets", "eidos-issuer"))
"""What cert-manager makes for overlay cert-manager, and would make anew while there are Certificates."""

_SELECTOR: Final = "EIDOS_NODE_SELECTOR"

PLURALS: Final = {
    "APIService": "apiservices",
    "Certificate": "certificates",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "Issuer": "issuers",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PriorityClass": "priorityclasses",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "ServiceMonitor": "servicemonitors",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One object, and where it is in the API."""

    manifest: Manifest

    @property
    def kind(self) -> str:
        return str(self.manifest["kind"])

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Empty for what is in none."""
        return str(self.manifest["metadata"].get("namespace", ""))

    @property
    def api_version(self) -> str:
        return str(self.manifest["apiVersion"])

    @property
    def resource(self) -> str:
        return PLURALS[self.kind]

    @property
    def path(self) -> str:
        return path_of(self.api_version, self.resource, self.namespace, self.name)

    def permission(self, verb: str) -> Permission:
        group = self.api_version.partition("/")[0] if "/" in self.api_version else ""
        return Permission(verb, self.resource, group, self.namespace)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


def build(settings: Settings) -> list[Item]:
    """Everything to be applied, the namespace first. Raises UsageError for what contradicts itself."""
    check_overlays(settings.overlays, overlays())
    manifests = render(settings.overlays)
    for manifest in manifests:
        manifest["metadata"].setdefault("labels", {})[MANAGED_BY] = PRODUCT
        if manifest["kind"] == "Deployment":
            manifest["metadata"].setdefault("annotations", {})[SETTINGS_ANNOTATION] = settings.remembered()
            _set_pod(manifest, settings, settings.aggregator_image)
            _expect(manifest, settings.node_selector)
        elif manifest["kind"] == "DaemonSet":
            _set_pod(manifest, settings, settings.agent_image)
            if settings.node_selector:
                _narrow(manifest["spec"]["template"]["spec"].setdefault("nodeSelector", {}), settings.node_selector)
    items = [Item(_moved(manifest, settings.namespace)) for manifest in manifests]
    return sorted(items, key=lambda item: item.kind != "Namespace")


def every_item(namespace: str) -> list[Item]:
    """All that any choice of overlays makes: what uninstalling looks for."""
    everything: dict[str, Item] = {}
    for chosen in ((), *((name,) for name in overlays())):
        everything |= {item.path: item for item in build(Settings(namespace=namespace, overlays=chosen))}
    return list(everything.values())


def is_ours(there: Manifest) -> bool:
    """Whether an object belongs to an installation of Eidos, however that was made."""
    return bool(there["metadata"].get("labels", {}).get(PART_OF) == PRODUCT)


def is_made_by_us(there: Manifest) -> bool:
    """Whether the command made it, rather than kubectl or Helm."""
    return bool(there["metadata"].get("labels", {}).get(MANAGED_BY) == PRODUCT)


def marked_as_created(namespace: Manifest) -> Manifest:
    """As the command makes it, and nobody who applies the same manifests otherwise."""
    metadata = namespace["metadata"]
    return {**namespace, "metadata": {**metadata, "annotations": {CREATED_ANNOTATION: PRODUCT}}}


def is_created_by_us(there: Manifest) -> bool:
    """Whether the command made a namespace, rather than found it."""
    return bool(there["metadata"].get("annotations", {}).get(CREATED_ANNOTATION) == PRODUCT)


def images(manifest: Manifest) -> list[str]:
    """Of a workload's containers; empty for what is none."""
    if manifest["kind"] not in ("Deployment", "DaemonSet"):
        return []
    return [str(container["image"]) for container in manifest["spec"]["template"]["spec"]["containers"]]


def _set_pod(manifest: Manifest, settings: Settings, image: str) -> None:
    pod = manifest["spec"]["template"]["spec"]
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    for container in pod["containers"]:
        container["image"] = image or container["image"]
        container["imagePullPolicy"] = settings.image_pull_policy or container["imagePullPolicy"]


def _narrow(chosen: dict[str, str], more: dict[str, str]) -> None:
    """Put more labels into a selector. Raises UsageError for another value of one that an overlay has put there."""
    for key, value in more.items():
        if chosen.setdefault(key, value) != value:
            raise UsageError(
                f"an overlay chooses nodes with {key}={chosen[key]}, and --node-selector those with {key}={value}",
                "No node has both: leave one out.",
            )


def _expect(manifest: Manifest, selector: dict[str, str]) -> None:
    """Let the aggregator expect only the nodes that agents are put on, as an overlay does for its own labels."""
    if not selector:
        return
    environment = manifest["spec"]["template"]["spec"]["containers"][0]["env"]
    before = next((entry for entry in environment if entry["name"] == _SELECTOR), None)
    chosen = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    if before is None:
        environment.append({"name": _SELECTOR, "value": chosen})
    else:
        before["value"] = f"{before['value']},{chosen}"


def _moved(manifest: Manifest, namespace: str) -> Manifest:
    """The object as it is in another namespace: its own, those of subjects and services, and Services' DNS names."""
    if manifest["kind"] == "Namespace":
        manifest["metadata"]["name"] = namespace
        return manifest
    moved: Manifest = _renamed(manifest, namespace)
    return moved


def _renamed(value: Any, namespace: str, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _renamed(part, namespace, name) for name, part in value.items()}
    if isinstance(value, list):
        return [_renamed(part, namespace) for part in value]
    if key == "namespace" and value == NAMESPACE:
        return namespace
    if isinstance(value, str) and value.endswith(f".{NAMESPACE}.svc"):
        return f"{value.removesuffix(f'.{NAMESPACE}.svc')}.{namespace}.svc"
    return value


def as_yaml(items: list[Item]) -> str:
    """All of them, as kubectl reads them."""
    import yaml

    return "".join(f"---\n{yaml.safe_dump(item.manifest, sort_keys=False)}" for item in items)
