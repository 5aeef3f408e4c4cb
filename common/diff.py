"""What changed between two snapshots, fact by fact. Pure.

**Facts.** A fact is compared by its value: `"60"` equals `60` and `"true"` equals `true`, because earlier tools wrote
most scalars as text. Volatile facts are never compared. Facts of the identity class are compared only when both
snapshots are of one node; between two nodes each node's own name, where it stands in a value, counts as equal.

**Missing is not changed.** A fact that is on one side only is a change only if the other side was read. What each
side says about a subtype it has no data for:

- its own line in `collection:` says `absent`: it is really not there (unit removed, no GPU), so its facts were
  removed or added. The same holds if its collector as a whole is `absent`, or ran well and did not find it.
- its own line or its collector's says `failed`: it cannot be compared.
- its collector did not run, or another version of Eidos ran it that may not know the subtype: it cannot be compared.
- the document has no `collection:` (it is older): it cannot be compared with one that has. Between two such documents
  a subtype missing from a measurement that is there counts as removed, and a measurement missing as a whole does not.
  Parts of a subtype that older tools never read (/proc/sys/net) cannot be compared with them either.

A collector that failed may still have found some facts in another way (GPUs by PCI when the driver hangs). Of those
subtypes only keys that both sides have are compared, unless both sides failed alike. What cannot be compared is
listed in `incomparable` and is never drift.

**Parts.** A line of `collection:` for `subtype[part]` says that a part could not be read: the fact of that key, facts
below it (`part.…`, `part/…`, or all that `part*` matches), or those of the thing with that index. What is missing of
it is not removed.

**Folded keys.** Where the two sides fold equal things differently (`x[0-7]` and `x[0-2,4-7]`), these are compared one
by one, and equal changes are folded again: one GPU of eight that changed is one change.

**Order** is that of the document: measurement types, then subtypes and keys sorted.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from common.diff_subject import IndexedSnapshot, Reading, Subject, trouble_of
from common.errors import UsageError
from common.folded_keys import fold_keys, split_key, unfold_differing
from common.model import MeasurementType, Scalar, Snapshot
from common.stability import Rules, Stability, default_rules, without_node_name


class ChangeKind(StrEnum):
    """What happened to a fact."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact that differs. `old` is None when added, `new` when removed."""

    change: ChangeKind
    type: MeasurementType
    subtype: str
    key: str
    old: Scalar | None = None
    new: Scalar | None = None


class SubtypeChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """A subtype that is there on one side only, added or removed; its facts are among the changes too."""

    change: ChangeKind
    type: MeasurementType
    subtype: str
    facts: int
    reason: str = ""


class Incomparable(msgspec.Struct, frozen=True, omit_defaults=True):
    """What could not be compared, and why. Without a subtype it is all of a collector."""

    type: MeasurementType
    side: str
    """`before`, `after` or `both`: where it could not be read."""
    reason: str
    subtype: str = ""
    collector: str = ""


class Side(msgspec.Struct, frozen=True, rename={"source_node": "source-node"}):
    """Which snapshot was compared."""

    source_node: str
    timestamp: str
    version: str


class Diff(msgspec.Struct, frozen=True, kw_only=True, rename={"same_node": "same-node"}):
    """The result. Fields are in the order in which they are written as YAML or JSON."""

    kind: str = "SnapshotDiff"
    before: Side
    after: Side
    same_node: bool
    compared: int
    """How many facts were compared."""
    ignored: int
    """How many facts were left out by the caller's patterns."""
    changes: list[Change]
    subtypes: list[SubtypeChange]
    incomparable: list[Incomparable]


def diff(before: Snapshot, after: Snapshot, ignore: Sequence[str] = (), rules: Rules | None = None) -> Diff:
    """Compare two snapshots.

    `ignore` holds patterns over `Type.subtype.key`, in which `*` stands for any text; one that names a type, a
    subtype or the first parts of a dotted key leaves out all below it. Raises UsageError on an empty pattern.
    """
    return _Comparison(before, after, Ignore(ignore), rules or default_rules()).result()


