"""Fetching content: once, from one holder, from another when that one fails."""

from pathlib import Path

import pytest

from aggregator.blobs import BlobStore, compress
from aggregator.catalog import Catalog
from aggregator.fetch import PATIENCE, Fetcher
from common.canonical import Domain
from common.section import Pieces, split
from common.wire import Blob, Blobs, Closed, FrameError, Want
from tests.fleet.profiles import PROFILES, Profile, snapshot


class Agent:
    """Holds one node's content and keeps what it was asked for."""

    def __init__(self, node: str, profile: Profile, schema: int = 1) -> None:
        self.node = node
        self.schema = schema
        self.alive = True
        self.pieces: Pieces = split(snapshot(profile, node), schema=schema)
        self.wanted: list[bytes] = []

    def send(self, message: Want) -> None:
        self.wanted.extend(message.digests)

    def digests(self) -> list[tuple[Domain, bytes]]:
        sections = [(Domain.SECTION, section.stable) for section in self.pieces.sections]
        own = [(Domain.IDENTITY, section.identity) for section in self.pieces.sections if section.identity]
        return [*sections, *own, (Domain.OUTCOME, self.pieces.outcome)]

    def answer(self) -> Blobs:
        wanted, self.wanted = self.wanted, []
        return Blobs([Blob(digest, compress(self.pieces.contents[digest])) for digest in wanted])


class Scene:
    """A fetcher, and who is ready."""

    def __init__(self, directory: Path) -> None:
        self.ready: list[str] = []
        self.catalog = Catalog(BlobStore(directory))
        self.fetcher: Fetcher[Agent, str] = Fetcher(self.catalog, self.ready.append)
        self.sent = 0

    def report(self, agent: Agent) -> bool:
        return self.fetcher.await_content(agent.node, agent, agent.digests())

    def exchange(self, *agents: Agent, now: float = 0.0) -> None:
        """Ask and answer until nothing moves."""
        self.fetcher.ask(now)
        while any(agent.wanted for agent in agents):
            for agent in agents:
                if agent.wanted:
                    answer = agent.answer()
                    self.sent += len(answer.blobs)
                    self.fetcher.received(agent, answer)
            self.fetcher.ask(now)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_equal_content_is_fetched_once(scene: Scene) -> None:
    agents = [Agent(f"gpu-{n}", PROFILES[0]) for n in range(50)]
    assert not any(scene.report(agent) for agent in agents)
    scene.exchange(*agents)
    assert sorted(scene.ready) == sorted(agent.node for agent in agents)
    own = sum(1 for agent in agents for domain, _ in agent.digests() if domain is Domain.IDENTITY)
    shared = len(agents[0].pieces.contents) - own // len(agents)
    assert scene.sent == shared + own
    assert len(scene.fetcher) == 0
    again = Agent("gpu-0", PROFILES[0])
    assert scene.report(again), "nothing is missing the second time"


def test_another_holder_is_asked_when_the_first_is_silent_and_its_late_answer_is_no_offence(scene: Scene) -> None:
    silent, other = Agent("gpu-1", PROFILES[0]), Agent("gpu-2", PROFILES[0])
    scene.report(silent)
    scene.report(other)
    scene.fetcher.ask(0.0)
    assert silent.wanted
    late = list(silent.wanted)
    scene.fetcher.tick(PATIENCE + 0.1)
    scene.exchange(other, now=PATIENCE + 0.1)
    assert scene.ready == ["gpu-2"]
    silent.wanted = late
    scene.exchange(silent, now=PATIENCE + 0.2)
    assert sorted(scene.ready) == ["gpu-1", "gpu-2"]


def test_another_holder_is_asked_when_the_first_dies_in_the_middle(scene: Scene) -> None:
    dying, other = Agent("gpu-1", PROFILES[0]), Agent("gpu-2", PROFILES[0])
    scene.report(dying)
    scene.report(other)
    scene.fetcher.ask(0.0)
    scene.fetcher.received(dying, dying.answer())  # the manifests
    scene.fetcher.ask(0.0)
    assert dying.wanted, "and now it should send the subtypes"
    dying.alive = False
    scene.fetcher.gone(dying)
    scene.fetcher.give_up("gpu-1")
    scene.exchange(other)
    assert scene.ready == ["gpu-2"]
    assert len(scene.fetcher) == 0


