"""Folding of one subtype over all its distinct contents. Pure."""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from common.canonical import NAMING, Domain, content_digest, subtype_content
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


def fold_subtype(slot: Slot, weights: Mapping[bytes, int], load: Load, most_values: int | None) -> SubtypeFold:
    """Fold one subtype; `weights` says how many nodes have each content.

    Contents are read twice and never kept: all are told by what sets them apart from the most common one, which is
    little, so that even ten thousand different contents cost little more than reading them.
    """
    reference = load(max(weights, key=lambda content: (weights[content], content)))
    values, held = _values_found(weights, load, reference, most_values)
    scattered = {
        key for key, seen in values.items() if most_values is not None and _too_many(seen, held[key], most_values)
    }
    keys = sorted(values.keys() - scattered)
    # Values in one order whatever the order of nodes, so that equal fleets give equal documents.
    ordered = {key: sorted(values[key].items(), key=lambda item: (isinstance(item[0], str), item[0])) for key in keys}
    indexes = {key: {token: 1 + index for index, (token, _) in enumerate(ordered[key])} for key in keys}
    variant_of, signatures, names = _variants(slot, weights, load, reference, indexes, scattered)
    return SubtypeFold(
        count=sum(weights.values()),
        common={key: value for key, value in sorted(reference.items()) if key not in values},
        keys=keys,
        values=[[UNSET, *(value for _, value in ordered[key])] for key in keys],
        scattered=sorted(scattered),
        variant_of=variant_of,
        signatures=signatures,
        names=names,
    )


def _values_found(
    weights: Mapping[bytes, int], load: Load, reference: Mapping[str, Scalar], most_values: int | None
) -> tuple[dict[str, dict[object, Scalar]], dict[str, int]]:
    """The values of every key that is not the same everywhere, and how many nodes have the key."""
    count = sum(weights.values())
    values: dict[str, dict[object, Scalar]] = {}
    held: dict[str, int] = {}
    for content, weight in weights.items():
        changed, missing = _delta(reference, load(content))
        for key in missing:
            _start(key, reference, values, held, count)
            held[key] -= weight
        for key, value in changed:
            _start(key, reference, values, held, count)
            if key not in reference:
                held[key] += weight
            seen = values[key]
            if most_values is None or len(seen) <= most_values:
                seen.setdefault(_token(value), value)
    return values, held


def _start(
    key: str,
    reference: Mapping[str, Scalar],
    values: dict[str, dict[object, Scalar]],
    held: dict[str, int],
    count: int,
) -> None:
    """A key was found to differ: until now, all that the reference says of it held everywhere."""
    if key not in values:
        values[key] = {_token(reference[key]): reference[key]} if key in reference else {}
        held[key] = count if key in reference else 0


def _too_many(seen: Mapping[object, Scalar], held: int, most_values: int) -> bool:
    return len(seen) > most_values or (len(seen) > _FEW_VALUES and 2 * len(seen) > held)


def _delta(
    reference: Mapping[str, Scalar], data: Mapping[str, Scalar]
) -> tuple[list[tuple[str, Scalar]], Iterable[str]]:
    """What the data has otherwise or beyond the reference, and the keys of the reference that it has not."""
    get = reference.get
    # To Python 1, 1.0 and True are equal, and 0.0 and -0.0; here they are not.
    changed = [
        (key, value)
        for key, value in data.items()
        if (there := get(key)) != value
        or there.__class__ is not value.__class__
        or (value.__class__ is float and repr(there) != repr(value))
    ]
    beyond = sum(key not in reference for key, _ in changed)
    return changed, () if len(data) - beyond == len(reference) else reference.keys() - data.keys()


def _token(value: Scalar) -> object:
    """Equal for equal values only, as in `_delta`."""
    return value if type(value) is str else (type(value).__name__, repr(value))


def _variants(
    slot: Slot,
    weights: Mapping[bytes, int],
    load: Load,
    reference: Mapping[str, Scalar],
    indexes: Mapping[str, Mapping[object, int]],
    scattered: set[str],
) -> tuple[dict[bytes, int], list[bytes], list[bytes]]:
    """Tell contents apart by their differing keys: the variant of each, and each variant's signature and name."""
    position = {key: number for number, key in enumerate(indexes)}
    usual = array(
        "I", (seen[_token(reference[key])] if key in reference else _MISSING for key, seen in indexes.items())
    )
    variant_of: dict[bytes, int] = {}
    known: dict[bytes, int] = {}
    names: list[bytes] = []
    for content in weights:
        data = load(content)
        changed, missing = _delta(reference, data)
        mine = usual[:]
        for key, value in changed:
            if key in position:
                mine[position[key]] = indexes[key][_token(value)]
        for key in missing:
            if key in position:
                mine[position[key]] = _MISSING
        signature = mine.tobytes()
        variant = known.get(signature)
        if variant is None:
            variant = known[signature] = len(known)
            names.append(_name_without(scattered, slot, data) if scattered else content)
        variant_of[content] = variant
    return variant_of, list(known), names


def _name_without(scattered: set[str], slot: Slot, data: Mapping[str, Scalar]) -> bytes:
    """The digest the data would have without its scattered keys."""
    rest = {key: value for key, value in data.items() if key not in scattered}
    return content_digest(Domain.SUBTYPE, subtype_content(slot.kind, slot.name, rest), NAMING)


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
