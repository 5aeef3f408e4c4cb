"""The server's half of WebSocket: against a real client's bytes, and against anything else."""

import pytest
from aiohttp import WSMsgType
from aiohttp.http import WebSocketWriter
from hypothesis import given
from hypothesis import strategies as st

from aggregator.websocket import (
    BINARY,
    CLOSE,
    MOST_HEAD,
    FrameReader,
    HandshakeError,
    accept,
    close_code,
    frame,
    parse_head,
)
from common.wire import CLOSE_CODES, MAX_FRAME, Closed, FrameError

HEADERS = {
    "upgrade": "websocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def masked(payload: bytes, opcode: int = BINARY, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A client's frame, made as RFC 6455 says and not as our code does it."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 65536:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=400)), max_size=6),
    st.binary(min_size=4, max_size=4),
    st.data(),
)
def test_messages_arrive_however_the_stream_is_cut(
    messages: list[tuple[int, bytes]], mask: bytes, data: st.DataObject
) -> None:
    stream = b"".join(masked(payload, opcode, mask) for opcode, payload in messages)
    reader = FrameReader()
    arrived = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        arrived.extend(reader.feed(stream[:cut]))
        stream = stream[cut:]
    assert arrived == messages


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, MAX_FRAME])
def test_every_way_to_write_a_length(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert FrameReader().feed(masked(payload)) == [(BINARY, payload)]


def test_a_message_in_single_bytes_is_put_together_without_copying_it_for_each() -> None:
    message = masked(bytes(300_000))  # copied for each byte, this would be 45 GB
    reader = FrameReader()
    for number, byte in enumerate(message[:-1]):
        assert reader.feed(bytes((byte,))) == []
        assert reader.held == number + 1
    assert reader.feed(message[-1:]) == [(BINARY, bytes(300_000))]
    assert reader.held == 0


class Captured:
    """A transport that keeps what a real client's writer writes."""

    def __init__(self) -> None:
        self.written = b""

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written += bytes(data)


@pytest.mark.parametrize("size", [0, 5, 200, 70_000])
async def test_what_the_agents_library_writes_is_read(size: int) -> None:
    transport = Captured()
    writer = WebSocketWriter(None, transport, use_mask=True)  # type: ignore[arg-type]  # all that it uses of them
    await writer.send_frame(b"x" * size, WSMsgType.BINARY)
    assert FrameReader().feed(transport.written) == [(BINARY, b"x" * size)]


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_a_frame_error(data: bytes) -> None:
    reader = FrameReader()
    try:
        reader.feed(data)
    except FrameError as error:
        reason = error.reason
    else:
        reason = Closed.BAD_FRAME
    assert reason in (Closed.BAD_FRAME, Closed.TOO_LARGE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x82\x05hello", Closed.BAD_FRAME),  # unmasked
        (b"\x02\x85\0\0\0\0hello", Closed.BAD_FRAME),  # first of several parts
        (b"\x80\x85\0\0\0\0hello", Closed.BAD_FRAME),  # a further part of nothing
        (b"\xc2\x85\0\0\0\0hello", Closed.BAD_FRAME),  # compressed
        (b"\x83\x85\0\0\0\0hello", Closed.BAD_FRAME),  # no such opcode
        (b"\x89\xfe\x00\x80\0\0\0\0", Closed.BAD_FRAME),  # a ping too long
        (b"\x82\xff" + (MAX_FRAME + 1).to_bytes(8, "big"), Closed.TOO_LARGE),
        (b"\x82\xff" + b"\xff" * 8, Closed.TOO_LARGE),
    ],
)
def test_frames_that_are_refused_before_their_payload_is_awaited(data: bytes, reason: Closed) -> None:
    with pytest.raises(FrameError) as caught:
        FrameReader().feed(data)
    assert caught.value.reason is reason


def test_the_servers_frames_are_as_the_protocol_says() -> None:
    assert frame(b"") == b"\x82\x00"
    assert frame(b"x" * 126)[:4] == b"\x82\x7e\x00\x7e"
    assert frame(b"x" * 65536)[:10] == b"\x82\x7f" + (65536).to_bytes(8, "big")
    assert frame(b"\x0f\xa0bye", CLOSE) == b"\x88\x05\x0f\xa0bye"


def test_close_codes() -> None:
    assert close_code(CLOSE_CODES[Closed.GOING_AWAY].to_bytes(2, "big") + b"x") == CLOSE_CODES[Closed.GOING_AWAY]
    assert close_code(b"") == close_code(b"x") == 1005


def test_the_handshake_of_the_rfc() -> None:
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accept(HEADERS)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"upgrade": "h2c"}, 426),
        ({"connection": "close"}, 426),
        ({"sec-websocket-version": "8"}, 426),
        ({"sec-websocket-key": "short"}, 400),
        ({"sec-websocket-key": ""}, 400),
    ],
)
def test_requests_that_open_no_websocket(change: dict[str, str], status: int) -> None:
    with pytest.raises(HandshakeError) as caught:
        accept({**HEADERS, **change})
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.0", 400),
        (b"POST / HTTP/1.1", 405),
        (b"", 400),
        (b"GET / HTTP/1.1\r\nno colon", 400),
        (b"GET / HTTP/1.1\r\n folded: x", 400),
        (b"GET / HTTP/1.1\r\nName : x", 400),
        (b"GET / HTTP/1.1\r\nA: 1\r\na: 2", 400),
        ("GET /ä HTTP/1.1".encode(), 400),
    ],
)
def test_heads_that_are_no_request(head: bytes, status: int) -> None:
    with pytest.raises(HandshakeError) as caught:
        parse_head(head)
    assert caught.value.status == status


@given(st.binary(max_size=300))
def test_any_bytes_are_a_head_or_a_handshake_error(head: bytes) -> None:
    try:
        parse_head(head)
    except HandshakeError as error:
        status = error.status
    else:
        status = 400
    assert status in (400, 405)


def test_a_head_has_room_for_the_longest_token() -> None:
    assert MOST_HEAD > 2 * 16_384 - 1