def test_what_a_holder_no_longer_has_is_asked_of_another(scene: Scene) -> None:
    changed, other = Agent("gpu-1", PROFILES[0]), Agent("gpu-2", PROFILES[0])
    scene.report(changed)
    scene.report(other)
    scene.fetcher.ask(0.0)
    wanted, changed.wanted = changed.wanted, []
    scene.fetcher.received(changed, Blobs([], wanted))
    scene.exchange(other)
    assert scene.ready == ["gpu-2"]


def test_one_that_reports_later_can_still_give_what_is_stuck(scene: Scene) -> None:
    first = Agent("gpu-1", PROFILES[0])
    scene.report(first)
    scene.fetcher.ask(0.0)
    first.alive = False
    scene.fetcher.gone(first)
    scene.fetcher.ask(0.1)
    second = Agent("gpu-2", PROFILES[0])
    scene.report(second)
    scene.exchange(second)
    assert scene.ready == ["gpu-2"]


def test_content_that_does_not_match_is_refused_and_asked_of_another(scene: Scene) -> None:
    liar, other = Agent("gpu-1", PROFILES[0]), Agent("gpu-2", PROFILES[0])
    scene.report(liar)
    scene.report(other)
    scene.fetcher.ask(0.0)
    with pytest.raises(FrameError) as caught:
        scene.fetcher.received(liar, Blobs([Blob(liar.wanted[0], compress(b"something else"))]))
    assert caught.value.reason is Closed.WRONG_CONTENT
    liar.alive = False
    scene.fetcher.gone(liar)
    scene.exchange(other)
    assert "gpu-2" in scene.ready


def test_a_digest_claimed_for_the_wrong_kind_of_content_spoils_nobody_elses(scene: Scene) -> None:
    honest, liar = Agent("gpu-1", PROFILES[0]), Agent("gpu-2", PROFILES[1])
    stolen = next(digest for domain, digest in honest.digests() if domain is Domain.SECTION)
    scene.fetcher.await_content(liar.node, liar, [(Domain.IDENTITY, stolen), (Domain.SECTION, bytes(32))])
    scene.report(honest)
    scene.exchange(honest)
    assert scene.ready == ["gpu-1"]


def test_unasked_content_is_an_offence(scene: Scene) -> None:
    agent = Agent("gpu-1", PROFILES[0])
    with pytest.raises(FrameError) as caught:
        scene.fetcher.received(agent, Blobs([Blob(bytes(32), b"")]))
    assert caught.value.reason is Closed.OUT_OF_TURN


def test_a_newer_report_replaces_what_a_node_waits_for(scene: Scene) -> None:
    agent = Agent("gpu-1", PROFILES[0])
    scene.report(agent)
    changed = Agent("gpu-1", PROFILES[1])
    scene.report(changed)
    scene.exchange(agent, changed)
    assert scene.ready == ["gpu-1"]
    assert len(scene.fetcher) == 0


def test_after_content_was_dropped_it_is_fetched_again(scene: Scene) -> None:
    agent = Agent("gpu-1", PROFILES[0])
    scene.report(agent)
    scene.exchange(agent)
    scene.catalog.forget_all_but([], [], [], [])
    scene.fetcher.content_dropped()
    again = Agent("gpu-1", PROFILES[0])
    assert not scene.report(again)
    scene.exchange(again)
    assert scene.ready == ["gpu-1", "gpu-1"]


def test_what_had_no_room_is_asked_for_again_by_the_next_report(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    store = BlobStore(tmp_path, memory=3000, disk=0)
    scene.catalog = Catalog(store)
    scene.fetcher = Fetcher(scene.catalog, scene.ready.append)
    agent = Agent("gpu-1", PROFILES[0])
    scene.report(agent)
    scene.exchange(agent)
    assert scene.ready == []
    store._memory_limit = 1 << 20
    scene.report(agent)
    scene.exchange(agent)
    assert scene.ready == ["gpu-1"]


def test_a_slow_holder_is_not_asked_twice_for_what_it_owes(scene: Scene) -> None:
    slow = Agent("gpu-1", PROFILES[0])
    scene.report(slow)
    scene.fetcher.ask(0.0)
    owed, slow.wanted = slow.wanted, []
    scene.fetcher.tick(PATIENCE + 1)
    scene.report(slow)
    scene.fetcher.ask(PATIENCE + 1)
    assert slow.wanted == []
    slow.wanted = owed
    scene.exchange(slow)
    assert scene.ready == ["gpu-1"]
