"""Small snapshots to test with."""

from collections.abc import Mapping, Sequence

from common.model import (
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

STAMP = "2026-01-02T03:04:05Z"


def snapshot_of(
    facts: Mapping[str, Mapping[str, Scalar]],
    collection: Sequence[CollectionEntry] = (),
    node: str = "node-1",
    version: str = "1",
) -> Snapshot:
    """A snapshot of `Type.subtype` to data."""
    subtypes = [
        (MeasurementType(name.partition(".")[0]), Subtype(name.partition(".")[2], dict(data)))
        for name, data in facts.items()
    ]
    return Snapshot(
        metadata=Metadata(version=version, source_node=node, timestamp=STAMP),
        collection=list(collection),
        measurements=in_order(subtypes),
    )


def ran(collector: str, kind: str, *subtypes: str, state: State = State.OK) -> CollectionEntry:
    """The line of a collector that read these subtypes."""
    return CollectionEntry(collector, MeasurementType(kind), state, subtypes=subtypes)


def failed(collector: str, kind: str, reason: str = "no answer", subtype: str = "", *read: str) -> CollectionEntry:
    """The line of a collector, or of one of its subtypes, that failed."""
    return CollectionEntry(
        collector, MeasurementType(kind), State.FAILED, subtype, FailureCode.TIMEOUT, reason, subtypes=read
    )


def absent(collector: str, kind: str, reason: str = "not here", subtype: str = "") -> CollectionEntry:
    """The line of a collector, or of one of its subtypes, that is rightly not there."""
    return CollectionEntry(collector, MeasurementType(kind), State.ABSENT, subtype, reason=reason)
