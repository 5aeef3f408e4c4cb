"""What an earlier aggregator published, read back: the same document, or none; and what becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import published as published_module
from aggregator.fleet import Fleet
from aggregator.names import NodeNames
from aggregator.published import as_run, read_published
from aggregator.settings import Settings
from common.errors import InputError, OutputError
from common.fleet import FleetMetadata, FleetSnapshot, NodeState
from common.fleet_api import RunState
from common.formats import Format, dump_plain
from tests.aggregator.test_document import document_of, fleet

RUN = "69f0c3a1beef-7"


@cache
def _document(count: int, naming: str) -> FleetSnapshot:
    nodes, contents = fleet(count, naming)
    return document_of(nodes, contents, NodeNames(nodes))


def document(count: int = 40, naming: str = "counted", run: str = RUN) -> FleetSnapshot:
    return msgspec.structs.replace(_document(count, naming), metadata=FleetMetadata("1", run, "2026-01-01T00:00:00Z"))


def render(published: FleetSnapshot) -> bytes:
    return dump_plain(published, Format.YAML)


@pytest.mark.parametrize(("count", "naming"), [(20, "counted"), (200, "counted"), (500, "pool")])
def test_it_is_read_back_as_it_was(count: int, naming: str) -> None:
    written = document(count, naming)
    read = read_published(render(written), "it")
    assert read == written
    assert render(read) == render(written)


def test_the_run_it_came_from() -> None:
    written = document()
    run = as_run(written)
    assert (run.id, run.state, run.document) == (RUN, RunState.DONE, written)
    assert run.ended.is_set()
    assert len(run.entries) == written.summary.expected
    assert [entry.node for entry in run.entries] == sorted(entry.node for entry in run.entries)
    progress = run.progress()
    assert progress.states == written.summary.states
    answered = [entry for entry in run.entries if entry.state in (NodeState.OK, NodeState.PARTIAL)]
    assert progress.answered == len(answered)
    assert len(run.group_of()) == written.summary.folded


def _spoilt() -> dict[str, Callable[[Any], object]]:
    """Every one a document that would mislead whoever goes through it."""

    def differing(value: Any) -> Any:
        subtypes = (subtype for measurement in value["measurements"] for subtype in measurement["subtypes"])
        return next(subtype for subtype in subtypes if subtype.get("differs"))

    return {
        "of another kind": lambda value: value.update(kind="Snapshot"),
        "of another version": lambda value: value.update(apiVersion="fleet.eidos.nvidia.com/v9"),
        "an excerpt": lambda value: value.update(leftOut=["measurements"]),
        "a run by no name": lambda value: value["metadata"].update(run="../../x"),
        "no time": lambda value: value["metadata"].update(timestamp="yesterday"),
        "a time beyond all": lambda value: value["metadata"].update(timestamp="0000-01-01T00:00:00Z"),
        "a state there is not": lambda value: value["ledger"][0].update(state="well"),
        "a node too many": lambda value: value["ledger"][0].update(nodes=value["ledger"][0]["nodes"] + ",other"),
        "a node twice": lambda value: value["ledger"].append(dict(value["ledger"][0])),
        "a set without end": lambda value: value["groups"][0].update(nodes="n[0-999999999]"),
        "a set that is none": lambda value: value["groups"][0].update(nodes="n[["),
        "beyond the table": lambda value: value["groups"][0].update(nodes="@9999999"),
        "a group nobody expects": lambda value: value["groups"][0].update(nodes="stranger", count=1),
        "groups out of order": lambda value: value["groups"].reverse(),
        "a summary of another": lambda value: value["summary"].update(states={"ok": 1}),
        "a group that is not": lambda value: differing(value).update(groups="0-99999"),
        "an endless range": lambda value: differing(value).update(groups="0-999999999"),
        "a fact of no values": lambda value: differing(value)["differs"][0].update(values=[]),
        "a value that is none": lambda value: differing(value)["differs"][0]["values"][0].update(value=[1]),
        "no ledger": lambda value: value.pop("ledger"),
        "an agent nobody knows": lambda value: value["agents"].append(
            {"version": "1", "count": 1, "nodes": "stranger"}
        ),
        "an outlier of nothing": lambda value: value["outliers"].append(
            {"group": -1, "count": 1, "nodes": "x", "like": 0, "facts": []}
        ),
    }


@pytest.mark.parametrize("name", _spoilt())
def test_what_contradicts_itself_is_refused(name: str) -> None:
    value = msgspec.json.decode(msgspec.json.encode(document(200)))
    _spoilt()[name](value)
    with pytest.raises(InputError, match=r"^cm://x/y is not a whole FleetSnapshot: ."):
        read_published(msgspec.json.encode(value), "cm://x/y")


def _labelled(value: Any) -> None:
    labels = [{"key": f"k{number}", "value": "", "count": 200} for number in range(6)]
    value["cluster"] = {"id": "x", "collection": [], "measurements": [], "labels": labels}


def test_what_says_the_same_over_and_over_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes for each time, and hours for all of them."""
    value = msgspec.json.decode(msgspec.json.encode(document(200)))
    _labelled(value)
    content = msgspec.json.encode(value)
    assert read_published(content, "it").summary.expected == 200
    monkeypatch.setattr(published_module, "_MOST_NODES", 1_199)
    with pytest.raises(InputError, match="its cluster names nodes too often"):
        read_published(content, "it")
    monkeypatch.setattr(published_module, "_MOST_NODES", 1_200)
    monkeypatch.setattr(published_module, "_MOST_GROUPS", 3)
    with pytest.raises(InputError, match="it names groups too often"):
        read_published(content, "it")


