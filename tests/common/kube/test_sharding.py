"""Cutting and joining: the whole or an error."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.kube import sharding
from common.kube.sharding import IncompleteError, ShardIndex, fitted, join, split

LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "SHARD_BYTES", 100)


def _noise(length: int) -> bytes:
    return random.Random(7).randbytes(length)  # noqa: S311 - no secret


@pytest.mark.parametrize("length", [0, 1, 100, 101, 1000, 10_001])
def test_what_was_cut_is_joined(length: int) -> None:
    content = _noise(length)
    index, shards = split(content, "eidos-snapshot")
    assert [shard.name for shard in index.shards] == list(shards)
    assert all(len(piece) <= 100 for piece in shards.values())
    assert join(index, list(shards.values()), LIMIT) == content


@given(st.binary())
def test_any_content(content: bytes) -> None:
    index, shards = split(content, "x")
    assert (
        join(msgspec.json.decode(msgspec.json.encode(index), type=ShardIndex), list(shards.values()), LIMIT)
        == content
    )


def test_names_come_from_the_content() -> None:
    one, same, other = (split(content, "x")[0].shards[0].name for content in (b"a", b"a", b"b"))
    assert one == same != other


@pytest.mark.parametrize("base", ["a" * 253, "a" * 100 + "." * 1 + "b" * 152, "a." * 126 + "a"])
def test_names_are_valid_however_long_the_base(base: str) -> None:
    name = split(_noise(500), base)[0].shards[-1].name
    assert len(name) <= 253
    assert all(part and part[0].isalnum() and part[-1].isalnum() for part in name.split("."))


def test_shortened_names_stay_apart() -> None:
    assert fitted("short", 63) == "short"
    assert len(fitted("a" * 100, 63)) == 63
    assert fitted("a" * 100 + "b", 63) != fitted("a" * 100 + "c", 63)


def test_a_changed_missing_or_exchanged_piece() -> None:
    index, shards = split(_noise(1000), "x")
    pieces = list(shards.values())
    for broken in (
        [b"", *pieces[1:]],
        [pieces[0][:-1] + b"\x00", *pieces[1:]],
        [pieces[1], pieces[0], *pieces[2:]],
    ):
        with pytest.raises(IncompleteError, match="was changed"):
            join(index, broken, LIMIT)


def test_an_index_that_does_not_fit_its_pieces() -> None:
    index, shards = split(_noise(1000), "x")
    pieces = list(shards.values())
    for changes in ({"size": 999}, {"size": 1001}, {"digest": "00"}, {"shards": index.shards[:-1]}):
        wrong = msgspec.structs.replace(index, **changes)
        with pytest.raises(IncompleteError):
            join(wrong, pieces[: len(wrong.shards)], LIMIT)
    for changes in ({"layout": 2}, {"encoding": "lzma"}):
        with pytest.raises(IncompleteError, match="later version"):
            join(msgspec.structs.replace(index, **changes), pieces, LIMIT)


def test_a_bomb_is_not_unpacked() -> None:
    index, shards = split(bytes(50_000_000), "x")
    with pytest.raises(OverflowError):
        join(index, list(shards.values()), LIMIT)
    with pytest.raises(IncompleteError):
        join(msgspec.structs.replace(index, size=1000), list(shards.values()), LIMIT)
