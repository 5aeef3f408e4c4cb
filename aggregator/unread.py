"""Which groups of a document lack a fact because it could not be read, rather than because it is not there. Pure."""

from typing import Final

from msgspec import UNSET

from common.diff_subject import covers, split_part
from common.fleet import FleetSnapshot, FoldedEntry
from common.model import MeasurementType, State
from common.nodeset import unfold_indexes

NOBODY: Final[frozenset[int]] = frozenset()


class Unread:
    """Answers that from how the collectors of so many groups ended."""

    def __init__(self, collection: list[FoldedEntry], groups: int) -> None:
        everybody = frozenset(range(groups))
        self._lines = collection
        self._failed = [
            (line, frozenset(unfold_indexes(line.groups)) if line.groups else everybody)
            for line in collection
            if line.state is State.FAILED
        ]

    @classmethod
    def of(cls, document: FleetSnapshot) -> "Unread":
        # What the aggregator could not read of the cluster, it could not read for anybody.
        cluster = () if document.cluster is UNSET else document.cluster.collection
        lines = (
            FoldedEntry(
                collector=line.collector,
                type=line.type,
                state=line.state,
                count=document.summary.folded,
                subtype=line.subtype,
                code=line.code,
                reason=line.reason,
                subtypes=line.subtypes,
            )
            for line in cluster
        )
        return cls([*document.collection, *lines], len(document.groups))

    def partly(self, kind: MeasurementType, subtype: str) -> frozenset[int]:
        """Groups on which the subtype, or a part of it, could not be read."""
        parts = (
            groups
            for line, groups in self._failed
            if line.type is kind and line.subtype and split_part(line.subtype)[0] == subtype
        )
        return self.groups(kind, subtype).union(*parts)

    def groups(self, kind: MeasurementType, subtype: str, key: str = "") -> frozenset[int]:
        """Groups on which the fact (without a key: the subtype) could not be read."""
        if not self._failed:
            return NOBODY
        owners = {
            line.collector
            for line in self._lines
            if line.type is kind and subtype in (*line.subtypes, split_part(line.subtype)[0])
        }
        found = [
            groups for line, groups in self._failed if line.type is kind and _is_about(line, owners, subtype, key)
        ]
        return NOBODY.union(*found)


def _is_about(line: FoldedEntry, owners: set[str], subtype: str, key: str) -> bool:
    if not line.subtype:  # the collector as a whole
        return line.code is not None and (not owners or line.collector in owners)
    base, part = split_part(line.subtype)
    if line.subtype == subtype or (base == subtype and not part):
        return True
    return base == subtype and bool(key) and covers(part, key)
