"""All links and all nodes: takes in what agents say, has missing content fetched, tells runs who answered.

Nothing here waits for an agent; connections (aggregator/endpoint.py) read frames and pass them in.
"""

import time
from collections.abc import Callable, Container
from typing import Final, Protocol

from aggregator import websocket
from aggregator.blobs import StoreFullError
from aggregator.catalog import Catalog
from aggregator.counts import Counts
from aggregator.fetch import Fetcher
from aggregator.ledger import Answer, failures_of
from aggregator.link import Link
from aggregator.nodes import Known, Node, Pending
from aggregator.settings import LinkSettings
from common import wire
from common.canonical import NAMING
from common.wire import Blobs, Closed, FrameError, FromAgent, Hello, Ping, Pong, Report

_TICK: Final = 1.0


class Listener(Protocol):
    """Runs, as the hub sees them."""

    def joined(self, node: Node) -> None:
        """The node's agent has said Hello."""

    def left(self, node: Node) -> None:
        """The node's link is down."""

    def answered(self, run: str, node: Node, answer: Answer) -> None:
        """The node's report for a run, and all its content, is here."""


class Hub:
    """The state of the fleet. All methods belong to the event loop's thread and return at once."""

    def __init__(self, catalog: Catalog, counts: Counts, settings: LinkSettings) -> None:
        self.nodes: dict[str, Node] = {}
        self.counts = counts
        self.settings = settings
        self.catalog = catalog
        self.fetcher: Fetcher[Link, Node] = Fetcher(catalog, self._ready)
        self.listener: Listener | None = None
        self.connected = 0
        self._schedule: Callable[[Callable[[], None]], object] = lambda ask: ask()
        self._asking = False
        self._ping = 0

    def start(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        """`schedule` runs a callback when the frames at hand have been read (loop.call_soon)."""
        self._schedule = schedule

    def node(self, name: str) -> Node | None:
        """The node's record, made when there is room for it."""
        known = self.nodes.get(name)
        if known is None and len(self.nodes) < self.settings.most_nodes:
            known = self.nodes[name] = Node(name)
        return known

    def attach(self, node: Node, link: Link) -> None:
        """The link is the node's from now on. What it has not said yet is unknown again."""
        node.link = link
        node.token_issued_at = max(node.token_issued_at, link.identity.issued_at)
        node.sections, node.outcome = {}, None
        self.connected += 1

    def detach(self, node: Node, link: Link) -> None:
        """The link is down, for the reason it carries."""
        self.fetcher.gone(link)
        if node.link is not link:
            return
        self.fetcher.give_up(node)
        node.link, node.closed, node.pending = None, link.closed or Closed.LOST, None
        self.connected -= 1
        if self.listener is not None:
            self.listener.left(node)
        self._ask_soon()

    def received(self, node: Node, link: Link, message: FromAgent) -> None:
        """Take in one message. Raises FrameError when it breaks the protocol."""
        if isinstance(message, Report):
            self._report(node, link, message)
        elif isinstance(message, Blobs):
            self.counts.contents += len(message.blobs)
            self.counts.contents_refused += self.fetcher.received(link, message)
            self._ask_soon()
        elif isinstance(message, Hello):
            raise FrameError(Closed.OUT_OF_TURN, "a second Hello")
        elif not isinstance(message, Pong):  # hearing from it is all a Pong is for
            raise FrameError(Closed.OUT_OF_TURN, "a message the endpoint should have handled")

    def hello(self, node: Node, link: Link, hello: Hello) -> None:
        """The first message of a link. Raises FrameError when the agent cannot be understood."""
        wire.check_protocol(hello.protocol)
        link.schema, link.version = hello.schema, hello.version
        node.sections = {section.kind: section for section in hello.sections}
        node.outcome = hello.outcome
        if node.outcome is not None:
            node.pending = Pending(time.time() - hello.age, hello.version)
            self._await_content(node, link)
        if self.listener is not None:
            self.listener.joined(node)

    def _report(self, node: Node, link: Link, report: Report) -> None:
        if report.run not in link.asked:
            raise FrameError(Closed.OUT_OF_TURN, "a report nobody asked for")
        del link.asked[report.run]
        if report.stale:
            self._tell(report.run, node, Answer(stale=True, complete=True, failures=""))
            return
        for section in report.sections:
            node.sections[section.kind] = section
        if report.outcome is not None:
            node.outcome = report.outcome
        if node.outcome is None:
            raise FrameError(Closed.OUT_OF_TURN, "a report that does not say how collecting ended")
        if node.pending is None and node.known is not None and not report.sections and report.outcome is None:
            node.known.at = time.time()
            self._tell(report.run, node, Answer(stale=False, complete=True, failures=node.failures))
            return
        if node.pending is None:
            node.pending = Pending(time.time(), link.version)
        node.pending.at = time.time()
        node.pending.runs[report.run] = None
        self._await_content(node, link)

    def _await_content(self, node: Node, link: Link) -> None:
        if self.fetcher.await_content(node, link, node.digests()):
            self._ready(node)
        else:
            self._ask_soon()

    def _ready(self, node: Node) -> None:
        """Everything the node reported is here."""
        pending, node.pending = node.pending, None
        if pending is None or node.outcome is None:
            return
        try:
            facts = self.catalog.facts(node.sections.values(), node.outcome)
        except StoreFullError:
            self.counts.contents_refused += 1
            return
        identities = tuple(section.identity for section in node.sections.values() if section.identity is not None)
        node.known = Known(facts, identities, pending.version, pending.at)
        node.failures = failures_of(self.catalog.outcome(facts.outcome))
        for run in pending.runs:
            self._tell(run, node, Answer(stale=False, complete=True, failures=node.failures))

    def _tell(self, run: str, node: Node, answer: Answer) -> None:
        if self.listener is not None:
            self.listener.answered(run, node, answer)

    def _ask_soon(self) -> None:
        if not self._asking and self.fetcher.has_questions:
            self._asking = True
            self._schedule(self._ask)

    def _ask(self) -> None:
        self._asking = False
        self.fetcher.ask(time.monotonic())

    def tick(self) -> None:
        """Once a second: ping, close what is silent or expired, have others asked for what did not come."""
        now, settings = time.monotonic(), self.settings
        self._ping += 1
        ping = websocket.frame(wire.encode(Ping(self._ping)))
        for node in list(self.nodes.values()):
            link = node.link
            if link is None:
                continue
            if now - link.heard_at > settings.silent_after:
                link.close(Closed.SILENT)
            elif now > link.expires_at:
                link.close(Closed.EXPIRED)
            elif now - link.pinged_at >= settings.ping_every:
                link.pinged_at = now
                link.refill(settings)
                link.send_frame(ping)
        self.fetcher.tick(now)
        self._ask_soon()

    def challenge(self, link: Link) -> None:
        """Have an agent say that it is there."""
        self._ping += 1
        link.send(Ping(self._ping))

    def forget_nodes(self, but: Container[str]) -> None:
        """Forget nodes without a link that are none of these."""
        for name in [name for name, node in self.nodes.items() if node.link is None and name not in but]:
            del self.nodes[name]

    def forget_node(self, name: str) -> None:
        """The name is another machine's. What a link that is still up last said counts when it reports again."""
        node = self.nodes.get(name)
        if node is None:
            return
        if node.link is None:
            del self.nodes[name]
        else:
            node.known, node.failures = None, ""

    def forget_unused(self) -> int:
        """Drop content that no node refers to any more. Not while a fold reads. Returns how much was dropped."""
        sections: set[bytes] = set()
        identities: set[bytes] = set()
        outcomes: set[bytes] = set()
        facts = set()
        for node in self.nodes.values():
            # Under another schema version what it says it holds is not what it is known by.
            if node.pending is not None or (node.link is not None and node.link.schema != NAMING):
                sections.update(section.stable for section in node.sections.values())
                identities.update(s.identity for s in node.sections.values() if s.identity is not None)
                outcomes.add(node.outcome or b"")
            if node.known is not None:
                facts.add(node.known.facts)
                identities.update(node.known.identities)
        dropped = self.catalog.forget_all_but(sections, identities, outcomes, facts)
        if dropped:
            self.fetcher.content_dropped()
        return dropped
