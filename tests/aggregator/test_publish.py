"""Publishing: readers find one whole document, in a directory or in a ConfigMap, however large it is."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml

from aggregator.excerpt import excerpt_of_fleet
from aggregator.fold import fold
from aggregator.names import NodeNames
from aggregator.publish import FLEET, ConfigMapPublisher, DirectoryPublisher
from common.errors import OutputError
from common.fleet import FleetMetadata, FleetSnapshot
from common.formats import Format, dump_plain
from common.kube.client import Kube
from common.kube.configmaps import get_document
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from tests.aggregator.test_document import document_of, fleet
from tests.fakes.apiserver import FakeApiServer
from tests.fleet.scene import scene, until


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


def kube_of(api: FakeApiServer) -> Kube:
    return Kube(Target(server=api.url, credentials=FixedCredentials(Credential())))


def small(run: str = "run-1") -> FleetSnapshot:
    nodes, contents = fleet(40, "counted")
    document = document_of(nodes, contents, NodeNames(nodes))
    assert fold(nodes, contents, NodeNames(nodes)).groups == document.groups
    return msgspec.structs.replace(document, metadata=FleetMetadata("1", run, "2026-01-01T00:00:00Z"))


def render(document: FleetSnapshot) -> bytes:
    return dump_plain(document, Format.YAML)


async def test_a_directory_shows_the_last_document(tmp_path: Path) -> None:
    publisher = DirectoryPublisher(tmp_path)
    for run in ("run-1", "run-2", "run-3"):
        await publisher.publish(small(run))
        shown = yaml.safe_load((tmp_path / FLEET / "snapshot.yaml").read_text())
        assert shown["metadata"]["run"] == run
    assert sorted(os.listdir(tmp_path)) == [f".{FLEET}-run-3", FLEET]


async def test_what_cannot_be_written_leaves_the_last_document_in_place(tmp_path: Path) -> None:
    publisher = DirectoryPublisher(tmp_path)
    await publisher.publish(small("run-1"))
    (tmp_path / f".{FLEET}.new").mkdir()  # in the way of the link
    with pytest.raises(OSError, match=r"."):
        await publisher.publish(small("run-2"))
    assert (tmp_path / FLEET / "snapshot.yaml").read_bytes() == render(small("run-1"))
    assert not (tmp_path / f".{FLEET}-run-2").exists()


async def test_a_config_map_of_the_fleet(api: FakeApiServer) -> None:
    document = small()
    async with kube_of(api) as kube:
        await ConfigMapPublisher(kube, "eidos").publish(document)
        stored = await get_document(kube, "eidos", FLEET)
    assert stored.content == render(document)
    assert (stored.format, stored.timestamp) == ("yaml", "2026-01-01T00:00:00Z")


async def test_a_document_beyond_one_config_map_is_whole_in_shards_and_readable_in_part(api: FakeApiServer) -> None:
    nodes, contents = fleet(20_000, "pool")
    document = document_of(nodes, contents, NodeNames(nodes))
    async with kube_of(api) as kube:
        await ConfigMapPublisher(kube, "eidos").publish(document)
        stored = await get_document(kube, "eidos", FLEET)
    assert len(stored.content) > 900 << 10
    assert stored.content == render(document)
    index = api.store.objects["configmaps"]["eidos", FLEET]["data"]
    assert isinstance(index, dict)
    readable = yaml.safe_load(index["snapshot.yaml"])
    assert len(index["snapshot.yaml"]) < 900 << 10
    assert readable["kind"] == "FleetSnapshot"
    assert readable["summary"]["expected"] == 20_000
    assert "measurements" in readable["leftOut"]


@pytest.mark.parametrize("limit", [200_000, 5_000, 2_000, 1_000])
def test_an_excerpt_fits_and_names_what_it_has_not(limit: int) -> None:
    nodes, contents = fleet(2_000, "pool")
    document = document_of(nodes, contents, NodeNames(nodes))
    written = excerpt_of_fleet(document, render)(limit)
    assert len(written) <= limit
    again = msgspec.convert(yaml.safe_load(written), FleetSnapshot)
    assert again.summary == document.summary
    assert isinstance(again.left_out, list)
    for part in ("measurements", "outliers", "ledger", "nodeTable", "groups"):
        field = "node_table" if part == "nodeTable" else part
        if part not in again.left_out:
            assert getattr(again, field) == getattr(document, field)


def test_what_fits_nowhere_says_so() -> None:
    with pytest.raises(OutputError):
        excerpt_of_fleet(small(), render)(100)


class Flaky:
    """A publisher that fails a few times."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.published: list[str] = []

    async def publish(self, document: FleetSnapshot) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left on device")
        self.published.append(document.metadata.run)


async def test_what_could_not_be_published_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.fleet._PUBLISH_AGAIN", 0.01)
    async with scene(tmp_path, ["n1"]) as at_work:
        at_work.fleet._publisher = publisher = Flaky(3)
        _, run = await at_work.run()
        await until(lambda: publisher.published == [run.id])
        assert publisher.failures == 0


async def test_a_later_document_does_not_wait_for_one_that_could_not_be_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator.fleet._PUBLISH_AGAIN", 3600.0)
    async with scene(tmp_path, ["n1"]) as at_work:
        at_work.fleet._publisher = publisher = Flaky(1)
        await at_work.run()
        await until(lambda: publisher.failures == 0)
        _, run = await at_work.run()
        await until(lambda: publisher.published == [run.id])
