"""The objects of manifests/fleet, as `kubectl kustomize` renders them: the little of kustomize that we use.

A kustomization has `resources` (files), and `patches` (RFC 6902, aimed at one object by kind and name). The same
files serve kubectl and this; tests compare the two for every overlay.
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

Manifest = dict[str, Any]

_KUSTOMIZATION: Final = "kustomization.yaml"


def _root() -> Traversable:
    return files("manifests") / "fleet"


def overlays() -> list[str]:
    """The names of all that can be added to the base."""
    return sorted(part.name for part in (_root() / "components").iterdir() if (part / _KUSTOMIZATION).is_file())


def render(chosen: Iterable[str] = ()) -> list[Manifest]:
    """The base with these overlays, in their order. Every call gives objects of its own."""
    objects: list[Manifest] = []
    for folder in (_root() / "base", *(_root() / "components" / name for name in chosen)):
        kustomization = _documents(folder / _KUSTOMIZATION)[0]
        for name in kustomization.get("resources", ()):
            objects += _documents(folder / name)
        for patch in kustomization.get("patches", ()):
            target = patch["target"]
            (aimed_at,) = [
                o for o in objects if (o["kind"], o["metadata"]["name"]) == (target["kind"], target["name"])
            ]
            for operation in _load(patch["patch"])[0]:
                _apply(aimed_at, operation)
    return objects


def _documents(file: Traversable) -> list[Any]:
    return _load(file.read_text(encoding="utf-8"))


def _load(text: str) -> list[Any]:
    import yaml

    return [document for document in yaml.load_all(text, _loader()) if document is not None]


@cache
def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _apply(document: Manifest, operation: dict[str, Any]) -> None:
    """One operation of a JSON patch: add, replace or remove."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    place: Any = document
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    match operation["op"], place:
        case "add", list():
            place.insert(len(place) if last == "-" else int(last), operation["value"])
        case "remove", _:
            del place[int(last) if isinstance(place, list) else last]
        case "replace", list():
            place[int(last)] = operation["value"]
        case (("add" | "replace"), dict()):
            place[last] = operation["value"]
        case other, _:
            raise ValueError(f"{other!r} is not an operation that manifests/fleet uses")
