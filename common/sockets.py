"""TCP connections of aiohttp's client sessions: kept alive, and really closed when their session is.

A session does not wait for connections it has given up before, whose TLS says goodbye in the background: a loop that
ends meanwhile leaves them open.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Any, Final

_STEPS: Final = 100
_STEP: Final = 0.01
"""Seconds; what is still open after all steps is left to Python."""


class Sockets:
    """The `socket_factory` of one aiohttp.TCPConnector."""

    def __init__(self) -> None:
        self._made: list[socket.socket] = []

    def __call__(self, address: Any) -> socket.socket:
        """A socket for an address as getaddrinfo(3) gives it; a dead peer shows within a minute, in silence too.

        Raises OSError.
        """
        family, kind, protocol = address[0], address[1], address[2]
        connection = socket.socket(family, kind, protocol)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):  # names differ on macOS
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._made = [*self._open(), connection]
        return connection

    async def close(self) -> None:
        """End what is still open; to be called in the loop that used it, after the session's own close."""
        for connection in self._open():
            with suppress(OSError):  # not connected yet, or no longer
                connection.shutdown(socket.SHUT_RDWR)  # its transport reads the end and closes it
        for _ in range(_STEPS):
            if not self._open():
                return
            await asyncio.sleep(_STEP)

    def _open(self) -> list[socket.socket]:
        return [connection for connection in self._made if connection.fileno() != -1]
