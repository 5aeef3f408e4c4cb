"""/metrics: the process in numbers, for Prometheus. Labels are reasons and states, never nodes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from aggregator.duty import Duty
from aggregator.fleet import Fleet
from common.fleet import NodeState

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class FleetCollector:
    """Reads the counters when asked; nothing is counted twice."""

    def __init__(self, fleet: Fleet, duty: Callable[[], Duty]) -> None:
        self._fleet = fleet
        self._duty = duty

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks a collector."""
        leads = self._duty() is Duty.LEADING
        yield GaugeMetricFamily("eidos_leading", "Whether this aggregator serves agents and users.", int(leads))
        yield from self._links()
        yield from self._content()
        yield from self._runs()

    def _links(self) -> Iterable[Metric]:
        counts, hub = self._fleet.counts, self._fleet.hub
        yield GaugeMetricFamily("eidos_links", "Agents connected.", hub.connected)
        yield _by("eidos_links_closed", "Links closed, by reason.", "reason", counts.closed)
        yield _by("eidos_links_refused", "Links refused, by reason.", "reason", counts.refused)
        yield _by("eidos_http_dropped", "HTTP connections dropped, by reason.", "reason", counts.http_dropped)
        yield _by("eidos_http_answers", "HTTP requests answered, by status.", "status", counts.http_answers)
        frames = CounterMetricFamily("eidos_link_frames", "Frames on agents' links.", labels=["direction"])
        frames.add_metric(["in"], counts.frames_in)
        frames.add_metric(["out"], counts.frames_out)
        yield frames
        size = CounterMetricFamily("eidos_link_bytes", "Bytes of frames on agents' links.", labels=["direction"])
        size.add_metric(["in"], counts.bytes_in)
        size.add_metric(["out"], counts.bytes_out)
        yield size

    def _content(self) -> Iterable[Metric]:
        counts, store = self._fleet.counts, self._fleet.store
        yield CounterMetricFamily("eidos_contents_received", "Pieces of content received.", counts.contents)
        yield CounterMetricFamily("eidos_contents_refused", "Pieces without room.", counts.contents_refused)
        yield GaugeMetricFamily("eidos_contents", "Pieces of content kept.", len(store))
        kept = GaugeMetricFamily("eidos_content_bytes", "Compressed content kept.", labels=["where"])
        kept.add_metric(["memory"], store.memory_bytes)
        kept.add_metric(["disk"], store.disk_bytes)
        yield kept
        yield GaugeMetricFamily(
            "eidos_contents_missing", "Pieces asked for or waited for.", len(self._fleet.hub.fetcher)
        )

    def _runs(self) -> Iterable[Metric]:
        counts, latest = self._fleet.counts, self._fleet.latest
        yield _by(
            "eidos_runs", "Runs, by how they ended, and requests that joined or were refused.", "end", counts.runs
        )
        yield CounterMetricFamily("eidos_reports_late", "Reports after the end of their run.", counts.late_reports)
        if latest is None or latest.document is None:
            return
        summary = latest.document.summary
        states = GaugeMetricFamily("eidos_nodes", "Nodes in the last snapshot, by state.", labels=["state"])
        for state in NodeState:
            states.add_metric([state.value], summary.states.get(state.value, 0))
        yield states
        yield GaugeMetricFamily("eidos_groups", "Groups in the last snapshot.", summary.groups)
        yield GaugeMetricFamily("eidos_outliers", "Outliers in the last snapshot.", summary.outliers)
        if not latest.folded_after:  # another aggregator's
            return
        took = GaugeMetricFamily("eidos_run_seconds", "The last snapshot's run, from its start.", labels=["until"])
        took.add_metric(["collected"], latest.collected_after)
        took.add_metric(["folded"], latest.folded_after)
        yield took


def _by(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


class Exposition:
    """Renders /metrics from a registry of its own: the library's global one stays empty."""

    def __init__(self, fleet: Fleet, duty: Callable[[], Duty]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(FleetCollector(fleet, duty))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self._registry)
