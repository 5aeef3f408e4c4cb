"""The objects of the fake API server: versions, history, validation, and server-side apply on flat fields."""

import base64
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec

Json = dict[str, Any]
Key = tuple[str, str]  # namespace, name

MOST_CONFIGMAP_BYTES: Final = 1 << 20


class RefusalError(Exception):
    """An answer other than success, as a meta/v1 Status."""

    def __init__(self, status: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": status,
            "reason": reason,
            "message": message,
            "details": details,
        }


@dataclass(frozen=True)
class Resource:
    """One kind of object."""

    plural: str
    kind: str
    api_version: str = "v1"
    namespaced: bool = True
    verbs: tuple[str, ...] = ("create", "delete", "get", "list", "patch", "update", "watch")


RESOURCES: Final = (
    Resource("nodes", "Node", namespaced=False),
    Resource("namespaces", "Namespace", namespaced=False),
    Resource("pods", "Pod"),
    Resource("configmaps", "ConfigMap"),
    Resource("events", "Event"),
    Resource("jobs", "Job", "batch/v1"),
)


P = ParamSpec("P")


def _alone(change: "Callable[Concatenate[Store, P], Json]") -> "Callable[Concatenate[Store, P], Json]":
    """Tests change objects too, from another thread: no two changes get one version, or the wrong order."""

    @wraps(change)
    def alone(store: "Store", /, *arguments: P.args, **more: P.kwargs) -> Json:
        with store.lock:
            return change(store, *arguments, **more)

    return alone


@dataclass
class Store:
    """All objects, and every change since the last compaction."""

    on_change: Callable[[], None] = lambda: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    objects: dict[str, dict[Key, Json]] = field(default_factory=dict)
    owned: dict[tuple[str, Key], dict[tuple[str, str], set[tuple[str, ...]]]] = field(default_factory=dict)
    history: list[tuple[int, str, str, Json]] = field(default_factory=list)
    version: int = 100
    oldest: int = 0
    """Changes up to here are forgotten: asking for them gives 410."""

    def compact(self) -> None:
        """Forget all history, as etcd does after five minutes."""
        self.oldest = self.version
        self.history.clear()

    def all(self, plural: str, namespace: str = "") -> Iterator[Json]:
        for (place, _), item in sorted(self.objects.get(plural, {}).items()):
            if not namespace or place == namespace:
                yield item

    def get(self, resource: Resource, key: Key) -> Json:
        try:
            return self.objects[resource.plural][key]
        except KeyError:
            raise RefusalError(
                404, "NotFound", f'{resource.plural} "{key[1]}" not found', name=key[1], kind=resource.plural
            ) from None

    @_alone
    def create(self, resource: Resource, key: Key, body: Json, manager: str = "") -> Json:
        if key in self.objects.get(resource.plural, {}):
            raise RefusalError(
                409,
                "AlreadyExists",
                f'{resource.plural} "{key[1]}" already exists',
                name=key[1],
                kind=resource.plural,
            )
        self.owned[resource.plural, key] = {(manager or "unknown", "Update"): set(_fields(body))}
        return self._store("ADDED", resource, key, body)

    @_alone
    def replace(self, resource: Resource, key: Key, body: Json, manager: str = "") -> Json:
        self._check_version(resource, key, self.get(resource, key), body)
        self.owned[resource.plural, key] = {(manager or "unknown", "Update"): set(_fields(body))}
        return self._store("MODIFIED", resource, key, body)

    @_alone
    def merge(self, resource: Resource, key: Key, patch: Json) -> Json:
        """RFC 7386."""
        current = self.get(resource, key)
        self._check_version(resource, key, current, patch)
        return self._store("MODIFIED", resource, key, _merged(current, patch))

    @_alone
    def apply(self, resource: Resource, key: Key, body: Json, manager: str, force: bool) -> Json:
        """Server-side apply: `manager` owns exactly the fields of `body`; what it owned before and left out goes."""
        current = self.objects.get(resource.plural, {}).get(key)
        if current is not None:
            self._check_version(resource, key, current, body)
        owned = self.owned.setdefault((resource.plural, key), {})
        wanted, mine = set(_fields(body)), owned.get((manager, "Apply"), set())
        result = deepcopy(current) if current else {"metadata": {}}
        for other, fields in list(owned.items()):
            if other == (manager, "Apply"):
                continue
            clash = {path for path in fields & wanted if _at(result, path) != _at(body, path)}
            if clash and not force:
                raise RefusalError(
                    409, "Conflict", f'Apply failed with {len(clash)} conflict: conflict with "{other[0]}"'
                )
            owned[other] = fields - clash
        for path in mine - wanted:
            if not any(path in fields for other, fields in owned.items() if other != (manager, "Apply")):
                _remove(result, path)
        for path in wanted:
            _put(result, path, _at(body, path))
        owned[manager, "Apply"] = wanted
        before = deepcopy(current) if current else None
        if before is not None and _content(before) == _content(result):
            return current or {}
        return self._store("MODIFIED" if current else "ADDED", resource, key, result)

    @_alone
    def delete(self, resource: Resource, key: Key, preconditions: Json | None = None) -> Json:
        current = self.get(resource, key)
        for name, wanted in (preconditions or {}).items():
            if current["metadata"].get(name) != wanted:
                raise RefusalError(409, "Conflict", f"Precondition failed: {name}")
        self.objects[resource.plural].pop(key)
        self.owned.pop((resource.plural, key), None)
        self.version += 1
        gone = deepcopy(current)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self.history.append((self.version, "DELETED", resource.plural, gone))
        self.on_change()
        return gone

    def _check_version(self, resource: Resource, key: Key, current: Json, body: Json) -> None:
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != current["metadata"]["resourceVersion"]:
            raise RefusalError(409, "Conflict", f'Operation cannot be fulfilled on {resource.plural} "{key[1]}"')

    def _store(self, change: str, resource: Resource, key: Key, body: Json) -> Json:
        current = self.objects.get(resource.plural, {}).get(key)
        item = deepcopy(body)
        _validate(resource, key, item, current)
        self.version += 1
        meta = item.setdefault("metadata", {})
        meta["name"] = key[1]
        if resource.namespaced:
            meta["namespace"] = key[0]
        meta["resourceVersion"] = str(self.version)
        old = (current or {}).get("metadata", {})
        meta["uid"] = old.get("uid") or meta.get("uid") or str(uuid.uuid4())
        stamp = meta.get("creationTimestamp") or "2026-01-03T10:30:00Z"
        meta["creationTimestamp"] = old.get("creationTimestamp") or stamp
        meta["managedFields"] = [
            {"manager": manager, "operation": operation}
            for (manager, operation), fields in self.owned.get((resource.plural, key), {}).items()
            if fields
        ]
        item |= {"kind": resource.kind, "apiVersion": resource.api_version}
        self.objects.setdefault(resource.plural, {})[key] = item
        self.history.append((self.version, change, resource.plural, deepcopy(item)))
        self.on_change()
        return item


