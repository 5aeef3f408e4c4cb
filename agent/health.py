"""Health on loopback: `GET /livez`, `GET /readyz`. Never bound to anything else.

Kubelet reaches it because the pod uses the host's network; an exec probe would start an interpreter every time.
"""

import asyncio
from collections.abc import Callable
from typing import Final

_ADDRESS: Final = "127.0.0.1"
_WITHIN: Final = 5.0
_MOST_HEAD: Final = 4096
_MOST_AT_ONCE: Final = 16


class Health:
    """Answers two paths. `is_ready` says whether the agent can be asked."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self, port: int) -> int:
        """Listen on loopback; returns the port, chosen by the system when 0 was given. Raises OSError."""
        self._server = await asyncio.start_server(self._serve, _ADDRESS, port, limit=_MOST_HEAD, backlog=16)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MOST_AT_ONCE:
                async with asyncio.timeout(_WITHIN):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # whoever asks so slowly or so much gets no answer
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        line = head.split(b"\r\n", 1)[0].split(b" ")
        if len(line) != 3 or line[0] != b"GET":
            return _response(b"405 Method Not Allowed", b"only GET\n")
        if line[1] == b"/livez":
            return _response(b"200 OK", b"ok\n")
        if line[1] == b"/readyz":
            ready = self._is_ready()
            return _response(b"200 OK", b"ok\n") if ready else _response(b"503 Service Unavailable", b"no link\n")
        return _response(b"404 Not Found", b"there is /livez and /readyz\n")


def _response(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )
