"""The fleet as one thing: links in, runs, documents out. What the HTTP API and a local fleet's CLI use."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from msgspec import UNSET, UnsetType

from aggregator.blobs import BlobStore
from aggregator.catalog import Catalog
from aggregator.cluster_facts import Read
from aggregator.cluster_side import ClusterSide, ReadCluster
from aggregator.counts import Counts
from aggregator.document import fleet_snapshot
from aggregator.fold import Folded, NodeFacts, fold
from aggregator.hub import Hub
from aggregator.ledger import Entry, Expected, timestamp
from aggregator.names import NodeNames
from aggregator.node_objects import NodeObjects
from aggregator.nodes import Known
from aggregator.own_facts import Wanted, own_values
from aggregator.publish import Publisher
from aggregator.published import as_run
from aggregator.run import Run
from aggregator.runs import Runs
from aggregator.settings import Settings
from common.errors import Code, EidosError, FleetError, OutputError
from common.fleet import FleetMetadata, FleetSnapshot
from common.memory import give_back
from common.model import MeasurementType, Scalar, Snapshot
from common.section import Own, assemble
from common.version import VERSION

_log: Final = logging.getLogger(__name__)

_TIDY_EVERY: Final = 30
"""Seconds between two looks at what memory can be given back."""
_PUBLISH_AGAIN: Final = 2.0
_PUBLISH_AT_LEAST_EVERY: Final = 60.0
"""Seconds before the first, and between later attempts to publish what could not be."""


class Fleet:
    """Hub, runs, folding and publishing, put together."""

    def __init__(
        self,
        settings: Settings,
        expected: Callable[[], list[Expected]],
        publisher: Publisher | None = None,
        cluster: ReadCluster | None = None,
    ) -> None:
        """`cluster` reads what belongs to the cluster itself. Without it there is none."""
        self.settings = settings
        self.counts = Counts()
        self.expected = expected
        self.store = BlobStore(settings.directory, settings.memory, settings.disk)
        self.catalog = Catalog(self.store)
        self.hub = Hub(self.catalog, self.counts, settings.link)
        self.cluster = ClusterSide(expected, cluster)
        self.runs = Runs(self.hub, expected, self._finish, settings.run, self.cluster.read)
        self.hub.listener = self.runs
        self.latest: Run | None = None
        """The last run over the whole fleet and all sections that ended in a document."""
        self.listeners: list[Callable[[FleetSnapshot], None]] = []
        """Told of every such document."""
        self._publisher = publisher
        # One thread: folds take turns, and the loop goes on reading links meanwhile.
        self._folder = ThreadPoolExecutor(1, "fold")
        self._names = NodeNames(())
        self._last_fold: tuple[NodeNames, Mapping[str, NodeFacts], Folded] | None = None
        self._reading = 0
        self._contents_at_sweep = 0
        self._to_publish: FleetSnapshot | None = None
        self._is_newer = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None
        self._ticking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ping links and to have content fetched. Needs a running loop."""
        loop = asyncio.get_running_loop()
        self.hub.start(loop.call_soon)
        self._ticking = loop.create_task(self._tick(), name="hub-tick")

    async def stop(self) -> None:
        """End runs and forget everything."""
        for task in (self._ticking, self._publishing):
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, (self._ticking, self._publishing)), return_exceptions=True)
        await self.runs.end_all("the aggregator is stopping")
        self._folder.shutdown(wait=True, cancel_futures=True)
        self.store.close()

    async def _tick(self) -> None:
        turnover = self.counts.turnover
        for seconds in itertools.count(1):
            await asyncio.sleep(1.0)
            self.hub.tick()
            if seconds % _TIDY_EVERY == 0 and not self.runs.under_way and turnover != self.counts.turnover:
                turnover = self.counts.turnover
                await asyncio.to_thread(give_back)

    @contextmanager
    def reading_content(self) -> Iterator[None]:
        """While somebody reads content beside the loop, none is dropped."""
        self._reading += 1
        try:
            yield
        finally:
            self._reading -= 1

    async def _finish(self, run: Run) -> None:
        """Make a run's document."""
        if self._names.names != (names := tuple(sorted(entry.node for entry in run.entries))):
            self._names = NodeNames(names)
        nodes = self._facts(run)
        metadata = FleetMetadata(VERSION, run.id, timestamp(time.time()))
        with self.reading_content():
            run.document = await asyncio.get_running_loop().run_in_executor(
                self._folder,
                self._document,
                metadata,
                run.entries,
                nodes,
                self._names,
                self.cluster.nodes(run),
                self.cluster.known(run),
            )
        if not run.request.sections and not run.request.selector.nodes and not run.request.selector.labels:
            self._is_last(run, run.document)
            self._publish(run.document)
        if not self._reading and self.counts.contents != self._contents_at_sweep:
            self._contents_at_sweep = self.counts.contents
            self.hub.forget_unused()

    def resume(self, document: FleetSnapshot) -> None:
        """Go on from what an earlier aggregator published last: it is the last snapshot as long as we have none."""
        if self.latest is None:
            run = as_run(document)
            self._is_last(run, document)
            self.runs.remember(run)

    def _is_last(self, run: Run, document: FleetSnapshot) -> None:
        if self.latest is not None:
            self.latest.pinned = False
        self.latest, run.pinned = run, True
        for listener in self.listeners:
            listener(document)

    def _facts(self, run: Run) -> dict[str, NodeFacts]:
        """The last complete facts of the run's nodes, of the sections it is about."""
        known = {
            entry.node: node.known.facts
            for entry in run.entries
            if (node := self.hub.nodes.get(entry.node)) is not None and node.known is not None
        }
        if not run.request.sections:
            return known
        chosen: dict[NodeFacts, NodeFacts] = {}
        for facts in set(known.values()):
            kinds = {digest: self.catalog.subtypes(digest)[0] for digest in facts.sections}
            kept = tuple(digest for digest in facts.sections if kinds[digest] in run.request.sections)
            chosen[facts] = NodeFacts(kept, facts.outcome)
        return {node: chosen[facts] for node, facts in known.items()}

    def _document(
        self,
        metadata: FleetMetadata,
        entries: list[Entry],
        nodes: Mapping[str, NodeFacts],
        names: NodeNames,
        told: Mapping[str, Mapping[str, Scalar]],
        cluster: Read | None,
    ) -> FleetSnapshot:
        """In the folding thread. Where no node's facts changed, the last fold still holds."""
        contents = NodeObjects(self.catalog)
        nodes = {name: contents.add(name, facts, told.get(name, {})) for name, facts in nodes.items()}
        last = self._last_fold
        if last is None or last[0] is not names or last[1] != nodes:
            last = self._last_fold = (names, nodes, fold(nodes, contents, names))
        of_cluster = UNSET if cluster is None else self.cluster.folded(cluster, names)
        return fleet_snapshot(metadata, entries, last[2], names, of_cluster)

    def _publish(self, document: FleetSnapshot) -> None:
        """Have the document published; one that is still waiting is overtaken."""
        if self._publisher is None:
            return
        self._to_publish = document
        self._is_newer.set()
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.get_running_loop().create_task(
                self._publish_latest(self._publisher), name="publish"
            )

    async def _publish_latest(self, publisher: Publisher) -> None:
        pause = _PUBLISH_AGAIN
        while (document := self._to_publish) is not None:
            self._is_newer.clear()
            try:
                await publisher.publish(document)
            except (OSError, EidosError) as error:
                _log.error("not published", extra={"run": document.metadata.run, "detail": str(error)})
                if not isinstance(error, OutputError):  # a full disk, an API server that is away: it passes
                    await self._pause_publishing(pause)
                    pause = min(2 * pause, _PUBLISH_AT_LEAST_EVERY)
                    continue
            pause = _PUBLISH_AGAIN
            if self._to_publish is document:
                self._to_publish = None

    async def _pause_publishing(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._is_newer.wait(), seconds)
        except TimeoutError:
            return

    def last(self) -> tuple[Run, FleetSnapshot]:
        """The last snapshot over the whole fleet, and its run. Raises FleetError when there is none yet."""
        if self.latest is None or self.latest.document is None:
            raise FleetError(
                Code.FLEET_NOT_FOUND, "there is no snapshot yet", "Take one: eidos fleet snapshot (POST /v1/runs)."
            )
        return self.latest, self.latest.document

    def snapshot_of(self, name: str) -> Snapshot | None:
        """One node's last known snapshot, exactly as one-shot mode would have written it; None when not known."""
        node = self.hub.nodes.get(name)
        if node is None or node.known is None:
            return None
        return self.assemble(name, node.known)

    def own_values(self, name: str, wanted: Sequence[Wanted]) -> list[Scalar | UnsetType] | None:
        """A node's last known values of some facts; unset where it has none, None when none of its facts is known."""
        return own_values(self.hub.nodes.get(name), self.catalog, wanted, self.cluster.node(name))

    def assemble(self, name: str, known: Known, alone: bool = True) -> Snapshot:
        """A node's snapshot from its pieces. What belongs to the whole cluster is in it only if it is shown alone."""
        subtypes: dict[MeasurementType, dict[str, Mapping[str, Scalar]]] = {}
        for digest in known.facts.sections:
            kind, manifest = self.catalog.subtypes(digest)
            subtypes[kind] = {subtype: self.catalog.data(content) for subtype, content in manifest.items()}
        own: dict[MeasurementType, Mapping[str, Own]] = dict(map(self.catalog.identity, known.identities))
        outcome = list(self.catalog.outcome(known.facts.outcome))
        snapshot = assemble(name, known.version, timestamp(known.at), subtypes, own, outcome)
        last = self.latest.document if self.latest is not None and alone else None
        return self.cluster.complete(snapshot, last)
