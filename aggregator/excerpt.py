"""What of a FleetSnapshot stays readable in its ConfigMap when the whole is in shards. Pure.

Measurements go first, then the cluster but for its version, then outliers, then groups from the smallest on. What is
left out is named under `leftOut`.
"""

from collections.abc import Callable, Iterator

from msgspec import UNSET
from msgspec.structs import replace

from common.errors import OutputError
from common.excerpt import Excerpt
from common.fleet import ClusterFacts, FleetSnapshot
from common.model import Measurement, MeasurementType


def excerpt_of_fleet(document: FleetSnapshot, render: Callable[[FleetSnapshot], bytes]) -> Excerpt:
    """The excerpts of a FleetSnapshot, written as `render` writes it."""

    def excerpt(limit: int) -> bytes:
        for part in _shorter(document):
            content = render(part)
            if len(content) <= limit:
                return content
        raise OutputError("the fleet's snapshot is too large to store, even without groups and measurements")

    return excerpt


def _shorter(document: FleetSnapshot) -> Iterator[FleetSnapshot]:
    left_out = ["measurements"]
    document = replace(document, measurements=[], left_out=left_out)
    yield document
    if document.cluster is not UNSET:
        left_out = [*left_out, "cluster"]
        document = replace(document, cluster=_server(document.cluster), left_out=left_out)
        yield document
    left_out = [*left_out, "outliers", "collection"]
    document = replace(document, outliers=[], collection=[], left_out=left_out)
    yield document
    left_out = [*left_out, "groups"]
    count = len(document.groups)
    while count:
        count //= 2
        yield replace(document, groups=document.groups[:count], left_out=left_out)
    # Names are most of what is left of a fleet of which none fold.
    left_out = [*left_out, "ledger", "agents", "nodeTable"]
    yield replace(document, groups=[], ledger=[], agents=[], node_table=[], left_out=left_out)


def _server(cluster: ClusterFacts) -> ClusterFacts:
    kept = [subtype for m in cluster.measurements for subtype in m.subtypes if subtype.subtype == "server"]
    measurements = [Measurement(MeasurementType.K8S, kept)] if kept else []
    return replace(cluster, measurements=measurements, taints=[], labels=[], scattered=[])
