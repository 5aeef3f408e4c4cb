"""What belongs to the cluster itself, as a few lines of text."""

from collections.abc import Iterator

from cli.text import aligned, style, visible
from common.fleet import ClusterFacts
from common.model import MeasurementType, Scalar, State


def cluster_lines(cluster: ClusterFacts, colour: bool) -> Iterator[str]:
    """Its version, how many there are of everything else, and what could not be read."""
    yield style("CLUSTER", colour, bold=True)
    yield from aligned(_rows(cluster), header=None)
    failed = [line for line in cluster.collection if line.state is State.FAILED and line.reason]
    for line in failed:
        what = f"{line.type.value}.{line.subtype}" if line.subtype else line.type.value
        yield f"  {style('not read', colour, fg='red')}  {visible(what)}: {visible(line.reason)}"


def _rows(cluster: ClusterFacts) -> Iterator[tuple[str, str]]:
    data = {(m.type, s.subtype): s.data for m in cluster.measurements for s in m.subtypes}
    server = data.get((MeasurementType.K8S, "server"), {})
    if server:
        yield "  Kubernetes", visible(" ".join(str(server[key]) for key in ("version", "platform") if key in server))
    counts: list[tuple[str, dict[str, Scalar] | None]] = [
        ("images", data.get((MeasurementType.K8S, "image"))),
        ("policy settings", data.get((MeasurementType.K8S, "policy"))),
    ]
    for name, found in counts:
        if found is not None:
            yield f"  {name}", f"{len(found):,}"
    summary = data.get((MeasurementType.NODE_TOPOLOGY, "summary"), {})
    yield from ((f"  {visible(key).removesuffix('-count')}s", f"{count:,}") for key, count in summary.items())
