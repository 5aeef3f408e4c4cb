"""The hub alone, against any messages in any order: only the protocol's own errors, nothing left behind."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from aggregator import websocket
from aggregator.auth import AgentIdentity
from aggregator.blobs import BlobStore, compress
from aggregator.catalog import Catalog
from aggregator.counts import Counts
from aggregator.fetch import MOST_ASKED
from aggregator.hub import Hub
from aggregator.ledger import Answer
from aggregator.link import Link
from aggregator.nodes import Node
from aggregator.settings import LinkSettings
from common import wire
from common.model import MeasurementType
from common.section import Pieces, split
from common.wire import Blob, Blobs, Collect, FrameError, Hello, Pong, Report, SectionDigests, Want
from tests.fleet.profiles import PROFILES, snapshot

NODES = ["n1", "n2", "n3"]
RUNS = ["r1", "r2", "r3"]
_PIECES: list[Pieces] = [split(snapshot(profile, "n1")) for profile in PROFILES[:3]]
_DIGESTS = sorted({digest for pieces in _PIECES for digest in pieces.contents} | {bytes(32)})

sections = st.lists(
    st.builds(
        SectionDigests,
        st.sampled_from(MeasurementType),
        st.sampled_from(_DIGESTS),
        st.none() | st.sampled_from(_DIGESTS),
    ),
    max_size=5,
)
ANSWERS: Counter[str] = Counter()
outcomes = st.none() | st.sampled_from(_DIGESTS)


class Wire:
    """A transport that keeps what is written, as messages."""

    def __init__(self) -> None:
        self.said: list[wire.FromAggregator] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        if data[0] & 0x0F == websocket.BINARY:
            start = 2 if data[1] < 126 else 4 if data[1] == 126 else 10
            self.said.append(wire.from_aggregator(data[start:]))

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    abort = close


class AnyMessages(RuleBasedStateMachine):
    """Three nodes whose agents say anything whatever, true content among it, and come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.store = BlobStore(Path(self.directory.name))
        self.hub = Hub(Catalog(self.store), Counts(), LinkSettings())
        self.hub.listener = self
        self.wires: dict[str, Wire] = {}
        self.answers: list[tuple[str, str]] = []
        self.asked: set[tuple[str, str]] = set()

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()

    # What the hub tells its listener.

    def joined(self, node: Node) -> None:
        assert node.link is not None

    def left(self, node: Node) -> None:
        assert node.link is None

    def answered(self, run: str, node: Node, answer: Answer) -> None:
        assert (run, node.name) in self.asked, "nobody answers what was not asked"
        self.asked.discard((run, node.name))
        ANSWERS[node.name] += 1
        assert answer.stale or node.known is not None, "an answer is told when its content is here"

    # What agents do.

    @rule(node=st.sampled_from(NODES), sections=sections, outcome=outcomes, schema=st.sampled_from([1, 1, 2]))
    def join(self, node: str, sections: list[SectionDigests], outcome: bytes | None, schema: int) -> None:
        record = self.hub.node(node)
        assert record is not None
        if record.link is not None:
            return
        self.wires[node] = Wire()
        link = Link(
            AgentIdentity(node, "pod", 0.0, 2e9),
            cast(asyncio.Transport, self.wires[node]),
            self.hub.settings,
            self.hub.counts,
        )
        self.hub.attach(record, link)
        self.say(node, lambda: self.hub.hello(record, link, Hello(1, schema, "v", sections, outcome)))

    @rule(node=st.sampled_from(NODES))
    def leave(self, node: str) -> None:
        record = self.hub.nodes.get(node)
        if record is not None and record.link is not None:
            record.link.close(wire.Closed.LOST)
            self.hub.detach(record, record.link)

    @rule(node=st.sampled_from(NODES), run=st.sampled_from(RUNS))
    def ask(self, node: str, run: str) -> None:
        record = self.hub.nodes.get(node)
        if record is not None and record.link is not None:
            self.asked.add((run, node))
            record.link.ask(run, websocket.frame(wire.encode(Collect(run, [], 1.0))))

    @rule(
        node=st.sampled_from(NODES),
        run=st.sampled_from(RUNS),
        sections=sections,
        outcome=outcomes,
        stale=st.booleans(),
    )
    def report(self, node: str, run: str, sections: list[SectionDigests], outcome: bytes | None, stale: bool) -> None:
        self.receive(node, Report(run, sections, outcome, 0.1, stale))

    @rule(node=st.sampled_from(NODES), kind=st.integers(0, 2), run=st.sampled_from(RUNS), rounds=st.integers(0, 3))
    def answer_truly(self, node: str, kind: int, run: str, rounds: int) -> None:
        """An honest agent, interrupted at any point."""
        self.join(node, [], None, 1)
        self.ask(node, run)
        self.receive(node, Report(run, list(_PIECES[kind].sections), _PIECES[kind].outcome))
        for _ in range(rounds):
            self.hub.tick()
            self.give_what_is_wanted(node)

    @rule(node=st.sampled_from(NODES))
    def give_what_is_wanted(self, node: str) -> None:
        wanted = [m for m in self.wires[node].said if isinstance(m, Want)] if node in self.wires else []
        held = {digest: content for pieces in _PIECES for digest, content in pieces.contents.items()}
        for want in wanted:
            self.wires[node].said.remove(want)
            blobs = [Blob(digest, compress(held[digest])) for digest in want.digests if digest in held]
            self.receive(node, Blobs(blobs, [digest for digest in want.digests if digest not in held]))

    @rule(node=st.sampled_from(NODES), digest=st.sampled_from(_DIGESTS), content=st.binary(max_size=20))
    def give_anything(self, node: str, digest: bytes, content: bytes) -> None:
        self.receive(node, Blobs([Blob(digest, content)]))

    @rule(node=st.sampled_from(NODES))
    def pong(self, node: str) -> None:
        self.receive(node, Pong(1))

    @rule()
    def tick(self) -> None:
        self.hub.tick()

    @rule()
    def forget(self) -> None:
        self.hub.forget_unused()

    def receive(self, node: str, message: wire.FromAgent) -> None:
        record = self.hub.nodes.get(node)
        if record is None or record.link is None:
            return
        link = record.link
        self.say(node, lambda: self.hub.received(record, link, message))

    def say(self, node: str, act: "object") -> None:
        """Do as a connection does: a FrameError ends the link."""
        record = self.hub.nodes[node]
        link = record.link
        assert link is not None
        assert callable(act)
        try:
            act()
        except FrameError as error:
            link.close(error.reason)
            self.hub.detach(record, link)

    @invariant()
    def counts_agree(self) -> None:
        assert self.hub.connected == sum(node.link is not None for node in self.hub.nodes.values())

    @invariant()
    def what_is_known_can_be_read(self) -> None:
        for node in self.hub.nodes.values():
            if node.known is None:
                continue
            for manifest in node.known.facts.sections:
                for subtype in self.hub.catalog.subtypes(manifest)[1].values():
                    self.hub.catalog.data(subtype)
            self.hub.catalog.outcome(node.known.facts.outcome)
            for identity in node.known.identities:
                self.hub.catalog.identity(identity)

    @invariant()
    def nothing_piles_up(self) -> None:
        assert len(self.hub.fetcher) <= 3 * len(_DIGESTS)
        assert 0 <= self.hub.fetcher.in_flight <= MOST_ASKED
        if not any(node.link for node in self.hub.nodes.values()):
            assert len(self.hub.fetcher) == 0, "nobody waits, so nothing is needed"
            assert self.hub.fetcher.in_flight == 0


def test_any_messages_in_any_order() -> None:
    ANSWERS.clear()
    run_state_machine_as_test(AnyMessages, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
    assert ANSWERS.total() > 20, "honest agents among them were heard"
