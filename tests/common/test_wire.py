"""Frames: round trips, limits on every field, and any bytes at all."""

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common import wire
from common.model import MeasurementType
from common.wire import Closed, FrameError

DIGEST = bytes(range(32))
digests = st.binary(min_size=32, max_size=32)
sections = st.lists(
    st.builds(wire.SectionDigests, st.sampled_from(MeasurementType), digests, st.none() | digests), max_size=5
)
seconds = st.floats(0, 86_400)
runs = st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
from_agent = st.one_of(
    st.builds(wire.Hello, st.integers(0, 10**6), st.integers(1, 999), text, sections, st.none() | digests, seconds),
    st.builds(wire.Report, runs, sections, st.none() | digests, seconds, st.booleans()),
    st.builds(
        wire.Blobs,
        st.lists(st.builds(wire.Blob, digests, st.binary(max_size=100)), max_size=5),
        st.lists(digests, max_size=5),
    ),
    st.builds(wire.Renew, text),
    st.builds(wire.Pong, st.integers(0, 2**63)),
)
from_aggregator = st.one_of(
    st.builds(wire.Collect, runs, st.lists(st.sampled_from(MeasurementType), max_size=5), st.floats(0.001, 3600)),
    st.builds(wire.Want, st.lists(digests, min_size=1, max_size=5)),
    st.builds(wire.Ping, st.integers(0, 2**63)),
)


@given(from_agent)
def test_what_an_agent_says_arrives_as_said(message: wire.FromAgent) -> None:
    assert wire.from_agent(wire.encode(message)) == message


@given(from_aggregator)
def test_what_the_aggregator_says_arrives_as_said(message: wire.FromAggregator) -> None:
    assert wire.from_aggregator(wire.encode(message)) == message


def refused_for(frame: bytes, read: Callable[[bytes], object]) -> Closed | None:
    """Why a frame is refused, or None when it is a message. Anything but a FrameError is a defect."""
    try:
        read(frame)
    except FrameError as error:
        return error.reason
    return None


REFUSALS = {
    wire.from_agent: (None, Closed.BAD_FRAME, Closed.PROTOCOL),  # it may begin as the Hello of another version
    wire.from_aggregator: (None, Closed.BAD_FRAME),
}


@given(st.binary(max_size=300))
@example(b"\x92\x01\x00")
def test_any_bytes_are_a_message_or_a_frame_error(frame: bytes) -> None:
    for read, refusals in REFUSALS.items():
        assert refused_for(frame, read) in refusals


@given(from_agent, st.data())
def test_a_damaged_frame_is_a_message_or_a_frame_error(message: wire.FromAgent, data: st.DataObject) -> None:
    frame = bytearray(wire.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)))])
    assert refused_for(cut, wire.from_agent) in REFUSALS[wire.from_agent]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | text | st.binary(max_size=40),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=3),
        max_leaves=20,
    )
)
@example([1, 0])
def test_any_messagepack_is_a_message_or_a_frame_error(value: object) -> None:
    frame = msgspec.msgpack.encode(value)
    for read, refusals in REFUSALS.items():
        assert refused_for(frame, read) in refusals


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("hello: schema 0", [1, 1, 0, "v"]),
        ("hello: schema too high", [1, 1, 1000, "v"]),
        ("hello: long version", [1, 1, 1, "v" * 65]),
        ("hello: six sections", [1, 1, 1, "v", [["OS", DIGEST]] * 6]),
        ("hello: unknown section", [1, 1, 1, "v", [["Weather", DIGEST]]]),
        ("hello: negative age", [1, 1, 1, "v", [], None, -1.0]),
        ("report: empty run", [2, ""]),
        ("report: long run", [2, "r" * 41]),
        ("report: run with a newline", [2, "r\n"]),
        ("report: short digest", [2, "r", [["OS", DIGEST[:-1]]]]),
        ("report: long digest", [2, "r", [["OS", DIGEST + b"x"]]]),
        ("report: NaN seconds", [2, "r", [], None, math.nan]),
        ("report: infinite seconds", [2, "r", [], None, math.inf]),
        ("blobs: too many", [3, [[DIGEST, b""]] * 257]),
        ("blobs: too many missing", [3, [], [DIGEST] * 257]),
        ("renew: long token", [4, "t" * 16_385]),
        ("pong: negative", [5, -1]),
        ("no such message", [6, 1]),
        ("not an array", {"run": "r"}),
        ("empty", []),
    ],
)
def test_fields_beyond_their_limits_are_refused(name: str, fields: object) -> None:
    with pytest.raises(FrameError) as caught:
        wire.from_agent(msgspec.msgpack.encode(fields))
    assert caught.value.reason is Closed.BAD_FRAME, name


@pytest.mark.parametrize(
    "fields",
    [
        [1, "run", [], 0.0],
        [1, "run", [], math.nan],
        [1, "run", [], 3601.0],
        [1, "run", ["OS"] * 6, 1.0],
        [2, []],
        [2, [DIGEST] * 257],
    ],
)
def test_an_aggregator_beyond_the_limits_is_refused(fields: object) -> None:
    with pytest.raises(FrameError):
        wire.from_aggregator(msgspec.msgpack.encode(fields))


def test_an_oversized_frame_is_refused_unread() -> None:
    for read in (wire.from_agent, wire.from_aggregator):
        with pytest.raises(FrameError) as caught:
            read(bytes(wire.MAX_FRAME + 1))
        assert caught.value.reason is Closed.TOO_LARGE


def test_nesting_and_false_lengths_cost_nothing() -> None:
    for frame in (
        b"\x91" * 1_000_000,
        b"\x81" * 1_000_000,
        b"\x94\x02\xa1r\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ):
        with pytest.raises(FrameError):
            wire.from_agent(frame)


def test_fields_of_a_newer_peer_are_passed_over() -> None:
    frame = msgspec.msgpack.encode([2, "run", [], None, 0.5, False, "something new", {"more": 1}])
    assert wire.from_agent(frame) == wire.Report("run", seconds=0.5)


@pytest.mark.parametrize("protocol", [wire.OLDEST_PROTOCOL - 1, wire.PROTOCOL + 1])
def test_a_hello_of_another_protocol_is_named_even_if_it_cannot_be_read(protocol: int) -> None:
    frame = msgspec.msgpack.encode([1, protocol, {"all": "is otherwise"}])
    with pytest.raises(FrameError) as caught:
        wire.from_agent(frame)
    assert caught.value.reason is wire.Closed.PROTOCOL
    with pytest.raises(FrameError) as caught:
        wire.from_agent(msgspec.msgpack.encode([1, wire.PROTOCOL, {"all": "is otherwise"}]))
    assert caught.value.reason is wire.Closed.BAD_FRAME


def test_a_warm_report_is_a_few_bytes() -> None:
    assert len(wire.encode(wire.Report("r" * 16, seconds=0.123))) < 40


def test_close_codes_are_in_the_range_left_to_applications_and_distinct() -> None:
    assert set(wire.CLOSE_CODES) == set(Closed)
    assert all(4000 <= code < 5000 for code in wire.CLOSE_CODES.values())
    assert len(set(wire.CLOSE_CODES.values())) == len(Closed)


@pytest.mark.parametrize("name", ["n", "gpu-001", "ip-10-0-1-2.us-west-2.compute.internal", "Host_1", "a" * 253])
def test_node_names(name: str) -> None:
    assert wire.is_node_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", ".", "a b", "a\n", "a/b", "[1-3]", "a,b", "ä", "a" * 254, "@1"])
def test_texts_that_name_no_node(name: str) -> None:
    assert not wire.is_node_name(name)
