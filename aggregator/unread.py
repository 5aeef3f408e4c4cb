"""Which groups of a document lack a fact because it was not read, rather than because it is not there. Pure.

It could not be read, or nobody asked for measurements of its type.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import UNSET

from aggregator.uncollected import uncollected
from common.diff_subject import covers, split_part
from common.fleet import FleetSnapshot, FoldedEntry
from common.model import MeasurementType, State
from common.nodeset import unfold_indexes

NOBODY: Final[frozenset[int]] = frozenset()


class Unread:
    """Answers that of one document."""

    def __init__(self, document: FleetSnapshot) -> None:
        everybody = frozenset(range(len(document.groups)))
        self._document = document
        self._lines = [*document.collection, *_of_everybody(document)]
        self._failed = [
            (line, frozenset(unfold_indexes(line.groups)) if line.groups else everybody)
            for line in self._lines
            if line.state is State.FAILED
        ]
        self._not_asked: dict[MeasurementType, frozenset[int]] = {}

    def not_asked(self, kind: MeasurementType) -> frozenset[int]:
        """Groups that nobody asked for anything of a type."""
        if kind not in self._not_asked:
            self._not_asked[kind] = uncollected(self._document, kind)
        return self._not_asked[kind]

    def partly(self, kind: MeasurementType, subtype: str) -> frozenset[int]:
        """Groups on which the subtype, or a part of it, could not be read."""
        parts = (
            groups
            for line, groups in self._failed
            if line.type is kind and line.subtype and split_part(line.subtype)[0] == subtype
        )
        return _union(self.groups(kind, subtype), parts)

    def groups(self, kind: MeasurementType, subtype: str, key: str = "") -> frozenset[int]:
        """Groups on which the fact (without a key: the subtype) was not read."""
        if not self._failed:
            return self.not_asked(kind)
        owners = {
            line.collector
            for line in self._lines
            if line.type is kind and subtype in (*line.subtypes, split_part(line.subtype)[0])
        }
        found = [
            groups for line, groups in self._failed if line.type is kind and _is_about(line, owners, subtype, key)
        ]
        return _union(self.not_asked(kind), found)


def _of_everybody(document: FleetSnapshot) -> Iterator[FoldedEntry]:
    """What the aggregator could not read of the cluster, it could not read for anybody."""
    for line in () if document.cluster is UNSET else document.cluster.collection:
        yield FoldedEntry(
            collector=line.collector,
            type=line.type,
            state=line.state,
            count=document.summary.folded,
            subtype=line.subtype,
            code=line.code,
            reason=line.reason,
            subtypes=line.subtypes,
        )


def _union(groups: frozenset[int], others: Iterable[frozenset[int]]) -> frozenset[int]:
    """The same object where nothing is added: it is kept for thousands of facts."""
    more = [other for other in others if not other <= groups]
    return groups.union(*more) if more else groups


def _is_about(line: FoldedEntry, owners: set[str], subtype: str, key: str) -> bool:
    if not line.subtype:  # the collector as a whole
        return line.code is not None and (not owners or line.collector in owners)
    base, part = split_part(line.subtype)
    if line.subtype == subtype or (base == subtype and not part):
        return True
    return base == subtype and bool(key) and covers(part, key)
