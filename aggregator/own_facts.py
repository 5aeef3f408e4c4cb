"""One node's value of one fact, read from the node's content: for facts that the folded document does not hold."""

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import UNSET, UnsetType

from aggregator.catalog import Catalog
from aggregator.nodes import Node
from common.folded_keys import split_key
from common.model import MeasurementType, Scalar
from common.section import restored

Place: TypeAlias = tuple[MeasurementType, str, str]
"""Measurement type, subtype, key."""


def own_value(node: Node | None, catalog: Catalog, place: Place) -> Scalar | UnsetType:
    """The last known value; unset when the node has none."""
    kind, subtype, key = place
    if node is None or node.known is None:
        return UNSET
    for digest in node.known.identities:
        of_kind, own = catalog.identity(digest)
        if of_kind is kind and subtype in own and (found := held_as(own[subtype].data, key)) is not None:
            return own[subtype].data[found]
    for digest in node.known.facts.sections:
        of_kind, manifest = catalog.subtypes(digest)
        if of_kind is kind and subtype in manifest:
            data = catalog.data(manifest[subtype])
            found = held_as(data, key)
            return restored(data[found], node.name) if found is not None else UNSET
    return UNSET


def held_as(data: Mapping[str, object], key: str) -> str | None:
    """The key that holds this one: itself, or for `x[3]` the folded `x[0-7]`."""
    if key in data:
        return key
    name, indexes = split_key(key)
    if len(indexes) != 1:
        return None
    beginning = f"{name}["
    return next((k for k in data if k.startswith(beginning) and indexes[0] in split_key(k)[1]), None)
