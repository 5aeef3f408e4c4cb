"""The way back from a FleetSnapshot to every node's stable facts. Pure."""

from collections.abc import Iterator
from typing import TypeAlias

from msgspec import UNSET

from aggregator.names import unfold_names
from common.fleet import Differing, FleetSnapshot, FoldedSubtype
from common.model import MeasurementType, Scalar
from common.nodeset import unfold_indexes
from common.section import restored

Facts: TypeAlias = dict[tuple[MeasurementType, str], dict[str, Scalar]]
"""Data by measurement type and subtype."""


def unfold(document: FleetSnapshot) -> dict[str, Facts]:
    """Every folded node's stable facts, exactly as on the node but for keys the document names as scattered."""
    by_group: list[Facts] = [{} for _ in document.groups]
    for measurement in document.measurements:
        for subtype in measurement.subtypes:
            for group, data in _by_group(subtype, len(by_group)):
                by_group[group][measurement.type, subtype.subtype] = data
    return {
        node: {
            place: {key: restored(value, node) for key, value in data.items()}
            for place, data in by_group[group.group].items()
        }
        for group in document.groups
        for node in unfold_names(group.nodes, document.node_table)
    }


def _by_group(subtype: FoldedSubtype, groups: int) -> Iterator[tuple[int, dict[str, Scalar]]]:
    having = unfold_indexes(subtype.groups) if subtype.groups else range(groups)
    data = {group: dict(subtype.data) for group in having}
    for differing in subtype.differs:
        for group, value in value_by_group(differing, having):
            data[group][differing.key] = value
    return ((group, dict(sorted(facts.items()))) for group, facts in data.items())


def value_by_group(differing: Differing, having: list[int] | range) -> Iterator[tuple[int, Scalar]]:
    """Group and value of a differing fact, for each of the groups given that has the key at all."""
    most, *rarer = differing.values
    named = {group: value.value for value in rarer for group in unfold_indexes(value.groups)}
    for group in having:
        value = named.get(group, most.value)
        if value is not UNSET:
            yield group, value
