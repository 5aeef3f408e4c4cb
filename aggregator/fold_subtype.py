"""Folding of one subtype over all its distinct contents. Pure."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from common.canonical import Domain, content_digest, subtype_content
from common.fleet import Differing, FoldedValue
from common.model import MeasurementType, Scalar
from common.nodeset import fold_indexes

_MISSING: Final = 0
"""Index of "the key is not there" among a fact's values."""

_FEW_VALUES: Final = 16
"""Values of one fact that are never too many to write, even if every node has its own."""

Load = Callable[[bytes], Mapping[str, Scalar]]
"""The data of a content, by its digest."""


class Slot(NamedTuple):
    """Where a subtype stands: measurement type and name."""

    kind: MeasurementType
    name: str


@dataclass(frozen=True, slots=True)
class SubtypeFold:
    """One subtype over all its distinct contents.

    A variant is what is left of a content without its scattered keys; its signature holds, for each differing key,
    the index of its value.
    """

    count: int
    common: dict[str, Scalar]
    keys: list[str]
    """The differing keys, sorted."""
    values: list[list[Scalar | UnsetType]]
    """For each differing key its values; the first stands for "not there"."""
    scattered: list[str]
    variant_of: dict[bytes, int]
    signatures: list[bytes]
    names: list[bytes]
    """For each variant a digest that names its facts."""


def _token(value: Scalar) -> object:
    """Equal for equal values only: to Python 1, 1.0 and True are equal, and 0.0 and -0.0."""
    return value if type(value) is str else (type(value).__name__, repr(value))


def fold_subtype(slot: Slot, weights: Mapping[bytes, int], load: Load, most_values: int | None) -> SubtypeFold:
    """Fold one subtype; `weights` says how many nodes have each content. Contents are read twice, never kept."""
    count = sum(weights.values())
    held: dict[str, int] = defaultdict(int)  # key: nodes that have it
    values: dict[str, dict[object, Scalar]] = defaultdict(dict)
    scattered: set[str] = set()
    for content, weight in weights.items():
        for key, value in load(content).items():
            held[key] += weight
            if key in scattered:
                continue
            seen = values[key]
            seen.setdefault(_token(value), value)
            if most_values is not None and len(seen) > most_values:
                scattered.add(key)
                del values[key]
    if most_values is not None:
        nearly_all = [key for key, seen in values.items() if len(seen) > _FEW_VALUES and 2 * len(seen) > held[key]]
        scattered.update(nearly_all)
        for key in nearly_all:
            del values[key]
    common = {key: next(iter(seen.values())) for key, seen in values.items() if len(seen) == 1 and held[key] == count}
    keys = sorted(values.keys() - common.keys())
    # Values in one order whatever the order of nodes, so that equal fleets give equal documents.
    ordered = {key: sorted(values[key].items(), key=lambda item: (isinstance(item[0], str), item[0])) for key in keys}
    indexes = {key: {token: 1 + index for index, (token, _) in enumerate(ordered[key])} for key in keys}
    variant_of, signatures, names = _variants(slot, weights, load, indexes, scattered)
    return SubtypeFold(
        count=count,
        common=dict(sorted(common.items())),
        keys=keys,
        values=[[UNSET, *(value for _, value in ordered[key])] for key in keys],
        scattered=sorted(scattered),
        variant_of=variant_of,
        signatures=signatures,
        names=names,
    )


def _variants(
    slot: Slot,
    weights: Mapping[bytes, int],
    load: Load,
    indexes: Mapping[str, Mapping[object, int]],
    scattered: set[str],
) -> tuple[dict[bytes, int], list[bytes], list[bytes]]:
    """Tell contents apart by their differing keys: the variant of each, and each variant's signature and name."""
    variant_of: dict[bytes, int] = {}
    known: dict[bytes, int] = {}
    names: list[bytes] = []
    for content in weights:
        data = load(content)
        signature = array(
            "I", (seen[_token(data[key])] if key in data else _MISSING for key, seen in indexes.items())
        ).tobytes()
        variant = known.get(signature)
        if variant is None:
            variant = known[signature] = len(known)
            rest = {key: value for key, value in data.items() if key not in scattered} if scattered else data
            names.append(content_digest(Domain.SUBTYPE, subtype_content(slot.kind, slot.name, rest)))
        variant_of[content] = variant
    return variant_of, list(known), names


def value_indexes(signature: bytes) -> Sequence[int]:
    """The value indexes of a variant, in the order of the differing keys."""
    return memoryview(signature).cast("I")


def differing(folded: SubtypeFold, groups: Iterable[tuple[int, int, int]]) -> list[Differing]:
    """For each differing key who has which value; `groups` gives position, size and variant of each."""
    by_variant: dict[int, list[int]] = defaultdict(list)
    size: dict[int, int] = defaultdict(int)
    for group, count, variant in groups:
        by_variant[variant].append(group)
        size[variant] += count
    counts = [[0] * len(values) for values in folded.values]
    for variant, nodes in size.items():
        for key, value in enumerate(value_indexes(folded.signatures[variant])):
            counts[key][value] += nodes
    majority = [of_key.index(max(of_key)) for of_key in counts]
    holders: list[dict[int, list[int]]] = [defaultdict(list) for _ in folded.keys]
    for variant, having in by_variant.items():
        for key, value in enumerate(value_indexes(folded.signatures[variant])):
            if value != majority[key]:
                holders[key][value].extend(having)
    return [
        Differing(name, _values(folded.values[key], counts[key], majority[key], holders[key]))
        for key, name in enumerate(folded.keys)
    ]


def _values(
    values: list[Scalar | UnsetType], counts: list[int], majority: int, holders: Mapping[int, list[int]]
) -> list[FoldedValue]:
    rarer = sorted(holders, key=lambda value: (-counts[value], value))
    return [
        FoldedValue(counts[majority], values[majority]),
        *(FoldedValue(counts[value], values[value], fold_indexes(holders[value])) for value in rarer),
    ]
