"""K8s: server version, this node, images of all pods, ClusterPolicies. Source: the Kubernetes API."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agent.cluster import ClusterAccess, Reader, failure
from agent.collectors.base import Context
from agent.redaction import REDACTED, names_a_secret, redact_arguments, redact_text
from common.errors import Code, EidosError
from common.model import Absent, Collected, MeasurementType, Ok, Outcome, Scalar

if TYPE_CHECKING:
    from common.kube.client import Kube
    from common.kube.types import Node, PodImages

_PROVIDERS: Final = {"aws": "eks", "gce": "gke", "azure": "aks", "oci": "oke"}
"""What the prefix of a provider id says about the managed service; any other prefix stands for itself."""
_POLICY_KIND: Final = "ClusterPolicy"
_GPU_OPERATOR_GROUP: Final = "nvidia.com"

# Names of other objects, keys of labels and public keys, all of which policies are about.
_NO_SECRET: Final = re.compile(
    r"keys?$|secrets$|public_?keys?$|.*(?:pullSecrets?|Names?|Namespaces?|Refs?|References?|Selectors?|Seconds|Path|File)$",
    re.IGNORECASE,
)


class KubernetesCollector:
    """Asks the API server; every subtype succeeds or fails by itself."""

    name = "kubernetes"
    type = MeasurementType.K8S

    def __init__(self, cluster: ClusterAccess) -> None:
        self._cluster = cluster

    def collect(self, ctx: Context) -> Collected:
        return self._cluster.collect(
            ctx,
            [
                Reader(["server"], _read_server),
                Reader(["node"], _read_node),
                Reader(["image", "image-reference"], _read_images),
                Reader(["policy"], _read_policies),
            ],
        )


# ---- server ----


async def _read_server(kube: "Kube", ctx: Context) -> dict[str, Outcome]:
    from common.kube.types import VersionInfo

    version = await kube.get("/version", VersionInfo)
    data = {"version": version.git_version, "platform": version.platform, "goVersion": version.go_version}
    return {"server": Ok({key: value for key, value in data.items() if value})}


# ---- node ----


async def _read_node(kube: "Kube", ctx: Context) -> dict[str, Outcome]:
    from common.kube.call import path_of
    from common.kube.types import Node

    try:
        node = await kube.get(path_of("v1", "nodes", "", ctx.node), Node)
    except EidosError as error:
        if error.code is not Code.CLUSTER_NOT_FOUND:
            raise
        return {"node": Absent(f"the cluster has no node {ctx.node}")}
    return {"node": Ok(parse_node(node))}


def parse_node(node: "Node") -> dict[str, Scalar]:
    """What the node's object says about it; what is not set there is left out."""
    info = node.status.node_info
    runtime, _, runtime_version = info.container_runtime_version.partition("://")
    data: dict[str, Scalar] = {
        "source-node": node.metadata.name,
        "provider": provider_of(node.spec.provider_id),
        "provider-id": node.spec.provider_id,
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


# ---- images ----


class Image(NamedTuple):
    """An image reference taken apart; tag and digest are empty when there is none."""

    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """Without registry and path."""
        return self.repository.rpartition("/")[2]


def parse_image(reference: str) -> Image:
    """`registry:5000/path/name:tag@sha256:...`; a port is no tag."""
    rest, _, digest = reference.partition("@")
    path, slash, last = rest.rpartition("/")
    name, _, tag = last.partition(":")
    return Image(f"{path}{slash}{name}", tag, digest)


def parse_images(references: Iterable[str]) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """Name → tags, and full name → tags and digests; several are sorted and joined by `,`."""
    tags: defaultdict[str, set[str]] = defaultdict(set)
    full: defaultdict[str, set[str]] = defaultdict(set)
    for image in map(parse_image, references):
        if not image.name:
            continue
        tags[image.name].add(image.tag or "latest")
        exact = f"{image.tag}@{image.digest}" if image.tag and image.digest else image.tag or image.digest
        full[image.repository].add(exact or "latest")
    return _joined(tags), _joined(full)


def _joined(sets: Mapping[str, set[str]]) -> dict[str, Scalar]:
    return {key: ",".join(sorted(values)) for key, values in sets.items()}


def _add_images(found: set[str], pod: "PodImages") -> None:
    spec = pod.spec
    for containers in (spec.containers, spec.init_containers, spec.ephemeral_containers):
        found.update(container.image for container in containers)


async def _read_images(kube: "Kube", ctx: Context) -> dict[str, Outcome]:
    from common.kube.call import path_of
    from common.kube.types import PodImages

    found, _ = await kube.fold(path_of("v1", "pods"), PodImages, set[str], _add_images)
    names, references = parse_images(found)
    return {"image": Ok(names), "image-reference": Ok(references)}


# ---- policies ----


class Policy(NamedTuple):
    """One ClusterPolicy: the API group it belongs to, its name, and its spec."""

    group: str
    name: str
    spec: Mapping[str, Any]


def parse_policies(policies: Iterable[Policy]) -> dict[str, Scalar]:
    """The specs of all policies, flattened into one map.

    Where policies do not agree on a key it is written as `group/name/key` for each of them; the plain key is then
    that of the GPU operator's policy, if there is just one.
    """
    found: defaultdict[str, list[tuple[Policy, str]]] = defaultdict(list)
    for policy in policies:
        for key, value in _distinct(flatten(without_secrets(policy.spec))):
            found[key].append((policy, value))
    data: dict[str, Scalar] = {}
    for key, values in found.items():
        if len({value for _, value in values}) == 1:
            data[key] = values[0][1]
            continue
        ours = [value for policy, value in values if policy.group == _GPU_OPERATOR_GROUP]
        if len(ours) == 1:
            data[key] = ours[0]
        for policy, value in values:
            data[f"{policy.group}/{policy.name}/{key}"] = value
    return data


def without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The object with secrets replaced in whatever depth they stand: by key, in name and value pairs, in Secrets."""
    is_secret = spec.get("kind") == "Secret"
    shown: dict[str, Any] = {}
    for key, value in spec.items():
        if key == "stringData" or (is_secret and key == "data"):
            shown[key] = _all_redacted(value)
        elif key == "value" and isinstance(name := spec.get("name"), str):
            shown[key] = _without_secrets(name, value)
        else:
            shown[key] = _without_secrets("" if _NO_SECRET.match(key) else key.rpartition("/")[2], value)
    return shown


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(value)
    if isinstance(value, list):
        if not names_a_secret(name, "?") and all(isinstance(item, str) for item in value):
            return redact_arguments(value)
        return [_without_secrets(name, item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if names_a_secret(name, str(value)):
        return REDACTED
    return redact_text(value) if isinstance(value, str) else value


def _all_redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _all_redacted(item) for key, item in value.items()}
    return REDACTED


def flatten(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested keys joined by dots; lists as JSON, all else as its text; an empty object as `{}`."""
    for name, value in spec.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{key}.")
        elif isinstance(value, str):
            yield key, value
        else:
            yield key, msgspec.json.encode(value, order="sorted").decode()


def _distinct(facts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Names with dots can make two places one key (`a.b` and `b` in `a`); the later is then `a.b#2`."""
    seen: set[str] = set()
    for key, value in facts:
        unique, number = key, 1
        while unique in seen:
            number += 1
            unique = f"{key}#{number}"
        seen.add(unique)
        yield unique, value


async def _read_policies(kube: "Kube", ctx: Context) -> dict[str, Outcome]:
    import asyncio

    from common.kube.discovery import resources_of_kind

    kinds = await resources_of_kind(kube, _POLICY_KIND)
    if not kinds:
        return {"policy": Absent(f"the cluster has no resource of kind {_POLICY_KIND}")}
    results = await asyncio.gather(*(_list_policies(kube, *kind) for kind in kinds), return_exceptions=True)
    policies: list[Policy] = []
    context: dict[str, str] = {}
    for (api_version, resource), result in zip(kinds, results, strict=True):
        group = api_version.partition("/")[0]
        if isinstance(result, BaseException):
            # The GPU operator's are what matters; that others of the name may not be read is worth a word.
            if not isinstance(result, EidosError) or group == _GPU_OPERATOR_GROUP or len(kinds) == 1:
                raise result
            context[f"{resource}.{group}"] = failure(result).reason
        else:
            policies += result
    return {"policy": Ok(parse_policies(policies), context)}


async def _list_policies(kube: "Kube", api_version: str, resource: str) -> list[Policy]:
    from common.kube.call import path_of
    from common.kube.types import Specified

    found, _ = await kube.list(path_of(api_version, resource), Specified)
    group = api_version.partition("/")[0]
    return [Policy(group, item.metadata.name, item.spec) for item in found]
