"""Which resources an API server has, by its discovery documents."""

import asyncio
from typing import Final

import msgspec

from common.errors import Code
from common.kube.call import path_of
from common.kube.client import Kube, KubeError
from common.kube.together import together

_AGGREGATED: Final = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)

_KEPT: Final = frozenset({"list", "delete"})
"""What can be done with objects that are stored."""


class _Struct(msgspec.Struct, frozen=True, rename="camel"):
    pass


class _Kind(_Struct, frozen=True):
    kind: str = ""


class _Described(_Struct, frozen=True):
    resource: str = ""
    scope: str = ""
    verbs: list[str] = []
    response_kind: _Kind | None = None


class _Version(_Struct, frozen=True):
    version: str = ""
    resources: list[_Described] = []


class _Metadata(_Struct, frozen=True):
    """The name alone: API servers up to 1.33 also write a creationTimestamp, which is null."""

    name: str = ""


class _Item(_Struct, frozen=True):
    metadata: _Metadata = _Metadata()
    versions: list[_Version] = []


class _GroupVersion(_Struct, frozen=True):
    group_version: str = ""


class _Group(_Struct, frozen=True):
    preferred_version: _GroupVersion = _GroupVersion()


class _Discovery(_Struct, frozen=True):
    """APIGroupDiscoveryList (`items`) or, from a server older than 1.27, APIGroupList (`groups`)."""

    items: list[_Item] | None = None
    groups: list[_Group] | None = None


class _Named(_Struct, frozen=True):
    name: str = ""
    kind: str = ""
    namespaced: bool = False
    verbs: list[str] = []


class _ResourceList(_Struct, frozen=True):
    """APIResourceList."""

    resources: list[_Named] = []


async def resources_of_kind(kube: Kube, kind: str) -> list[tuple[str, str]]:
    """(API version, plural) of each resource of that kind in any group, at the group's preferred version."""
    found = await kube.get("/apis", _Discovery, accept=_AGGREGATED)
    if found.items is not None:
        return sorted(place for item in found.items for place in _in_item(item, kind))
    versions = [group.preferred_version.group_version for group in found.groups or []]
    return sorted(
        place for part in await asyncio.gather(*(_in_group(kube, v, kind) for v in versions)) for place in part
    )


def _in_item(item: _Item, kind: str) -> list[tuple[str, str]]:
    for version in item.versions:  # the preferred one comes first
        places = [
            (f"{item.metadata.name}/{version.version}", described.resource)
            for described in version.resources
            if described.response_kind is not None and described.response_kind.kind == kind
        ]
        if places:
            return places
    return []


async def _in_group(kube: Kube, version: str, kind: str) -> list[tuple[str, str]]:
    resources = await _resources(kube, version)
    return [(version, named.name) for named in resources if named.kind == kind and "/" not in named.name]


async def _resources(kube: Kube, version: str) -> list[_Named]:
    try:
        return (await kube.get(path_of(version, "").rstrip("/"), _ResourceList)).resources
    except KubeError as error:
        # A group served by an extension that is down or gone; the others still count.
        if error.code in (Code.CLUSTER_FAILED, Code.CLUSTER_NOT_FOUND):
            return []
        raise


async def namespaced_resources(kube: Kube) -> list[tuple[str, str]]:
    """(API version, plural) of everything that is kept in namespaces, at each group's preferred version.

    What can only be looked at, such as the metrics of pods, is kept nowhere and left out. Raises KubeError.
    """
    core, named = await together(kube.get(path, _Discovery, accept=_AGGREGATED) for path in ("/api", "/apis"))
    if core.items is not None and named.items is not None:
        return sorted(
            (f"{item.metadata.name}/{version.version}".removeprefix("/"), described.resource)
            for item in (*core.items, *named.items)
            for version in item.versions[:1]  # the preferred one comes first
            for described in version.resources
            if described.scope == "Namespaced" and _KEPT.issubset(described.verbs)
        )
    versions = ["v1", *(group.preferred_version.group_version for group in named.groups or [])]
    lists = await together(_resources(kube, version) for version in versions)
    return sorted(
        (version, named.name)
        for version, resources in zip(versions, lists, strict=True)
        for named in resources
        if named.namespaced and _KEPT.issubset(named.verbs) and "/" not in named.name
    )
