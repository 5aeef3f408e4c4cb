"""Which groups of a document lack a fact because it could not be read, rather than because it is not there. Pure."""

from typing import Final

from common.diff_subject import covers, split_part
from common.fleet import FleetSnapshot, FoldedEntry
from common.model import MeasurementType, State
from common.nodeset import unfold_indexes

NOBODY: Final[frozenset[int]] = frozenset()


class Unread:
    """Answers that for one document."""

    def __init__(self, document: FleetSnapshot) -> None:
        everybody = frozenset(range(len(document.groups)))
        self._lines = document.collection
        self._failed = [
            (line, frozenset(unfold_indexes(line.groups)) if line.groups else everybody)
            for line in document.collection
            if line.state is State.FAILED
        ]

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