class Ignore:
    """The caller's patterns as one question."""

    def __init__(self, patterns: Iterable[str]) -> None:
        texts = [re.sub(r"\*+", "*", pattern.strip()) for pattern in patterns]
        if "" in texts:
            raise UsageError("an empty pattern ignores nothing", "Write Type.subtype.key; * stands for any text.")
        alternatives = (".*".join(re.escape(part) for part in text.split("*")) for text in texts)
        self._pattern = re.compile(rf"(?:{'|'.join(alternatives)})(?:\..*)?", re.DOTALL) if texts else None

    def __contains__(self, name: str) -> bool:
        return self._pattern is not None and self._pattern.fullmatch(name) is not None


def equal(old: Scalar, new: Scalar) -> bool:
    """Whether two values are the same fact: by value within a type, by text between types."""
    if isinstance(old, bool) == isinstance(new, bool) and old == new:
        return True
    return scalar_text(old) == scalar_text(new)


def scalar_text(value: Scalar) -> str:
    """A value as text, as in YAML: `true`, `60`, `0.5`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_NEVER_READ_BEFORE: Final[dict[Subject, str]] = {(MeasurementType.OS, "sysctl"): "/proc/sys/net/"}
"""Keys that the tools which wrote no `collection:` left out, by how they begin."""

_TROUBLE: Final = frozenset((Reading.FAILED, Reading.UNKNOWN))


class _Comparison:
    def __init__(self, before: Snapshot, after: Snapshot, ignore: Ignore, rules: Rules) -> None:
        self._sides = (_side(before), _side(after))
        self._before, self._after = IndexedSnapshot(before), IndexedSnapshot(after)
        self._same_node = self._before.node == self._after.node
        self._ignore = ignore
        self._rules = rules
        self._compared = self._ignored = 0
        self._changes: list[Change] = []
        self._subtypes: list[SubtypeChange] = []
        self._incomparable: list[Incomparable] = []

    def result(self) -> Diff:
        said = set(self._collectors())
        for subject in self._subjects():
            self._subtype(subject, said)
        return Diff(
            before=self._sides[0],
            after=self._sides[1],
            same_node=self._same_node,
            compared=self._compared,
            ignored=self._ignored,
            changes=self._changes,
            subtypes=self._subtypes,
            incomparable=self._incomparable,
        )

    def _subjects(self) -> list[Subject]:
        both = (self._before, self._after)
        subjects = {subject for document in both for subject in (*document.data, *document.endings)}
        order = {kind: index for index, kind in enumerate(MeasurementType)}
        return sorted(subjects, key=lambda subject: (order[subject[0]], subject[1]))

    def _collectors(self) -> Iterator[str]:
        """Collectors that failed or did not run, said once rather than for each of their subtypes."""
        for name in dict.fromkeys((*self._before.collectors, *self._after.collectors)):
            old, new = self._before.collectors.get(name), self._after.collectors.get(name)
            reasons = (trouble_of(old, self._before), trouble_of(new, self._after))
            if any(reasons) and (entry := old or new):
                self._report(entry.type, "", reasons, name)
                yield name

    def _subtype(self, subject: Subject, said: set[str]) -> None:
        owner = self._before.owners.get(subject) or self._after.owners.get(subject)
        old, why_old = self._before.reading(subject, owner, self._after)
        new, why_new = self._after.reading(subject, owner, self._before)
        states = {old, new}
        if states <= {Reading.ABSENT, Reading.UNKNOWN}:
            return  # no facts on either side
        if states & _TROUBLE:
            if owner not in said or subject in self._before.endings or subject in self._after.endings:
                self._report(*subject, (why_old if old in _TROUBLE else "", why_new if new in _TROUBLE else ""))
            return
        self._take_apart(subject)
        alike = old is new and why_old == why_new
        both = states <= {Reading.READ, Reading.FALLBACK}
        changed = self._facts(subject, self._keys(subject, both and not alike, both))
        if Reading.ABSENT in states and changed:
            kind, why = (ChangeKind.REMOVED, why_new) if new is Reading.ABSENT else (ChangeKind.ADDED, why_old)
            self._subtypes.append(SubtypeChange(kind, *subject, changed, why))

    def _take_apart(self, subject: Subject) -> None:
        """Where the sides fold equal things differently, compare them one by one."""
        old, new = self._before.data.get(subject), self._after.data.get(subject)
        if old is not None and new is not None:
            self._before.data[subject], self._after.data[subject] = unfold_differing(old, new)

    def _keys(self, subject: Subject, only_shared: bool, both: bool) -> list[str]:
        """The keys of a subtype that can be compared."""
        old, new = self._before.data.get(subject, {}).keys(), self._after.data.get(subject, {}).keys()
        if only_shared:
            return sorted(old & new)
        keys = {
            key for key in old | new if not (self._before.unread(subject, key) or self._after.unread(subject, key))
        }
        beginning = _NEVER_READ_BEFORE.get(subject)
        if beginning and both and self._before.has_collection != self._after.has_collection:
            older = new if self._before.has_collection else old
            unread = {key for key in keys if key.startswith(beginning)}
            if unread and not unread & older:
                reason = f"{beginning} is not in the snapshot, whose writer did not read it"
                self._report(*subject, ("", reason) if older is new else (reason, ""))
                keys -= unread
        return sorted(keys)

    def _facts(self, subject: Subject, keys: Iterable[str]) -> int:
        """Compare the facts of one subtype; returns how many changed."""
        kind, subtype = subject
        old, new = self._before.data.get(subject, {}), self._after.data.get(subject, {})
        unwanted = {Stability.VOLATILE} if self._same_node else {Stability.VOLATILE, Stability.IDENTITY}
        already = len(self._changes)
        for key in keys:
            if self._rules.classify(kind.value, subtype, key) in unwanted:
                continue
            if f"{kind.value}.{subtype}.{key}" in self._ignore:
                self._ignored += 1
                continue
            self._compared += 1
            if key not in old:
                self._changes.append(Change(ChangeKind.ADDED, kind, subtype, key, new=new[key]))
            elif key not in new:
                self._changes.append(Change(ChangeKind.REMOVED, kind, subtype, key, old=old[key]))
            elif not self._equal(old[key], new[key]):
                self._changes.append(Change(ChangeKind.CHANGED, kind, subtype, key, old[key], new[key]))
        self._changes[already:] = _folded(self._changes[already:])
        return len(self._changes) - already

    def _equal(self, old: Scalar, new: Scalar) -> bool:
        if equal(old, new):
            return True
        if self._same_node:
            return False
        return equal(without_node_name(old, self._before.node), without_node_name(new, self._after.node))

    def _report(self, kind: MeasurementType, subtype: str, reasons: tuple[str, str], collector: str = "") -> None:
        if (f"{kind.value}.{subtype}" if subtype else kind.value) in self._ignore:
            return
        old, new = reasons
        side = "both" if old and new else "before" if old else "after"
        reason = f"before: {old}; after: {new}" if old and new and old != new else old or new
        self._incomparable.append(Incomparable(kind, side, reason, subtype, collector))


def _folded(changes: list[Change]) -> Iterator[Change]:
    """Changes put together again that are the same change of equal things: `x[0]` and `x[1]` are `x[0-1]`."""
    groups: dict[tuple[object, ...], list[Change]] = {}
    for change in changes:
        values = (type(change.old), change.old, type(change.new), change.new)  # 1 and True are not one value
        groups.setdefault((change.change, split_key(change.key)[0], *values), []).append(change)
    for same in groups.values():
        for key in fold_keys(change.key for change in same):
            yield msgspec.structs.replace(same[0], key=key)


def _side(snapshot: Snapshot) -> Side:
    metadata = snapshot.metadata
    return Side(metadata.source_node, metadata.timestamp, metadata.version)
