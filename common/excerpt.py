"""What of a document stays readable in its ConfigMap when the whole is in shards.

An excerpt of a Snapshot is a valid Snapshot: its largest subtypes are left out, and `collection:` says of each that
it failed as too large, so that no reader takes it for absent and `eidos diff` calls it incomparable.
"""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from common.errors import EidosError, OutputError
from common.model import CollectionEntry, FailureCode, Measurement, MeasurementType, Snapshot, State

Excerpt = Callable[[int], bytes]
"""Gives a document's readable part in at most so many bytes."""

_REASON: Final = (
    "left out of this text, which may be 1 MiB at most; `eidos` reads the whole from the shards beside it"
)

_Place = tuple[MeasurementType, str]


def excerpt_of(document: Snapshot, render: Callable[[Snapshot], bytes]) -> Excerpt:
    """The excerpts of a Snapshot, written as `render` writes it."""
    return lambda limit: shorten(document, render, limit)


def excerpt_of_bytes(content: bytes, source: str) -> Excerpt:
    """The excerpts of a document of which only the bytes are at hand. What is no Snapshot is cut after a line."""

    def excerpt(limit: int) -> bytes:
        from common.formats import Format, dump, load_snapshot

        try:
            document = load_snapshot(content, source)
        except EidosError:
            return _cut(content, limit)
        written = Format.JSON if content.lstrip()[:1] == b"{" else Format.YAML
        return shorten(document, lambda part: dump(part, written), limit)

    return excerpt


def _cut(content: bytes, limit: int) -> bytes:
    end = f"\n# {_REASON}\n".encode()
    start = content[: limit - len(end)]
    return start[: start.rfind(b"\n")] + end if b"\n" in start else end


def shorten(document: Snapshot, render: Callable[[Snapshot], bytes], limit: int) -> bytes:
    """The document without as many of its largest subtypes as it takes to fit. Raises OutputError if none helps."""
    sizes = {
        (measurement.type, subtype.subtype): len(msgspec.json.encode(subtype))
        for measurement in document.measurements
        for subtype in measurement.subtypes
    }
    remaining = sorted(sizes, key=lambda place: (-sizes[place], place))
    left_out: set[_Place] = set()
    # Sizes in JSON are estimates: how much longer the rendered text is is taken to be the same throughout.
    scale, excess = 1.0, sum(sizes.values()) - limit
    while True:
        while remaining and excess > 0:
            place = remaining.pop(0)
            left_out.add(place)
            excess -= int(sizes[place] * scale)
        content = render(_without(document, left_out))
        excess = len(content) - limit
        if excess <= 0:
            return content
        if not remaining:
            raise OutputError("the snapshot is too large to store, even without its measurements")
        scale = len(content) / sum(sizes[place] for place in remaining)


def _without(document: Snapshot, left_out: set[_Place]) -> Snapshot:
    measurements = [
        Measurement(measurement.type, kept)
        for measurement in document.measurements
        if (kept := [s for s in measurement.subtypes if (measurement.type, s.subtype) not in left_out])
    ]
    collection = [*document.collection, *_lines(document, left_out)]
    return msgspec.structs.replace(document, collection=collection, measurements=measurements)


def _lines(document: Snapshot, left_out: set[_Place]) -> Iterable[CollectionEntry]:
    names = {entry.type: entry.collector for entry in reversed(document.collection)}
    for kind, subtype in sorted(left_out):
        yield CollectionEntry(
            collector=names.get(kind, kind.value.lower()),
            type=kind,
            state=State.FAILED,
            subtype=subtype,
            code=FailureCode.TOO_LARGE,
            reason=_REASON,
        )