def _validate(resource: Resource, key: Key, item: Json, current: Json | None) -> None:
    if resource.plural != "configmaps":
        return
    size = sum(len(text.encode()) for text in item.get("data", {}).values())
    size += sum(len(base64.b64decode(text, validate=True)) for text in item.get("binaryData", {}).values())
    if size > MOST_CONFIGMAP_BYTES:
        raise RefusalError(
            422, "Invalid", f'ConfigMap "{key[1]}" is invalid: []: Too long: may not be more than 1048576 bytes'
        )
    if current and current.get("immutable") and any(current.get(k) != item.get(k) for k in ("data", "binaryData")):
        raise RefusalError(422, "Invalid", f'ConfigMap "{key[1]}" is invalid: data: field is immutable')


def _fields(body: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Leaf fields that can be owned."""
    for name, value in body.items():
        if not path and name in ("kind", "apiVersion"):
            continue
        if path == ("metadata",) and name not in ("labels", "annotations"):
            continue
        if isinstance(value, dict):
            yield from _fields(value, (*path, name))
        else:
            yield (*path, name)


def _at(item: Json, path: tuple[str, ...]) -> Any:
    for name in path:
        item = item.get(name, {}) if isinstance(item, dict) else {}
    return item


def _put(item: Json, path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        item = item.setdefault(name, {})
    item[path[-1]] = value


def _remove(item: Json, path: tuple[str, ...]) -> None:
    for name in path[:-1]:
        item = item.get(name, {})
    item.pop(path[-1], None)


def _content(item: Json) -> Json:
    meta = {k: v for k, v in item.get("metadata", {}).items() if k in ("labels", "annotations")}
    return {**{k: v for k, v in item.items() if k not in ("kind", "apiVersion")}, "metadata": meta}


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def matches(item: Json, query: Mapping[str, str]) -> bool:
    """Whether label and field selectors of a request choose it."""
    labels = item.get("metadata", {}).get("labels", {})
    for term in filter(None, query.get("labelSelector", "").split(",")):
        name, _, value = term.partition("=")
        if labels.get(name) != value:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        name, _, value = term.partition("=")
        found: Any = item
        for part in name.split("."):
            found = found.get(part, "") if isinstance(found, dict) else ""
        if found != value:
            return False
    return True
