"""Content: verified, bounded in memory, on disk beyond."""

import os
from pathlib import Path

import pytest
import zstandard

from aggregator.blobs import BlobStore, StoreFullError, compress, decompress
from aggregator.catalog import Catalog
from aggregator.fold import fold
from aggregator.names import NodeNames
from common.canonical import Domain, canonical_bytes, content_digest, encode
from common.section import split
from common.wire import MAX_CONTENT, Closed, FrameError
from tests.fleet.profiles import PROFILES, snapshot


def digest(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_memory_is_bounded_and_nothing_is_lost(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, memory=10_000, disk=1 << 20)
    contents = {digest(n): bytes([n % 256]) * 500 + str(n).encode() for n in range(500)}
    for key, content in contents.items():
        store.add(key, compress(content))
        assert store.memory_bytes <= 10_000
    assert len(store) == 500
    assert store.disk_bytes > 0
    assert {key: store.read(key) for key in contents} == contents
    assert all(key in store for key in contents)
    with pytest.raises(KeyError):
        store.read(digest(501))
    store.close()
    assert not list(tmp_path.iterdir())


def test_a_full_store_refuses_and_forgetting_makes_room(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, memory=2000, disk=3000)
    kept = 0
    while kept < 1000:
        try:
            store.add(digest(kept), bytes([kept % 256]) * 100)
        except StoreFullError:
            break
        kept += 1
    assert 20 < kept < 60
    live = {digest(0), digest(kept - 1)}
    assert store.keep_only(live) == kept - 2
    assert len(store) == 2
    store.add(digest(2000), b"x" * 100)
    assert store.memory_bytes + store.disk_bytes < 1500
    store.close()


def fill(store: BlobStore, size: int) -> None:
    """Add contents of this size until there is no room."""
    for number in range(100_000):
        store.add(digest(number), os.urandom(size))


@pytest.mark.parametrize("size", [100, 3000, 50_000])
def test_the_file_stays_within_its_limit_and_shrinks(tmp_path: Path, size: int) -> None:
    store = BlobStore(tmp_path, memory=1000, disk=2 << 20)
    with pytest.raises(StoreFullError):
        fill(store, size)
    (file,) = tmp_path.iterdir()
    assert (2 << 20) * 0.5 < store.disk_bytes < file.stat().st_size <= 2 << 20
    store.keep_only({digest(1)})
    assert file.stat().st_size < 100_000
    store.close()


def test_a_disk_that_is_full_costs_only_what_comes_now(tmp_path: Path) -> None:
    store = BlobStore(tmp_path, memory=10_000, disk=1 << 20)
    store._opened().execute("pragma max_page_count = 40")  # fails as a full disk does
    contents = {digest(n): os.urandom(900) for n in range(1000)}
    kept = []
    for key, content in contents.items():
        try:
            store.add(key, compress(content))
        except StoreFullError:
            assert key not in store
            break
        kept.append(key)
    assert 30 < len(kept) < 300
    assert store.memory_bytes <= 10_000
    assert all(store.read(key) == contents[key] for key in kept), "nothing that was here is lost"
    store.keep_only(set(kept[-5:]))
    store.add(digest(5000), compress(b"x"))
    assert store.read(digest(5000)) == b"x"
    store.close()


def test_what_a_store_left_behind_is_removed(tmp_path: Path) -> None:
    first = BlobStore(tmp_path, memory=100, disk=1 << 20)
    first.add(digest(1), compress(b"x" * 1000))
    first.add(digest(2), compress(b"y" * 1000))
    assert list(tmp_path.iterdir())
    second = BlobStore(tmp_path, memory=100, disk=1 << 20)
    assert digest(1) not in second
    first.close()


@pytest.mark.parametrize(
    ("compressed", "reason"),
    [
        (b"", Closed.WRONG_CONTENT),
        (b"garbage", Closed.WRONG_CONTENT),
        (compress(b"x")[:-1], Closed.WRONG_CONTENT),
        (compress(b"x") + b"more", Closed.WRONG_CONTENT),
        (compress(bytes(MAX_CONTENT + 1)), Closed.TOO_LARGE),
        (compress(bytes(1 << 28)), Closed.TOO_LARGE),
        (zstandard.ZstdCompressor(write_content_size=False).compress(b"x"), Closed.TOO_LARGE),
        (bytes(1 << 21), Closed.TOO_LARGE),
    ],
)
def test_content_is_checked_before_it_is_unpacked(compressed: bytes, reason: Closed) -> None:
    with pytest.raises(FrameError) as caught:
        decompress(compressed)
    assert caught.value.reason is reason


def test_content_must_match_its_digest_and_its_kind(tmp_path: Path) -> None:
    catalog = Catalog(BlobStore(tmp_path))
    content = encode(("OS", "release", {"a": "1"}))
    right = content_digest(Domain.SUBTYPE, content)
    for domain, name, sent in [
        (Domain.SUBTYPE, digest(1), content),
        (Domain.SECTION, right, content),
        (Domain.SECTION, content_digest(Domain.SECTION, content), content),
        (Domain.SUBTYPE, content_digest(Domain.SUBTYPE, b"\x00"), b"\x00"),
        (Domain.SUBTYPE, content_digest(Domain.SUBTYPE, canonical_bytes({"a": 1})), canonical_bytes({"a": 1})),
    ]:
        with pytest.raises(FrameError) as caught:
            catalog.add(domain, name, compress(sent), 1)
        assert caught.value.reason is Closed.WRONG_CONTENT
        assert not catalog.has(domain, name)
    catalog.add(Domain.SUBTYPE, right, compress(content), 1)
    assert catalog.has(Domain.SUBTYPE, right)
    assert not catalog.has(Domain.SECTION, right), "a digest claimed for another kind of content finds nothing"


def domain_of(content: bytes, wanted: bytes, schema: int) -> Domain:
    return next(domain for domain in Domain if content_digest(domain, content, schema) == wanted)


def test_agents_of_two_schema_versions_with_the_same_facts_are_one_group(tmp_path: Path) -> None:
    catalog = Catalog(BlobStore(tmp_path))
    nodes = {}
    for node, schema in (("gpu-1", 1), ("gpu-2", 2), ("gpu-3", 7)):
        pieces = split(snapshot(PROFILES[0], node), schema=schema)
        for name, content in pieces.contents.items():
            catalog.add(domain_of(content, name, schema), name, compress(content), schema)
        nodes[node] = catalog.facts(pieces.sections, pieces.outcome)
    assert nodes["gpu-1"] is nodes["gpu-2"] is nodes["gpu-3"]
    (group,) = fold(nodes, catalog, NodeNames(nodes)).groups
    assert group.count == 3


def test_forgetting_keeps_what_nodes_are_known_by(tmp_path: Path) -> None:
    catalog = Catalog(BlobStore(tmp_path))
    nodes = {}
    for n, schema in ((0, 1), (1, 2), (2, 1)):
        pieces = split(snapshot(PROFILES[n], f"gpu-{n}"), schema=schema)
        for name, content in pieces.contents.items():
            catalog.add(domain_of(content, name, schema), name, compress(content), schema)
        nodes[f"gpu-{n}"] = catalog.facts(pieces.sections, pieces.outcome)
    before = fold(nodes, catalog, NodeNames(nodes))
    assert catalog.forget_all_but([], [], [], nodes.values()) > 0
    assert fold(nodes, catalog, NodeNames(nodes)).groups == before.groups
    del nodes["gpu-0"]
    assert catalog.forget_all_but([], [], [], nodes.values()) > 0
    assert len(fold(nodes, catalog, NodeNames(nodes)).groups) == 2