@pytest.mark.parametrize("content", [b"", b"\x00", b"[]", b"a: &a [*a]", b"kind: FleetSnapshot", b"\xff\xfe"])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="cm://x/y"):
        read_published(content, "cm://x/y")


_WRITTEN = render(document(20))


@settings(max_examples=100)
@given(at=st.integers(0, len(_WRITTEN)), cut=st.integers(0, 200), put=st.binary(max_size=20))
def test_whatever_is_done_to_it_is_read_or_refused(at: int, cut: int, put: bytes) -> None:
    """What is read all the same can be gone through."""
    try:
        read = read_published(_WRITTEN[:at] + put + _WRITTEN[at + cut :], "it")
    except InputError:
        return
    assert len(as_run(read).group_of()) == read.summary.folded


class Recording:
    """A `Publisher` that fails as often as it is told to."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.asked: list[str] = []
        self.failed, self.done = asyncio.Event(), asyncio.Event()

    async def publish(self, document: FleetSnapshot) -> None:
        self.asked.append(document.metadata.run)
        if self.errors:
            self.failed.set()
            raise self.errors.pop(0)
        self.done.set()


@pytest.fixture
async def going(tmp_path: Path) -> AsyncIterator[Callable[[Recording | None], Fleet]]:
    """Fleets without nodes."""
    made: list[Fleet] = []

    def make(publisher: Recording | None = None) -> Fleet:
        made.append(Fleet(Settings(tmp_path), list, publisher))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


Going = Callable[[Recording | None], Fleet]


async def test_a_fleet_goes_on_from_it(going: Going) -> None:
    told: list[str] = []
    resumed, publisher = document(), Recording()
    fleet = going(publisher)
    fleet.listeners.append(lambda heard: told.append(heard.metadata.run))
    fleet.resume(resumed)
    run, last = fleet.last()
    assert (run.id, last) == (RUN, resumed)
    assert fleet.runs.find(RUN) is run
    assert told == [RUN]
    assert publisher.asked == [], "it is published already"


async def test_nothing_older_takes_the_place_of_something_newer(going: Going) -> None:
    fleet = going(None)
    fleet.resume(document(run="a-1"))
    fleet.resume(document(run="b-1"))
    assert fleet.last()[0].id == "a-1"


async def test_what_could_not_be_published_is_tried_again(going: Going, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.fleet._PUBLISH_AGAIN", 0.01)
    publisher = Recording(OSError("the disk is full"), OSError("the disk is full"))
    fleet = going(publisher)
    fleet._publish(document(run="a-1"))
    await asyncio.wait_for(publisher.done.wait(), 60)
    assert publisher.asked == ["a-1"] * 3


async def test_something_newer_does_not_wait_for_what_could_not_be_published(
    going: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator.fleet._PUBLISH_AGAIN", 300.0)
    publisher = Recording(OSError("the disk is full"))
    fleet = going(publisher)
    fleet._publish(document(run="a-1"))
    await asyncio.wait_for(publisher.failed.wait(), 60)
    fleet._publish(document(run="a-2"))
    await asyncio.wait_for(publisher.done.wait(), 60)
    assert publisher.asked == ["a-1", "a-2"]


async def test_what_never_can_be_published_is_not_tried_again(going: Going) -> None:
    publisher = Recording(OutputError("somebody else's"))
    fleet = going(publisher)
    fleet._publish(document(run="a-1"))
    assert fleet._publishing is not None
    await asyncio.wait_for(fleet._publishing, 60)
    assert publisher.asked == ["a-1"]


async def test_runs_of_replicas_that_start_in_the_same_moment_have_ids_of_their_own(
    going: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller who asks the next leader for its run must not get another's."""
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    assert going(None).runs._epoch != going(None).runs._epoch
