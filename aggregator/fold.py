"""Folding: the stable facts of all nodes as one document. Pure; the heart of the product.

Work is per distinct content. Nodes are first put together by their digests alone; then each distinct content of each
subtype is read once to count values and once to say who has the rarer ones; then nodes that cannot be told apart are
one group. A key with a value of its own on most nodes, or with more than `most_values` values, would make every node
a group of its own: it is set aside as scattered, and nodes are compared by the rest.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from aggregator.fold_subtype import Slot, SubtypeFold, differing, fold_subtype
from aggregator.names import NodeNames
from common.canonical import NAMING, Domain, content_digest, encode
from common.fleet import FoldedEntry, FoldedMeasurement, FoldedSubtype, Group
from common.model import CollectionEntry, MeasurementType, Scalar
from common.nodeset import fold_indexes

MOST_VALUES: Final = 256
"""Values of one fact beyond which it is set aside as scattered."""


class NodeFacts(NamedTuple):
    """What one node holds: the digests of its sections' manifests, and of how its collectors ended."""

    sections: tuple[bytes, ...]
    outcome: bytes


class Contents(Protocol):
    """Content by digest, decoded. Every digest reachable from the folded nodes must be there."""

    def subtypes(self, manifest: bytes) -> tuple[MeasurementType, Mapping[str, bytes]]:
        """A manifest: its measurement type, and each subtype's digest."""

    def data(self, subtype: bytes) -> Mapping[str, Scalar]:
        """The stable facts of one subtype, with `${node}` for the node's name."""

    def outcome(self, digest: bytes) -> Sequence[CollectionEntry]:
        """How the collectors ended."""


@dataclass(frozen=True, slots=True)
class Folded:
    """The folded part of a FleetSnapshot, and what outliers are found from."""

    groups: list[Group]
    collection: list[FoldedEntry]
    measurements: list[FoldedMeasurement]
    members: list[list[str]]
    """For each group its nodes, sorted."""
    variants: list[dict[Slot, int]]
    """For each group its variant of each subtype it has."""
    subtypes: dict[Slot, SubtypeFold]


def fold(
    nodes: Mapping[str, NodeFacts], contents: Contents, names: NodeNames, most_values: int | None = MOST_VALUES
) -> Folded:
    """Fold the nodes' stable facts. With `most_values` None nothing is ever set aside as scattered."""
    classes: dict[NodeFacts, list[str]] = defaultdict(list)
    for node, facts in nodes.items():
        classes[facts].append(node)
    slots = [_slots(facts, contents) for facts in classes]
    weights: dict[Slot, dict[bytes, int]] = defaultdict(lambda: defaultdict(int))
    for content_of, members in zip(slots, classes.values(), strict=True):
        for slot, content in content_of.items():
            weights[slot][content] += len(members)
    subtypes = {
        slot: fold_subtype(slot, weights[slot], contents.data, most_values)
        for slot in sorted(weights, key=lambda slot: (list(MeasurementType).index(slot.kind), slot.name))
    }
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    variants: dict[tuple[object, ...], tuple[dict[Slot, int], bytes]] = {}
    for content_of, (facts, members) in zip(slots, classes.items(), strict=True):
        mine = {slot: subtypes[slot].variant_of[content] for slot, content in content_of.items()}
        signature = (facts.outcome, frozenset(mine.items()))
        variants[signature] = mine, facts.outcome
        alike[signature].extend(members)
    order = sorted(alike, key=lambda signature: (-len(alike[signature]), min(alike[signature])))
    members_of = [sorted(alike[signature]) for signature in order]
    variants_of = [variants[signature][0] for signature in order]
    outcomes = [variants[signature][1] for signature in order]
    return Folded(
        groups=_groups(members_of, variants_of, outcomes, subtypes, names),
        collection=_fold_outcomes(members_of, outcomes, contents),
        measurements=_measurements(members_of, variants_of, subtypes),
        members=members_of,
        variants=variants_of,
        subtypes=subtypes,
    )


def _slots(facts: NodeFacts, contents: Contents) -> dict[Slot, bytes]:
    found: dict[Slot, bytes] = {}
    for digest in facts.sections:
        kind, subtypes = contents.subtypes(digest)
        for name, content in subtypes.items():
            found[Slot(kind, name)] = content
    return found


def _groups(
    members: Sequence[list[str]],
    variants: Sequence[dict[Slot, int]],
    outcomes: Sequence[bytes],
    subtypes: Mapping[Slot, SubtypeFold],
    names: NodeNames,
) -> list[Group]:
    groups = []
    for index, (nodes, mine, outcome) in enumerate(zip(members, variants, outcomes, strict=True)):
        facts = sorted((slot.kind, slot.name, subtypes[slot].names[variant]) for slot, variant in mine.items())
        identity = content_digest(Domain.GROUP, encode([facts, outcome]), NAMING).hex()[:12]
        groups.append(Group(index, identity, len(nodes), names.fold(nodes)))
    return groups


def _fold_outcomes(members: Sequence[list[str]], outcomes: Sequence[bytes], contents: Contents) -> list[FoldedEntry]:
    """Every distinct ending of a collector or subtype, in the order of the largest groups' own lists."""
    holders: dict[CollectionEntry, list[int]] = defaultdict(list)
    for group, outcome in enumerate(outcomes):
        for entry in contents.outcome(outcome):
            if not (holding := holders[entry]) or holding[-1] != group:
                holding.append(group)
    return [
        FoldedEntry(
            collector=entry.collector,
            type=entry.type,
            state=entry.state,
            count=sum(len(members[group]) for group in groups),
            subtype=entry.subtype,
            code=entry.code,
            reason=entry.reason,
            subtypes=entry.subtypes,
            groups="" if len(groups) == len(outcomes) else fold_indexes(groups),
        )
        for entry, groups in holders.items()
    ]


def _measurements(
    members: Sequence[list[str]], variants: Sequence[dict[Slot, int]], subtypes: Mapping[Slot, SubtypeFold]
) -> list[FoldedMeasurement]:
    having: dict[Slot, list[int]] = defaultdict(list)
    for group, mine in enumerate(variants):
        for slot in mine:
            having[slot].append(group)
    by_kind: dict[MeasurementType, list[FoldedSubtype]] = defaultdict(list)
    for slot, folded in subtypes.items():
        groups = having[slot]
        by_kind[slot.kind].append(
            FoldedSubtype(
                subtype=slot.name,
                count=folded.count,
                groups="" if len(groups) == len(variants) else fold_indexes(groups),
                data=folded.common,
                differs=differing(folded, [(group, len(members[group]), variants[group][slot]) for group in groups]),
                scattered=folded.scattered,
            )
        )
    return [FoldedMeasurement(kind, by_kind[kind]) for kind in MeasurementType if kind in by_kind]
