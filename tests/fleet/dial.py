"""The client's half of the WebSocket protocol without a library: light enough for ten thousand in one process.

And able to misbehave on purpose.
"""

import asyncio
import base64
import os
import ssl
from collections.abc import Callable
from typing import cast

from common.wire import LINK_PATH


class Dialled(asyncio.Protocol):
    """One connection. `on_message` gets opcode and payload of every message; `status` is the HTTP answer."""

    def __init__(
        self, token: str, on_message: Callable[["Dialled", int, bytes], None], path: str = LINK_PATH
    ) -> None:
        self._token = token
        self._path = path
        self._on_message = on_message
        self._buffer = b""
        self.status = 0
        self.answer = b""
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {self._path} HTTP/1.1\r\nHost: aggregator\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        )
        self.transport.write(head.encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self.status:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._buffer, self.status = rest, int(head.split(b" ")[1])
            if not self.opened.done():
                self.opened.set_result(self.status)
        if self.status != 101:
            self.answer = self._buffer
            return
        at = 0
        while len(self._buffer) - at >= 2:
            first, size = self._buffer[at], self._buffer[at + 1]
            start = at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(self._buffer[start : start + width], "big"), start + width
            if len(self._buffer) < start + size:
                break
            self._on_message(self, first & 0x0F, self._buffer[start : start + size])
            at = start + size
        self._buffer = self._buffer[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_result(self.status)
        if not self.ended.done():
            self.ended.set_result(None)

    def send(self, payload: bytes, opcode: int = 2) -> None:
        """A whole message, masked with zeros: the mask protects proxies, and there is none."""
        size = len(payload)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 1 << 16:
            head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
        else:
            head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
        self.transport.write(head + bytes(4) + payload)


async def dial(
    context: ssl.SSLContext | None,
    port: int,
    token: str,
    on_message: Callable[[Dialled, int, bytes], None],
    path: str = LINK_PATH,
    address: str = "127.0.0.1",
    name: str = "localhost",
) -> Dialled:
    """Connect and ask for a WebSocket; returns when the answer is here or the connection gone.

    `name` is what the certificate must bear.
    """
    _, protocol = await asyncio.get_running_loop().create_connection(
        lambda: Dialled(token, on_message, path), address, port, ssl=context,
        server_hostname=name if context else None,
    )  # fmt: skip
    await protocol.opened
    return protocol
