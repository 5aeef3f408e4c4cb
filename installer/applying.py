"""Applies the objects of an installation, in an order in which each finds what it needs."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple

from common.errors import ClusterError, Code
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.together import together
from installer.objects import Item, images, is_ours
from installer.rendering import Manifest

Found = dict[str, Manifest]
"""What is there already, by path."""

_SECURITY: Final = "pod-security.kubernetes.io/"


class Effect(StrEnum):
    """What applying an object did."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REMOVED = "removed"


class Change(NamedTuple):
    """One object, and what became of it."""

    what: str
    effect: Effect
    images: tuple[str, str] = ("", "")
    """Before and after, where they differ."""
    generation: int = 0
    """Of the object as it is now."""

    def __str__(self) -> str:
        before, after = self.images
        return f"{self.what} {self.effect.value}" + (f": image {before} -> {after}" if before else "")


async def apply(kube: Kube, item: Item, found: Found, *, dry: bool = False) -> Change:
    """Server-side apply of one object. Raises KubeError."""
    before = found.get(item.path)
    # Somebody else's namespace gets what the agents need, if nobody has said otherwise; the rest is taken over.
    shared = item.kind == "Namespace" and before is not None and not is_ours(before)
    wanted = _security_labels(item.manifest) if shared else item.manifest
    params = {"dryRun": "All"} if dry else None
    try:
        after: Manifest = await kube.apply(item.path, wanted, dict[str, Any], force=not shared, params=params)
    except KubeError as error:
        if shared and error.code is Code.CLUSTER_CONFLICT:
            raise ClusterError(
                Code.CLUSTER_CONFLICT,
                f"namespace {item.name} has Pod Security labels of its own, which do not admit the agents",
                "Choose another --namespace.",
            ) from error
        raise
    generation = int(after["metadata"].get("generation", 0))
    return Change(str(item), _effect(before, after), _images(before, after), generation)


async def apply_all(kube: Kube, items: Iterable[Item], found: Found) -> list[Change]:
    """Apply objects that do not need each other. Raises the first KubeError once all have been tried."""
    return await together(apply(kube, item, found) for item in items)


def _effect(before: Manifest | None, after: Manifest) -> Effect:
    if before is None:
        return Effect.CREATED
    same = before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
    return Effect.UNCHANGED if same else Effect.CHANGED


def _images(before: Manifest | None, after: Manifest) -> tuple[str, str]:
    old, new = (", ".join(images(manifest)) if manifest else "" for manifest in (before, after))
    return (old, new) if old and old != new else ("", "")


def _security_labels(namespace: Manifest) -> Manifest:
    labels = {key: value for key, value in namespace["metadata"]["labels"].items() if key.startswith(_SECURITY)}
    name = namespace["metadata"]["name"]
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
