"""From plain values to a Snapshot, tolerant of every generation of the document.

Old documents may have `source` for `source-node`, no `collection`, nulls for empty text, maps or lists, scalars of
any type in metadata, the same subtype more than once, and any order. None of that loses data. A NodeSnapshot, as
`kubectl get nodesnapshot NODE -o yaml` writes it, is read as the Snapshot in it.
"""

from collections.abc import Iterator
from typing import Final, NoReturn, TypeVar

from common.api_numbers import from_the_api
from common.document import Document, source_name
from common.errors import Code, InputError
from common.model import (
    READABLE_API_VERSIONS,
    CollectionEntry,
    FailureCode,
    MeasurementType,
    Metadata,
    Scalar,
    Snapshot,
    State,
    Subtype,
    in_order,
)

_T = TypeVar("_T", MeasurementType, State)

_KIND: Final = "Snapshot"
_WRAPPING: Final = "NodeSnapshot"


def read_snapshot(document: Document, source: str) -> Snapshot:
    """The Snapshot in a document. Raises InputError (wrong kind, or malformed) naming the source and the place."""
    return _Reader(source_name(source), document.lines).snapshot(document.value)


class _Reader:
    def __init__(self, source: str, lines: dict[int, int]) -> None:
        self._source = source
        self._lines = lines

    def snapshot(self, root: object) -> Snapshot:
        if not isinstance(root, dict):
            raise InputError(
                Code.INPUT_WRONG_KIND, f"{self._source} holds {_what(root)}, not a {_KIND} (a mapping with `kind`)"
            )
        if root.get("kind") == _WRAPPING:
            root = self._mapping(root, "snapshot", "snapshot")
            if not root:
                self._fail("nothing is known of this node yet: it is a NodeSnapshot without a snapshot")
        self._check_kind(root)
        if "measurements" not in root:
            self._fail("it has no measurements", root)
        return Snapshot(
            api_version=str(root["apiVersion"]),
            metadata=self._metadata(self._mapping(root, "metadata", "metadata")),
            collection=list(self._collection(root)),
            measurements=in_order(self._subtypes(root)),
        )

    def _check_kind(self, root: dict[str, object]) -> None:
        kind, version = root.get("kind"), root.get("apiVersion")
        if kind is None:
            raise InputError(Code.INPUT_WRONG_KIND, f"{self._source} has no `kind`, so it is not a {_KIND}")
        if kind != _KIND:
            hint = (
                "Its snapshot, if it has one, is the text under data, snapshot.yaml." if kind == "ConfigMap" else ""
            )
            raise InputError(Code.INPUT_WRONG_KIND, f"{self._source} is of kind {_short(kind)}, not {_KIND}", hint)
        if version not in READABLE_API_VERSIONS:
            stated = f"has apiVersion {_short(version)}" if version is not None else "has no apiVersion"
            raise InputError(
                Code.INPUT_WRONG_KIND,
                f"{self._source} is a {_KIND}, but it {stated}",
                f"What is read: {', '.join(READABLE_API_VERSIONS)}.",
            )

    def _metadata(self, metadata: dict[str, object]) -> Metadata:
        def text(*names: str) -> str:
            return next((_text(metadata[name]) for name in names if metadata.get(name) is not None), "")

        return Metadata(
            version=text("version"), source_node=text("source-node", "source"), timestamp=text("timestamp")
        )

    def _collection(self, root: dict[str, object]) -> Iterator[CollectionEntry]:
        for place, entry in self._mappings(root, "collection", "collection"):
            code = _text(entry.get("code"))
            known = code in FailureCode.__members__.values()
            yield CollectionEntry(
                collector=self._name(entry, "collector", place),
                type=self._member(MeasurementType, entry, "type", place),
                state=self._member(State, entry, "state", place),
                subtype=_text(entry.get("subtype")),
                # A code of a later version is still a failure; its reason says what it was.
                code=FailureCode(code) if known else FailureCode.INTERNAL if code else None,
                reason=_text(entry.get("reason")),
                subtypes=self._texts(entry, "subtypes", place),
            )

    def _subtypes(self, root: dict[str, object]) -> Iterator[tuple[MeasurementType, Subtype]]:
        for place, measurement in self._mappings(root, "measurements", "measurements"):
            kind = self._member(MeasurementType, measurement, "type", place)
            for inner, subtype in self._mappings(measurement, "subtypes", f"{place}.subtypes"):
                data = self._mapping(subtype, "data", f"{inner}.data")
                context = self._mapping(subtype, "context", f"{inner}.context")
                yield (
                    kind,
                    Subtype(
                        self._name(subtype, "subtype", inner),
                        {
                            key: from_the_api(kind, self._scalar(value, data, f"{inner}.data", key))
                            for key, value in data.items()
                        },
                        {
                            key: _text(self._scalar(value, context, f"{inner}.context", key))
                            for key, value in context.items()
                        },
                    ),
                )

    def _scalar(self, value: object, container: object, place: str, key: str) -> Scalar:
        if value is None:
            return ""  # `ro:` says that the key is there and empty
        if isinstance(value, str | int | float):
            return value
        self._fail(f"{place}.{key} is {_what(value)}, not text, a number or true or false", value, container)

    def _mapping(self, parent: dict[str, object], key: str, place: str) -> dict[str, object]:
        value = parent.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._fail(f"{place} is {_what(value)}, not a mapping", value, parent)
        return value

    def _mappings(self, parent: dict[str, object], key: str, place: str) -> Iterator[tuple[str, dict[str, object]]]:
        value = parent.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            self._fail(f"{place} is {_what(value)}, not a list", value, parent)
        for index, item in enumerate(value):
            if not isinstance(item, dict):
                self._fail(f"{place}[{index}] is {_what(item)}, not a mapping", item, value)
            yield f"{place}[{index}]", item

    def _texts(self, entry: dict[str, object], key: str, place: str) -> tuple[str, ...]:
        value = entry.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._fail(f"{place}.{key} is not a list of texts", value, entry)
        return tuple(value)

    def _name(self, entry: dict[str, object], key: str, place: str) -> str:
        name = _text(entry.get(key))
        if not name:
            self._fail(f"{place} has no {key}", entry)
        return name

    def _member(self, kind: type[_T], entry: dict[str, object], key: str, place: str) -> _T:
        name = self._name(entry, key, place)
        try:
            return kind(name)
        except ValueError:
            self._fail(f"{place} has the {key} {_short(name)!r}, which is none of {', '.join(kind)}", entry)

    def _fail(self, problem: str, *places: object) -> NoReturn:
        """Raise, with the line of the innermost place that has one."""
        line = next((self._lines[id(place)] for place in places if id(place) in self._lines), 0)
        where = f"{self._source}, line {line}," if line else self._source
        raise InputError(Code.INPUT_MALFORMED, f"{where} is not a Snapshot that can be read: {problem}")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else _what(value)


def _short(value: object) -> str:
    """A value as quoted in a message: one of 60 MB must not make a sentence of 60 MB."""
    text = _text(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _what(value: object) -> str:
    """A value's type in words."""
    if value is None:
        return "nothing"
    words = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return words[type(value)]
