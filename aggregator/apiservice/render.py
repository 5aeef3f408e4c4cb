"""Objects, lists, tables and watch events as bytes of JSON, piece by piece. No HTTP here."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec

from aggregator.apiservice.collection import Event, Stored
from aggregator.apiservice.request import Form, Selection
from aggregator.apiservice.source import Source
from aggregator.apiservice.types import ObjectMeta
from common.fleet import FLEET_API_VERSION

T = TypeVar("T")

PIECE: Final = 1 << 16
"""Bytes that are worth a write."""
_META: Final = "meta.k8s.io/v1"
_PARTIAL: Final = "PartialObjectMetadata"
_WHOLES_AT_ONCE: Final = 16
_ROW_OBJECTS: Final = {Form.TABLE: Form.METADATA, Form.TABLE_OF_OBJECTS: Form.PLAIN, Form.TABLE_ALONE: None}


class Renderer(Generic[T]):
    """Writes the objects of one kind."""

    def __init__(self, source: Source[T]) -> None:
        self._source = source

    def selects(self, selection: Selection, stored: Stored[T]) -> bool:
        """Whether an object is among those selected."""
        return selection.is_all or selection.matches(stored.labels, lambda name: self._source.field(stored, name))

    def encoded(self, stored: Stored[T], form: Form, head: bool = True) -> bytes:
        """One object; as a table, with or without its columns."""
        if form.is_table:
            return b"".join(self._table(form, stored.version, [stored], head=head))
        item = self._source.item(stored)
        if form is Form.PLAIN:
            return msgspec.json.encode(item)
        kind, api_version = self._type_of(form)
        return msgspec.json.encode({"kind": kind, "apiVersion": api_version, "metadata": item.metadata})

    def _type_of(self, form: Form | None) -> tuple[str, str]:
        """The kind and version of one object that is shown so."""
        return (_PARTIAL, _META) if form is Form.METADATA else (self._source.kind, FLEET_API_VERSION)

    async def listing(
        self, form: Form, version: int, chosen: Sequence[Stored[T]], place: str, whole: bool
    ) -> AsyncIterator[bytes]:
        """A list; `place` is where the next page begins, `whole` asks for objects with everything."""
        if form.is_table:
            for piece in self._table(form, version, chosen, place):
                yield piece
            return
        kind, api_version = self._type_of(form)
        head = {"kind": f"{kind}List", "apiVersion": api_version, "metadata": _list_meta(version, place)}
        yield msgspec.json.encode(head)[:-1] + b',"items":['
        for at in range(0, len(chosen), _WHOLES_AT_ONCE):
            some = chosen[at : at + _WHOLES_AT_ONCE]
            if whole:
                encoded = [msgspec.json.encode(item) for item in await self._source.wholes(some)]
            else:
                encoded = [self.encoded(stored, form) for stored in some]
            yield (b"," if at else b"") + b",".join(encoded)
        yield b"]}\n"

    def _table(
        self, form: Form, version: int, chosen: Iterable[Stored[T]], place: str = "", head: bool = True
    ) -> Iterator[bytes]:
        meta = msgspec.json.encode(_list_meta(version, place))
        columns = msgspec.json.encode(self._columns() if head else [])
        yield b'{"kind":"Table","apiVersion":"' + _META.encode() + b'","metadata":' + meta
        yield b',"columnDefinitions":' + columns + b',"rows":['
        for at, stored in enumerate(chosen):
            row = b'{"cells":' + msgspec.json.encode(self._source.cells(stored)) + b',"object":'
            shown = _ROW_OBJECTS[form]
            yield (b"," if at else b"") + row + (self.encoded(stored, shown) if shown else b"null") + b"}"
        yield b"]}\n"

    def _columns(self) -> "list[dict[str, Any]]":
        return [
            {
                "name": column.name,
                "type": column.type,
                "format": "name" if at == 0 else "",
                "description": column.description,
                "priority": 0 if column.first else 1,
            }
            for at, column in enumerate(self._source.columns)
        ]

    def bookmark(self, form: Form, version: int, annotations: dict[str, str]) -> bytes:
        """The event that nothing else changed up to this version."""
        meta = ObjectMeta(resource_version=str(version), annotations=annotations)
        kind, api_version = self._type_of(_ROW_OBJECTS.get(form, form))
        item: object = {"kind": kind, "apiVersion": api_version, "metadata": meta}
        if form.is_table:
            item = {
                "kind": "Table",
                "apiVersion": _META,
                "metadata": _list_meta(version, ""),
                "columnDefinitions": [],
                "rows": [{"cells": [], "object": item}],
            }
        return event("BOOKMARK", msgspec.json.encode(item))


class WatchRenderer(Generic[T]):
    """Writes the events of one watch, for somebody who sees only what is selected."""

    def __init__(self, renderer: Renderer[T], form: Form, selection: Selection) -> None:
        self._renderer = renderer
        self._form = form
        self._selection = selection
        self._head = True
        """Only the first table of a watch says what its columns are."""

    def everything(self, items: Iterable[Stored[T]]) -> Iterator[bytes]:
        """Every object as if it had just been added."""
        chosen = (stored for stored in items if self._renderer.selects(self._selection, stored))
        return _joined(event("ADDED", self._object(stored)) for stored in chosen)

    def changes(self, events: Iterable[Event[T]]) -> Iterator[bytes]:
        """What changed."""
        return _joined(piece for change in events if (piece := self._change(change)))

    def bookmark(self, version: int, annotations: dict[str, str] | None = None) -> bytes:
        """Nothing else changed up to this version."""
        return self._renderer.bookmark(self._form, version, annotations or {})

    def _change(self, change: Event[T]) -> bytes:
        selects = self._renderer.selects
        before = change.before if change.before and selects(self._selection, change.before) else None
        if change.after is not None and selects(self._selection, change.after):
            return event("MODIFIED" if before else "ADDED", self._object(change.after))
        return event("DELETED", self._object(before._replace(version=change.version))) if before else b""

    def _object(self, stored: Stored[T]) -> bytes:
        head, self._head = self._head, False
        return self._renderer.encoded(stored, self._form, head)


def event(kind: str, encoded: bytes) -> bytes:
    """One line of a watch."""
    return b'{"type":"' + kind.encode() + b'","object":' + encoded.rstrip(b"\n") + b"}\n"


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    pending = bytearray()
    for piece in pieces:
        pending += piece
        if len(pending) >= PIECE:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


def _list_meta(version: int, place: str) -> dict[str, str]:
    return {"resourceVersion": str(version), **({"continue": place} if place else {})}
