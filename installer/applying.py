"""Applies the objects of an installation, in an order in which each finds what it needs."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple

from common.errors import ClusterError, Code
from common.kube.client import Kube
from common.kube.together import together
from installer.objects import Item, images, is_ours
from installer.rendering import Manifest

Found = dict[str, Manifest]
"""What is there already, by path."""

_SECURITY: Final = "pod-security.kubernetes.io/"
_ENFORCE: Final = f"{_SECURITY}enforce"
_LEVELS: Final = ("privileged", "baseline", "restricted")
"""Of Pod Security, each stricter than the one before."""


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
    shared = before if item.kind == "Namespace" and before is not None and not is_ours(before) else None
    wanted = missing_security_labels(item.manifest, shared) if shared else item.manifest
    params = {"dryRun": "All"} if dry else None
    after: Manifest = await kube.apply(item.path, wanted, dict[str, Any], force=shared is None, params=params)
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


def missing_security_labels(namespace: Manifest, there: Manifest) -> Manifest:
    """The Pod Security labels that the agents need and the namespace has not: a level that admits them stays.

    Raises ClusterError when its own level does not.
    """
    name, own = namespace["metadata"]["name"], there["metadata"].get("labels", {})
    wanted = {key: value for key, value in namespace["metadata"]["labels"].items() if key.startswith(_SECURITY)}
    level = own.get(_ENFORCE)
    if level in _LEVELS and _LEVELS.index(level) > _LEVELS.index(wanted[_ENFORCE]):
        raise ClusterError(
            Code.CLUSTER_CONFLICT,
            f"namespace {name} admits only pods of Pod Security level {level}, and agents need {wanted[_ENFORCE]}",
            "Choose another --namespace, or --overlay restricted.",
        )
    labels = {key: value for key, value in wanted.items() if key not in own}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
