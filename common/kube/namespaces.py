"""What is in a namespace that somebody would miss."""

from collections.abc import Callable
from typing import Final

from common.errors import Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.discovery import namespaced_resources
from common.kube.errors import KubeError
from common.kube.permissions import Permission
from common.kube.together import together
from common.kube.types import Metadata

_LIKELY: Final = {
    "jobs": "batch/v1",
    "pods": "v1",
    "deployments": "apps/v1",
    "daemonsets": "apps/v1",
    "statefulsets": "apps/v1",
    "serviceaccounts": "v1",
    "configmaps": "v1",
    "secrets": "v1",
    "services": "v1",
    "persistentvolumeclaims": "v1",
}
"""What is looked at first, because it is what people put there and know by name."""
_UNTOLD: Final = frozenset({"events"})
"""What nobody misses."""
_OF_ITSELF: Final = frozenset({("serviceaccounts", "default"), ("configmaps", "kube-root-ca.crt")})


async def first_content(kube: Kube, namespace: str, goes_anyway: Callable[[str, Metadata], bool]) -> str:
    """Something in the namespace that stays, such as `secrets regcred`; empty when there is none. Raises KubeError.

    Of every resource the API server has, extensions included. What every namespace holds by itself does not count,
    nor what is being deleted, nor what `goes_anyway` says yes to.
    """
    likely = [(version, resource) for resource, version in _LIKELY.items()]
    if found := await _first(kube, namespace, goes_anyway, likely):  # without a look at some sixty resources
        return found
    everything = await namespaced_resources(kube)
    rest = [place for place in everything if place not in likely and place[1] not in _UNTOLD]
    return await _first(kube, namespace, goes_anyway, rest)


async def to_see_content(kube: Kube, namespace: str) -> list[Permission]:
    """What `first_content` needs in the namespace. Raises KubeError."""
    everything = await namespaced_resources(kube)
    groups = [(version.rpartition("/")[0], resource) for version, resource in everything if resource not in _UNTOLD]
    return [Permission("list", resource, group, namespace) for group, resource in groups]


async def _first(
    kube: Kube, namespace: str, goes_anyway: Callable[[str, Metadata], bool], places: list[tuple[str, str]]
) -> str:
    contents = (_content(kube, namespace, goes_anyway, resource, version) for version, resource in places)
    return next(filter(None, await together(contents)), "")


async def _content(
    kube: Kube, namespace: str, goes_anyway: Callable[[str, Metadata], bool], resource: str, version: str
) -> str:
    try:
        items, _ = await kube.list(path_of(version, resource, namespace), Metadata)
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:  # an extension that has just been taken out
            return ""
        raise
    names = [
        item.metadata.name
        for item in items
        if (resource, item.metadata.name) not in _OF_ITSELF
        and not item.metadata.deletion_timestamp
        and not goes_anyway(resource, item)
    ]
    return f"{resource} {names[0]}" if names else ""
