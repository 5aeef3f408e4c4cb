"""Which groups of a document nobody asked for a measurement type: what they lack of it is no difference. Pure.

A document of some measurement types has no facts of the others, and no line about how their collectors ended, or one
from an earlier run, which names subtypes that the document does not have. A node that was asked for some types only
before it was lost is likewise in a document of all types.
"""

from msgspec import UNSET

from common.fleet import FleetSnapshot
from common.model import MeasurementType
from common.nodeset import unfold_indexes


def uncollected(document: FleetSnapshot, kind: MeasurementType) -> frozenset[int]:
    """The groups that were not asked for measurements of a type."""
    everybody = frozenset(range(len(document.groups)))
    if kind in cluster_kinds(document):
        return frozenset()
    asked: set[int] = set()
    named: set[int] = set()
    for line in document.collection:
        if line.type is kind:
            of = named if line.subtypes else asked
            of.update(unfold_indexes(line.groups) if line.groups else everybody)
    asked -= named
    for measurement in document.measurements:
        for subtype in measurement.subtypes if measurement.type is kind else ():
            if len(asked) == len(everybody):
                break
            asked.update(unfold_indexes(subtype.groups) if subtype.groups else everybody)
    return everybody - asked


def cluster_kinds(document: FleetSnapshot) -> frozenset[MeasurementType]:
    """What was asked of the cluster itself."""
    return (
        frozenset(line.type for line in document.cluster.collection) if document.cluster is not UNSET else frozenset()
    )
