"""Looks at what is there and asks what the user may do, before anything is changed."""

from typing import Any, Final

from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.namespaces import to_see_content
from common.kube.permissions import Permission, check, refuse_missing
from common.kube.together import together
from common.kube.types import Metadata
from common.refs import PUBLISHED
from installer import ownership
from installer.applying import Found, apply
from installer.objects import AGENT, AGGREGATOR, ISSUED, WRITTEN, Item, is_ours
from installer.ownership import conflict, is_helms
from installer.rendering import Manifest
from installer.settings import PART_OF, PRODUCT

_ASK: Final = "Nothing was changed. Ask a cluster administrator for these, or to run this."
_BUILT_IN: Final = frozenset(("apps", "policy"))
_WATCHED: Final = (("pods", ""), ("deployments", "apps"), ("daemonsets", "apps"))
_REMOVED: Final = (("secrets", ""), ("configmaps", ""), ("leases", "coordination.k8s.io"))
_BOTH: Final = ("get", "delete")


async def look(kube: Kube, items: list[Item], *, strictly: bool = False) -> Found:
    """What of these is there.

    What may not be read counts as not there, and the permission check says so; unless `strictly`, which raises.
    """

    async def get(item: Item) -> Manifest | None:
        try:
            found: Manifest = await kube.get(item.path, dict[str, Any])
        except KubeError as error:
            if error.code is Code.CLUSTER_NOT_FOUND or (error.code is Code.CLUSTER_FORBIDDEN and not strictly):
                return None
            raise
        return found

    answers = await together(get(item) for item in items)
    return {item.path: found for item, found in zip(items, answers, strict=True) if found is not None}


def refuse_foreign(items: list[Item], found: Found) -> None:
    """Raise ClusterError (CLUSTER_CONFLICT) when something is there under our names that is not ours to change."""
    for item in items:
        if (there := found.get(item.path)) is not None:
            try:
                ownership.refuse_foreign(item, there)
            except ClusterError as error:
                raise conflict(error.message, f"Nothing was changed. {error.hint}") from error
    elsewhere = installed_in(found)
    here = next(item.name for item in items if item.kind == "Namespace")
    if elsewhere not in ("", here):
        raise conflict(f"Eidos is installed in namespace {elsewhere}, and a cluster holds one",
                       f"Use --namespace {elsewhere}, or remove that first: eidos fleet uninstall.")  # fmt: skip


def refuse_helms(items: list[Item], found: Found) -> None:
    """Raise ClusterError (CLUSTER_CONFLICT) when a release of Helm's would be removed behind its back."""
    for item in items:
        if item.path in found and is_ours(found[item.path]) and is_helms(found[item.path]):
            raise conflict(
                f"{item} was installed by Helm",
                "Nothing was changed. Use helm uninstall; this removes afterwards what the aggregator wrote.",
            )


def installed_in(found: Found) -> str:
    """The namespace of the installation that cluster-wide objects belong to; empty when there is none."""
    for there in found.values():
        if there["kind"] == "ClusterRoleBinding" and is_ours(there):
            for subject in there.get("subjects") or ():
                if subject.get("name") in (AGGREGATOR, AGENT):
                    return str(subject.get("namespace", ""))
    return ""


async def left_in(kube: Kube) -> str:
    """The namespace of workloads of ours, or one that we made, where nothing cluster-wide tells; empty without one.

    What the user may not list counts as not there.
    """
    selector = {"labelSelector": f"{PART_OF}={PRODUCT}"}
    for resource in ("daemonsets", "deployments"):
        for found in await _listed(kube, path_of("apps/v1", resource), selector):
            return found.metadata.namespace
    for found in await _listed(kube, path_of("v1", "namespaces"), selector):
        return found.metadata.name
    return ""


async def _listed(kube: Kube, path: str, selector: dict[str, str]) -> list[Metadata]:
    try:
        return (await kube.list(path, Metadata, selector))[0]
    except KubeError as error:
        if error.code in (Code.CLUSTER_FORBIDDEN, Code.CLUSTER_NOT_FOUND):
            return []
        raise


async def written_in(kube: Kube, items: list[Item], found: Found) -> str:
    """Something that an aggregator would write anew and a removal would take along; empty without one."""
    (here,) = (item for item in items if item.kind == "Namespace")
    if here.path not in found:
        return ""

    async def name(api_version: str, resource: str, name: str) -> str:
        try:
            await kube.get(path_of(api_version, resource, here.name, name), Metadata)
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise
            return ""
        return f"{resource} {here.name}/{name}"

    places = (*WRITTEN, *ISSUED, ("v1", "configmaps", PUBLISHED))
    return next(filter(None, await together(name(*place) for place in places)), "")


async def check_permissions(kube: Kube, items: list[Item], found: Found, *, removing: bool = False) -> None:
    """Raise ClusterError (CLUSTER_FORBIDDEN) naming every verb on every resource that the user lacks.

    `removing` is for what removes all again when it is done.
    """
    here = next(item.name for item in items if item.kind == "Namespace")
    needed = [Permission(verb, resource, group, here) for resource, group in _WATCHED for verb in ("list", "watch")]
    for item in items:
        needed += [item.permission("get"), item.permission("patch")]
        needed += [item.permission("create")] if item.path not in found else []
        needed += [item.permission("delete")] if removing else []
        if removing and item.kind == "Namespace":
            needed += [Permission(verb, resource, group, here) for resource, group in _REMOVED for verb in _BOTH]
            if item.path not in found:  # it goes, unless somebody has put something into it
                needed += [item.permission("list"), item.permission("watch"), *await to_see_content(kube, here)]
        if item.kind == "APIService":
            needed += [item.permission("list"), item.permission("watch")]
    refuse_missing(await check(kube, needed), _ASK)


async def check_types(kube: Kube, items: list[Item]) -> None:
    """Raise ClusterError (CLUSTER_NOT_FOUND) when the cluster does not know a type of object."""

    async def known(api_version: str) -> None:
        try:
            await kube.get_bytes(f"/apis/{api_version}")
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise
            kinds = ", ".join(sorted({item.kind for item in items if item.api_version == api_version}))
            raise ClusterError(
                Code.CLUSTER_NOT_FOUND,
                f"the cluster does not know {kinds} ({api_version})",
                "Nothing was changed. Install what defines it, or leave out the overlay that needs it.",
            ) from error

    groups = {item.api_version for item in items if "/" in item.api_version}
    foreign = {version for version in groups if not _is_built_in(version.partition("/")[0])}
    await together(known(version) for version in sorted(foreign))


def _is_built_in(group: str) -> bool:
    return group in _BUILT_IN or group.endswith(".k8s.io")


async def rehearse(kube: Kube, items: list[Item], found: Found) -> None:
    """Let the API server say, by dry runs, what no access review tells: whether we may grant what the roles grant,
    and whether something refuses the objects.

    In a namespace that is not there nothing can be rehearsed.
    """
    missing = {item.name for item in items if item.kind == "Namespace" and item.path not in found}
    chosen = [item for item in items if item.namespace not in missing]
    try:
        await together(apply(kube, item, found, dry=True) for item in chosen)
    except KubeError as error:
        hint = f"Nothing was changed. {error.hint}".rstrip()
        raise ClusterError(error.code, error.message, hint) from error
