"""Which groups of a document nobody asked for a measurement type: what they lack of it is no change. Pure.

A document of some measurement types has no facts of the others, and no line about how their collectors ended, or one
from an earlier run, which names subtypes that the document does not have. A node that was asked for some types only
before it was lost is likewise in a document of all types.
"""

from collections.abc import Mapping

from msgspec import UNSET

from common.fleet import FleetSnapshot
from common.model import MeasurementType
from common.nodeset import unfold_indexes


def uncollected(document: FleetSnapshot) -> Mapping[MeasurementType, frozenset[int]]:
    """The groups by measurement type."""
    everybody = range(len(document.groups))
    asked: dict[MeasurementType, set[int]] = {kind: set() for kind in MeasurementType}
    named: dict[MeasurementType, set[int]] = {kind: set() for kind in MeasurementType}
    for line in document.collection:
        of = named if line.subtypes else asked
        of[line.type].update(unfold_indexes(line.groups) if line.groups else everybody)
    for kind in MeasurementType:
        asked[kind] -= named[kind]
    for measurement in document.measurements:
        for subtype in measurement.subtypes:
            asked[measurement.type].update(unfold_indexes(subtype.groups) if subtype.groups else everybody)
    for kind in cluster_kinds(document):
        asked[kind].update(everybody)
    return {kind: frozenset(everybody) - groups for kind, groups in asked.items()}


def cluster_kinds(document: FleetSnapshot) -> frozenset[MeasurementType]:
    """What was asked of the cluster itself."""
    return (
        frozenset(line.type for line in document.cluster.collection) if document.cluster is not UNSET else frozenset()
    )
