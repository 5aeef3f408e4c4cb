"""Contents of snapshots in memory, as fold wants them."""

from collections.abc import Iterable, Mapping, Sequence

from aggregator.fold import NodeFacts
from common.model import CollectionEntry, MeasurementType, Scalar, Snapshot
from common.section import Pieces, read_manifest, read_outcome, read_subtype, split
from common.stability import Rules


class MemoryContents:
    """Everything the snapshots added hold, by digest. Counts what is read."""

    def __init__(self) -> None:
        self.pieces: dict[bytes, bytes] = {}
        self.reads = 0

    def add(self, snapshot: Snapshot, rules: Rules | None = None) -> NodeFacts:
        return self.add_pieces(split(snapshot, rules))

    def add_pieces(self, pieces: Pieces) -> NodeFacts:
        self.pieces.update(pieces.contents)
        return NodeFacts(tuple(section.stable for section in pieces.sections), pieces.outcome)

    def subtypes(self, manifest: bytes) -> tuple[MeasurementType, Mapping[str, bytes]]:
        read = read_manifest(self.pieces[manifest])
        return read.kind, read.subtypes

    def data(self, subtype: bytes) -> Mapping[str, Scalar]:
        self.reads += 1
        return read_subtype(self.pieces[subtype]).data

    def outcome(self, digest: bytes) -> Sequence[CollectionEntry]:
        return read_outcome(self.pieces[digest])


def facts_of(
    snapshots: Iterable[Snapshot], rules: Rules | None = None
) -> tuple[dict[str, NodeFacts], MemoryContents]:
    """Each snapshot's facts by node, and the contents of all."""
    contents = MemoryContents()
    return {snapshot.metadata.source_node: contents.add(snapshot, rules) for snapshot in snapshots}, contents
