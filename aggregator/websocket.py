"""The server's half of the WebSocket protocol (RFC 6455), as little of it as agents use: no I/O, no tasks.

A link costs what stays allocated for it, ten thousand times. Under aiohttp's server that is a handler task, a
request, its headers and several queues, 25 KB beside the 24 KB that TLS needs; here it is one small object.
Whole, masked, uncompressed messages only: that is what the agent sends. Everything else is refused.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Final

from common.wire import MAX_FRAME, Closed, FrameError

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

MOST_HEAD: Final = 32_768
"""Bytes of a request's head: a token of 16 KB and some headers fit."""
_MOST_CONTROL: Final = 125
_END: Final = b"\r\n\r\n"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class HandshakeError(ValueError):
    """A request that opens no WebSocket; `status` is the HTTP answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse_head(head: bytes) -> tuple[str, Mapping[str, str]]:
    """Path and headers (names in lower case) of an upgrade request, its end included. Raises HandshakeError."""
    try:
        lines = head.removesuffix(_END).decode("ascii").split("\r\n")
    except UnicodeDecodeError as error:
        raise HandshakeError(400, "the request's head is not ASCII") from error
    method, _, rest = lines[0].partition(" ")
    path, _, version = rest.partition(" ")
    if version != "HTTP/1.1":
        raise HandshakeError(400, "not an HTTP/1.1 request")
    if method != "GET":
        raise HandshakeError(405, "only GET")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in headers:
            raise HandshakeError(400, "a header is malformed or given twice")
        headers[name.lower()] = value.strip()
    return path, headers


def accept(headers: Mapping[str, str]) -> bytes:
    """The answer that opens the WebSocket. Raises HandshakeError when the request does not ask for one."""
    upgrade = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    if headers.get("upgrade", "").lower() != "websocket" or "upgrade" not in upgrade:
        raise HandshakeError(426, "a WebSocket is expected")
    if headers.get("sec-websocket-version") != "13":
        raise HandshakeError(426, "WebSocket version 13 is expected")
    key = headers.get("sec-websocket-key", "")
    if len(key) != 24:
        raise HandshakeError(400, "the WebSocket key is malformed")
    # Prescribed by RFC 6455, 4.2.2; it protects nothing.
    proof = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + proof + _END
    )


def refuse(status: int, text: str) -> bytes:
    """An answer that opens none."""
    body = text.encode()
    more = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" if status == 426 else b""
    return (
        b"HTTP/1.1 %d Refused\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n%b\r\n%b"
        % (status, len(body), more, body)
    )


class FrameReader:
    """Takes bytes as they come, gives whole messages. Holds nothing between messages.

    `held` is how many bytes of an unfinished message it keeps. However finely a message is cut, it is copied once.
    """

    __slots__ = ("_need", "_rest", "held")

    def __init__(self) -> None:
        self._rest: bytearray | None = None
        self._need = 2
        """Bytes without which looking again is pointless."""
        self.held = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages that are whole now: opcode and payload. Raises FrameError on what the protocol forbids."""
        if self._rest is not None:
            self._rest += data
            if len(self._rest) < self._need:
                self.held = len(self._rest)
                return []
            data = bytes(self._rest)
        messages, at = self._parse(data)
        self.held = len(data) - at
        self._rest = bytearray(data[at:]) if self.held else None
        return messages

    def _parse(self, data: bytes) -> tuple[list[tuple[int, bytes]], int]:
        """Messages, and where the rest begins; `_need` says how much of a rest to wait for."""
        messages = []
        at, length = 0, len(data)
        self._need = 2
        while length - at >= 2:
            first, second = data[at], data[at + 1]
            size = second & 0x7F
            start = at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                if length - start < width:
                    self._need = 2 + width
                    break
                size = int.from_bytes(data[start : start + width], "big")
                start += width
            self._check(first, second, size)
            end = start + 4 + size
            if length < end:
                self._need = end - at
                break
            messages.append((first & 0x0F, _unmask(data[start + 4 : end], data[start : start + 4])))
            at = end
        return messages, at

    @staticmethod
    def _check(first: int, second: int, size: int) -> None:
        opcode = first & 0x0F
        if size > MAX_FRAME:
            raise FrameError(Closed.TOO_LARGE, f"a frame of {size} bytes")
        if not first & 0x80 or first & 0x70 or not second & 0x80:
            raise FrameError(Closed.BAD_FRAME, "a WebSocket frame in parts, with an extension, or unmasked")
        if opcode not in (TEXT, BINARY, CLOSE, PING, PONG) or (opcode >= CLOSE and size > _MOST_CONTROL):
            raise FrameError(Closed.BAD_FRAME, "a WebSocket frame of no known kind")


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(whole, "little")).to_bytes(size, "little")


def frame(payload: bytes, opcode: int = BINARY) -> bytes:
    """A message as the server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def close_code(payload: bytes) -> int:
    """The code of a Close message; 1005 when it has none (RFC 6455, 7.1.5)."""
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
