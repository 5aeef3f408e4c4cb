"""One node's values of some facts, read from the node's content: for facts that the folded document does not hold."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec import UNSET, UnsetType

from aggregator.catalog import Catalog
from aggregator.nodes import Known, Node
from common.errors import UsageError
from common.folded_keys import split_key
from common.model import MeasurementType, Scalar
from common.section import Own, restored

MOST_PARTS: Final = 16
"""Most parts of a fact's name behind its type: it can be read in as many ways."""

_TOLD: Final = (MeasurementType.K8S, "node")
_ONE_OF_SEVERAL: Final = re.compile(r"(.+\[)([0-9]{1,9})\]", re.DOTALL)


class Wanted(NamedTuple):
    """One fact to be read."""

    kind: MeasurementType
    subtype: str
    key: str
    stable: bool = True
    """Whether it may be a stable fact, and not only one of the node's own."""


def own_values(
    node: Node | None, catalog: Catalog, wanted: Sequence[Wanted], told: Mapping[str, Scalar]
) -> list[Scalar | UnsetType] | None:
    """The last known values, in the order asked; unset where the node has none. Content is decoded once for all.

    None when nothing is known of the node here, as after a change of leader: nobody can say what it has.
    `told` is K8s.node, which no agent knows.
    """
    if node is None or node.known is None:
        return None
    identities: dict[MeasurementType, Mapping[str, Own]] = dict(map(catalog.identity, node.known.identities))
    stable: dict[tuple[MeasurementType, str], Mapping[str, Scalar]] = {}
    values: list[Scalar | UnsetType] = []
    for one in wanted:
        if told and (one.kind, one.subtype) == _TOLD:
            found = held_as(told, one.key)
            values.append(UNSET if found is None else told[found])
            continue
        own = identities.get(one.kind, {}).get(one.subtype, Own()).data
        if (found := held_as(own, one.key)) is not None:
            values.append(own[found])
            continue
        place = one.kind, one.subtype
        if one.stable and place not in stable:
            stable[place] = _stable(node.known, catalog, *place)
        data = stable.get(place, {}) if one.stable else {}
        found = held_as(data, one.key)
        values.append(UNSET if found is None else restored(data[found], node.name))
    return values


def _stable(known: Known, catalog: Catalog, kind: MeasurementType, subtype: str) -> Mapping[str, Scalar]:
    for digest in known.facts.sections:
        of_kind, manifest = catalog.subtypes(digest)
        if of_kind is kind and subtype in manifest:
            return catalog.data(manifest[subtype])
    return {}


def held_as(data: Mapping[str, object], key: str) -> str | None:
    """The key that holds this one: itself, or for `x[3]` the folded `x[0-7]`."""
    if key in data:
        return key
    one = _ONE_OF_SEVERAL.fullmatch(key)
    if one is None:
        return None
    return next((k for k in data if k.startswith(one[1]) and int(one[2]) in split_key(k)[1]), None)


def ways_to_read(parts: Sequence[str]) -> list[tuple[str, str]]:
    """A fact's name as subtype and key, the shortest subtype first: both have dots of their own.

    `SystemD.containerd.service.Delegate`. Each may have to be looked for on every node. Raises UsageError beyond
    MOST_PARTS.
    """
    if len(parts) > MOST_PARTS:
        raise UsageError(f"{'.'.join(parts)[:60]!r}… has more than {MOST_PARTS} parts between dots")
    return [(".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(1, len(parts))]
