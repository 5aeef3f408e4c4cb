"""One snapshot as `common/diff.py` asks it: what it has, and what it says about what it has not. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from common.folded_keys import split_key
from common.model import CollectionEntry, MeasurementType, Scalar, Snapshot, State

Subject: TypeAlias = tuple[MeasurementType, str]
"""A measurement type and a subtype's name."""


class Reading(StrEnum):
    """What one side says about one subtype."""

    READ = "read"
    FALLBACK = "fallback"  # data, although its collector failed
    ABSENT = "absent"
    FAILED = "failed"
    UNKNOWN = "unknown"


class IndexedSnapshot:
    """One snapshot, indexed."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.node = snapshot.metadata.source_node
        self.version = snapshot.metadata.version
        self.has_collection = bool(snapshot.collection)
        self.data: dict[Subject, Mapping[str, Scalar]] = {
            (measurement.type, subtype.subtype): subtype.data
            for measurement in snapshot.measurements
            for subtype in measurement.subtypes
        }
        self.types = {measurement.type for measurement in snapshot.measurements}
        self.collectors: dict[str, CollectionEntry] = {}
        self.endings: dict[Subject, CollectionEntry] = {}
        self.owners: dict[Subject, str] = {}
        self.unread_parts: dict[Subject, list[str]] = {}
        for entry in snapshot.collection:
            if entry.subtype:
                self.endings[entry.type, entry.subtype] = entry
                self.owners[entry.type, entry.subtype] = entry.collector
                base, part = split_part(entry.subtype)
                if part:
                    self.unread_parts.setdefault((entry.type, base), []).append(part)
            else:
                self.collectors[entry.collector] = entry
                self.owners.update(dict.fromkeys(((entry.type, name) for name in entry.subtypes), entry.collector))

    def reading(self, subject: Subject, owner: str | None, other: "IndexedSnapshot") -> tuple[Reading, str]:
        """How the subtype stands here, and why. `owner` is its collector, if either document says."""
        ran = self._collectors_of(subject, owner)
        broken = next((entry for entry in ran if failed_as_a_whole(entry)), None)
        if subject in self.data:
            return (Reading.FALLBACK, reason_of(broken)) if broken and owner else (Reading.READ, "")
        if ending := self.endings.get(subject):
            return (Reading.FAILED if ending.state is State.FAILED else Reading.ABSENT), reason_of(ending)
        if subject in self.owners:  # read, but nothing of it is written
            return Reading.READ, ""
        if not self.has_collection:
            if not other.has_collection and subject[0] in self.types:
                return Reading.ABSENT, ""
            return Reading.UNKNOWN, "not in the snapshot, which does not say whether it was read"
        if not ran:
            return Reading.UNKNOWN, "not collected"
        if broken:
            return Reading.FAILED, reason_of(broken)
        if all(entry.state is State.ABSENT for entry in ran):
            return Reading.ABSENT, reason_of(ran[0])
        if self.version == other.version:
            return Reading.ABSENT, ""
        return Reading.UNKNOWN, f"not collected by version {self.version or 'unknown'}"

    def unread(self, subject: Subject, key: str) -> bool:
        """Whether a key that is not here belongs to a part of the subtype that could not be read."""
        parts = self.unread_parts.get(subject)
        if not parts or key in self.data.get(subject, {}):
            return False
        return any(covers(part, key) for part in parts)

    def _collectors_of(self, subject: Subject, owner: str | None) -> list[CollectionEntry]:
        if owner is not None:
            return [self.collectors[owner]] if owner in self.collectors else []
        return [entry for entry in self.collectors.values() if entry.type is subject[0]]


def split_part(subtype: str) -> tuple[str, str]:
    """A subtype's name and the part of it that a line of `collection:` is about; no part when it is about all."""
    base, bracket, part = subtype.removesuffix("]").partition("[")
    return (base, part) if bracket and part else (subtype, "")


def covers(part: str, key: str) -> bool:
    """Whether a key belongs to a part of its subtype."""
    return (
        key == part
        or key.startswith((f"{part}.", f"{part}/"))
        or (part.endswith("*") and key.startswith(part[:-1]))
        or (part.isdecimal() and len(part) < 9 and int(part) in split_key(key)[1])
    )


def failed_as_a_whole(entry: CollectionEntry) -> bool:
    """Rather than only all of its subtypes, which then have lines of their own."""
    return entry.state is State.FAILED and entry.code is not None


def trouble_of(entry: CollectionEntry | None, document: IndexedSnapshot) -> str:
    if entry is None:
        return "not collected" if document.has_collection else ""
    return reason_of(entry) if failed_as_a_whole(entry) else ""


def reason_of(entry: CollectionEntry) -> str:
    if entry.code is None:
        return entry.reason
    return f"failed ({entry.code}): {entry.reason}" if entry.reason else f"failed ({entry.code})"
