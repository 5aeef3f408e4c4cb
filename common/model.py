"""The words of Eidos as types: measurements, outcomes, snapshots. No I/O, no behaviour beyond order.

A *fact* is one `Type.subtype.key = value` on one node. A subtype holds flat data, key to scalar, and ends in
exactly one of three ways: read (`Ok`), rightly not there (`Absent`), or not readable (`Failed`).
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

Scalar: TypeAlias = str | int | float | bool

API_VERSION: Final = "aicr.nvidia.com/v1alpha1"
READABLE_API_VERSIONS: Final = (API_VERSION, "snapshot.dgxc.io/v1", "eidos.nvidia.com/v1alpha1")


class MeasurementType(StrEnum):
    """The five kinds of measurement, in the order they are written."""

    K8S = "K8s"
    GPU = "GPU"
    OS = "OS"
    SYSTEMD = "SystemD"
    NODE_TOPOLOGY = "NodeTopology"


class FailureCode(StrEnum):
    """Why something that should be readable was not. Stable: readers match these, never the reason."""

    TIMEOUT = "timeout"
    PERMISSION_DENIED = "permission_denied"
    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    DRIVER_UNRESPONSIVE = "driver_unresponsive"
    DRIVER_MISMATCH = "driver_mismatch"
    DRIVER_NOT_LOADED = "driver_not_loaded"
    DRIVER_ERROR = "driver_error"
    LIBRARY_MISSING = "library_missing"
    GPU_LOST = "gpu_lost"
    BUS_UNREACHABLE = "bus_unreachable"
    API_UNREACHABLE = "api_unreachable"
    API_FORBIDDEN = "api_forbidden"
    API_ERROR = "api_error"
    INTERNAL = "internal"


class State(StrEnum):
    """How a collector or subtype ended, as written in `collection:`."""

    OK = "ok"
    PARTIAL = "partial"
    ABSENT = "absent"
    FAILED = "failed"


class Ok(msgspec.Struct, frozen=True):
    """A subtype that was read. `context` is optional text about it and is never compared."""

    data: dict[str, Scalar]
    context: dict[str, str] = {}


class Absent(msgspec.Struct, frozen=True):
    """There is rightly nothing to read here: no GPU, no systemd, unit not installed."""

    reason: str


class Failed(msgspec.Struct, frozen=True):
    """There is something to read, but it could not be read. The reason is the same text every time."""

    code: FailureCode
    reason: str


Outcome: TypeAlias = Ok | Absent | Failed


class Collected(msgspec.Struct, frozen=True):
    """What one collector returns.

    `ending` is None when every subtype speaks for itself; Absent or Failed when the collector as a whole ended
    so, in which case `subtypes` holds what could be read in another way.
    """

    subtypes: dict[str, Outcome]
    ending: Absent | Failed | None = None

    @classmethod
    def of(cls, subtypes: Mapping[str, Outcome]) -> "Collected":
        return cls(dict(subtypes))

    @classmethod
    def absent(cls, reason: str, subtypes: Mapping[str, Outcome] | None = None) -> "Collected":
        return cls(dict(subtypes or {}), Absent(reason))

    @classmethod
    def failed(cls, code: FailureCode, reason: str, subtypes: Mapping[str, Outcome] | None = None) -> "Collected":
        return cls(dict(subtypes or {}), Failed(code, reason))

    @property
    def state(self) -> State:
        """One word for the whole: failed subtypes beside good ones make it partial."""
        if isinstance(self.ending, Absent):
            return State.ABSENT
        if isinstance(self.ending, Failed):
            return State.FAILED
        kinds = {type(outcome) for outcome in self.subtypes.values()}
        if Failed in kinds:
            return State.PARTIAL if Ok in kinds else State.FAILED
        if kinds == {Absent}:
            return State.ABSENT
        return State.OK


class Subtype(msgspec.Struct, frozen=True, omit_defaults=True):
    """One subtype as written: flat data, and optional text about it."""

    subtype: str
    data: dict[str, Scalar]
    context: dict[str, str] = {}


class Measurement(msgspec.Struct, frozen=True):
    """One measurement as written: its subtypes sorted by name."""

    type: MeasurementType
    subtypes: list[Subtype]


class CollectionEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of `collection:`: how a collector ended, or one of its subtypes that did not end well.

    A collector's own line has no `subtype` but lists the `subtypes` it read, so that a reader can tell a subtype
    that is gone from one that nobody looked for.
    """

    collector: str
    type: MeasurementType
    state: State
    subtype: str = ""
    code: FailureCode | None = None
    reason: str = ""
    subtypes: tuple[str, ...] = ()


class Metadata(msgspec.Struct, frozen=True, rename={"source_node": "source-node"}):
    """Who wrote a snapshot, of which node, and when (RFC 3339, UTC). All strings."""

    version: str
    source_node: str
    timestamp: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, rename={"api_version": "apiVersion"}):
    """One node's measurements; the document of docs/snapshot-format.md. Field order is the written order."""

    kind: str = "Snapshot"
    api_version: str = API_VERSION
    metadata: Metadata
    collection: list[CollectionEntry] = []
    measurements: list[Measurement]

    def facts(self) -> "dict[tuple[str, str, str], Scalar]":
        """All facts, keyed by (type, subtype, key)."""
        return {
            (measurement.type.value, subtype.subtype, key): value
            for measurement in self.measurements
            for subtype in measurement.subtypes
            for key, value in subtype.data.items()
        }


def in_order(measurements: Iterable[tuple[MeasurementType, Subtype]]) -> list[Measurement]:
    """Group subtypes by type; types in their fixed order, subtypes and keys sorted. No empty measurement.

    A subtype given more than once becomes one; where two of them disagree on a key, the later is kept beside the
    earlier as `name#2`, so that nothing is lost.
    """
    by_type: dict[MeasurementType, dict[str, Subtype]] = {kind: {} for kind in MeasurementType}
    for kind, subtype in measurements:
        _add(by_type[kind], subtype)
    return [
        Measurement(kind, [_sorted(subtypes[name]) for name in sorted(subtypes)])
        for kind, subtypes in by_type.items()
        if subtypes
    ]


def _add(subtypes: dict[str, Subtype], subtype: Subtype) -> None:
    name, number = subtype.subtype, 1
    while (there := subtypes.get(name)) is not None and not _agree(there.data, subtype.data):
        number += 1
        name = f"{subtype.subtype}#{number}"
    data, context = (there.data, there.context) if there is not None else ({}, {})
    subtypes[name] = Subtype(name, {**data, **subtype.data}, {**context, **subtype.context})


def _agree(one: Mapping[str, Scalar], other: Mapping[str, Scalar]) -> bool:
    """True and 1 are equal in Python, but not here."""
    return all(one[key] == other[key] and type(one[key]) is type(other[key]) for key in one.keys() & other.keys())


def _sorted(subtype: Subtype) -> Subtype:
    return Subtype(subtype.subtype, dict(sorted(subtype.data.items())), dict(sorted(subtype.context.items())))
