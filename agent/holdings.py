"""What the resident agent holds between collections: the pieces of the last snapshot, and nothing decoded.

A collection of some measurement types replaces their sections and leaves the others as they were.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import zstandard

from common.canonical import Domain, content_digest, encode
from common.model import CollectionEntry, MeasurementType, Snapshot
from common.section import Pieces, read_manifest, read_outcome, split
from common.wire import MAX_DIGESTS, MAX_FRAME, Blob, Blobs, SectionDigests

_FRAME_ROOM: Final = MAX_FRAME - (1 << 15)
"""Bytes of content in one Blobs frame, leaving room for its digests."""


class Holdings:
    """Sections, outcome and content of this node. `order` names all collectors, in the order of `collection:`."""

    def __init__(self, order: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._order = {name: index for index, name in enumerate(order)}
        self._clock = clock
        self._collected_at = clock()
        self._entries: list[CollectionEntry] = []
        self._outcome_content = b""
        self._contents: dict[MeasurementType, dict[bytes, bytes]] = {}
        self.sections: dict[MeasurementType, SectionDigests] = {}
        self.outcome: bytes | None = None
        """None before the first collection."""

    @property
    def age(self) -> float:
        """Seconds since the last collection."""
        return max(0.0, self._clock() - self._collected_at)

    def take(self, snapshot: Snapshot, kinds: Iterable[MeasurementType]) -> None:
        """Hold a new snapshot of these measurement types."""
        replaced = set(kinds)
        pieces = split(snapshot)
        for section in pieces.sections:
            if section.kind in replaced:
                self.sections[section.kind] = section
                self._contents[section.kind] = dict(_contents_of(section, pieces))
        fresh = read_outcome(pieces.contents[pieces.outcome])
        kept = [entry for entry in self._entries if entry.type not in replaced]
        self._entries = sorted([*kept, *fresh], key=lambda entry: self._order.get(entry.collector, len(self._order)))
        self._outcome_content = encode(self._entries)
        self.outcome = content_digest(Domain.OUTCOME, self._outcome_content)
        self._collected_at = self._clock()

    def answer(self, wanted: Iterable[bytes]) -> Iterator[Blobs]:
        """The content of these digests, in frames within the limits; what is not held is named as missing."""
        blobs: list[Blob] = []
        missing: list[bytes] = []
        size = 0
        compressor = zstandard.ZstdCompressor(level=3)
        for digest in wanted:
            content = self._find(digest)
            if content is None:
                missing.append(digest)
                continue
            compressed = compressor.compress(content)
            if blobs and (size + len(compressed) > _FRAME_ROOM or len(blobs) == MAX_DIGESTS):
                yield Blobs(blobs)
                blobs, size = [], 0
            blobs.append(Blob(digest, compressed))
            size += len(compressed)
        if blobs or missing:
            yield Blobs(blobs, missing)

    def _find(self, digest: bytes) -> bytes | None:
        if digest == self.outcome:
            return self._outcome_content
        return next((held[digest] for held in self._contents.values() if digest in held), None)


def _contents_of(section: SectionDigests, pieces: Pieces) -> Iterator[tuple[bytes, bytes]]:
    """Everything that one section refers to."""
    digests = [section.stable, *read_manifest(pieces.contents[section.stable]).subtypes.values()]
    if section.identity is not None:
        digests.append(section.identity)
    return ((digest, pieces.contents[digest]) for digest in digests)
