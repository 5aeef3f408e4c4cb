"""Applies the objects of an installation, in an order in which each finds what it needs."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple

from common.errors import ClusterError, Code
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.together import together
from installer.objects import Item, images, is_created_by_us, is_made_by_us, marked_as_created
from installer.ownership import refuse_foreign
from installer.rendering import Manifest

Found = dict[str, Manifest]
"""What is there already, by path."""

_FIELDS_TOLD: Final = 5
_THE_CLUSTERS: Final = frozenset(
    ("status", "metadata.annotations", "metadata.generation", "metadata.managedFields", "metadata.resourceVersion")
)
_OF_ITSELF: Final = frozenset(("generation", "managedFields", "resourceVersion"))
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
    fields: tuple[str, ...] = ()
    """What else differs, as kubectl explain names it."""

    def __str__(self) -> str:
        before, after = self.images
        told = [f"image {before} -> {after}"] if before else []
        told += self.fields[:_FIELDS_TOLD] + (("…",) if len(self.fields) > _FIELDS_TOLD else ())
        return f"{self.what} {self.effect.value}" + (f": {', '.join(told)}" if told else "")


async def apply(kube: Kube, item: Item, found: Found, *, dry: bool = False) -> Change:
    """Server-side apply of one object. Raises ClusterError.

    What was not there is looked for again: minutes may have passed, and somebody may have made it.
    """
    before = found.get(item.path) if dry or item.path in found else await _made_since(kube, item)
    is_shared = item.kind == "Namespace" and before is not None and not is_made_by_us(before)
    wanted = _namespace(item.manifest, before) if item.kind == "Namespace" else item.manifest
    params = {"dryRun": "All"} if dry else None
    # Nothing is taken over of what appears at this very moment.
    force = before is not None and not is_shared
    after: Manifest = await kube.apply(item.path, wanted, dict[str, Any], force=force, params=params)
    generation = int(after["metadata"].get("generation", 0))
    fields = changed_fields(before, after) if before else ()
    return Change(str(item), _effect(before, after), _images(before, after), generation, fields)


def _namespace(wanted: Manifest, before: Manifest | None) -> Manifest:
    """As it is to be applied. Somebody else's gets what the agents need, if nobody has said otherwise."""
    if before is not None and not is_made_by_us(before):
        return missing_security_labels(wanted, before)
    return marked_as_created(wanted) if before is None or is_created_by_us(before) else wanted


async def _made_since(kube: Kube, item: Item) -> Manifest | None:
    """What somebody has made since we looked: ours by another who installs, or refused with ClusterError."""
    try:
        there: Manifest = await kube.get(item.path, dict[str, Any])
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            return None
        raise
    try:
        refuse_foreign(item, there)
    except ClusterError as error:
        hint = f"It was made while this was at work. {error.hint}"
        raise ClusterError(error.code, error.message, hint) from error
    return there


async def apply_all(kube: Kube, items: Iterable[Item], found: Found) -> list[Change]:
    """Apply objects that do not need each other. Raises the first ClusterError once all have been tried."""
    return await together(apply(kube, item, found) for item in items)


def _effect(before: Manifest | None, after: Manifest) -> Effect:
    if before is None:
        return Effect.CREATED
    return Effect.UNCHANGED if _said(before) == _said(after) else Effect.CHANGED


def _said(manifest: Manifest) -> Manifest:
    """What somebody has said of an object. Its version is another one with each change of its status, too."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in _OF_ITSELF}
    return {**manifest, "metadata": metadata, "status": None}


def _images(before: Manifest | None, after: Manifest) -> tuple[str, str]:
    old, new = (", ".join(images(manifest)) if manifest else "" for manifest in (before, after))
    return (old, new) if old and old != new else ("", "")


def changed_fields(before: Manifest, after: Manifest) -> tuple[str, ...]:
    """Where two states of an object differ, but for images, and for what the cluster writes itself."""
    found: list[str] = []
    _compare(before, after, "", found)
    return tuple(found)


def _compare(before: Any, after: Any, path: str, found: list[str]) -> None:
    if before == after or path in _THE_CLUSTERS or path.endswith("].image"):
        return
    old, new = _parts(before), _parts(after)
    if old is None or new is None:
        found.append(path)
        return
    for key in sorted(old.keys() | new.keys()):
        inner = f"{path}{key}" if key.startswith("[") or not path else f"{path}.{key}"
        _compare(old.get(key), new.get(key), inner, found)


def _parts(value: Any) -> dict[str, Any] | None:
    """The parts of a mapping, or of a list of things with names; None for what is compared as a whole."""
    if isinstance(value, dict):
        return {str(key): part for key, part in value.items()}
    if isinstance(value, list) and value and all(isinstance(part, dict) and "name" in part for part in value):
        return {f"[{part['name']}]": part for part in value}
    return None


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
