"""A TLS listener for one aiohttp application, with limits that aiohttp leaves to the caller.

Slow peers hold nothing for long: the TLS handshake, the request's head and the reading of an answer each have a time
(bodies: aggregator/api). After an answer to somebody who was not let in the connection is closed; how many may stand,
and which of them go, is said in connections.py. What was dropped is counted by reason, what was answered by status.
"""

import asyncio
import functools
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.web_protocol import RequestHandler

from aggregator.api.problems import OPEN, problem
from aggregator.connections import Connections
from aggregator.counts import Counts
from common.fleet_api import MOST_LINE

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# aiohttp would log every malformed request of any stranger.
_silent: Final = logging.getLogger("aggregator.listener.aiohttp")


_LET_IN: Final = web.RequestKey("let in", bool)
_READ_WITHIN: Final = 30.0
"""Seconds after which a peer that reads nothing of its answer is dropped."""


class _Connection(RequestHandler):
    """One that counts. Unreadable requests are answered briefly, and without sending back what came."""

    __slots__ = ("_counts", "_standing")

    def __init__(
        self, server: web.Server, standing: "Connections[_Connection]", counts: Counts, **settings: Any
    ) -> None:
        super().__init__(server, **settings)
        self._standing = standing
        self._counts = counts

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol: the TLS handshake is done."""
        super().connection_made(transport)
        self._standing.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        self._standing.lost(self)
        super().connection_lost(exc)

    def drop(self, reason: str) -> None:
        """End it at once, for a reason that is counted."""
        self._counts.http_dropped[reason] += 1
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """See RequestHandler: what was no request, or a defect outside of all middlewares."""
        super().handle_error(request, status, exc)  # raises when part of an answer has been sent
        title = HTTPStatus(status).phrase.lower()
        detail = "What came is no HTTP request, or its head is too large." if status == 400 else ""
        answer = problem(status, title.replace(" ", "_"), title, detail)
        answer.force_close()
        return answer


class Listener:
    """Serves an application on one address."""

    def __init__(
        self, app: web.Application, tls: ssl.SSLContext, counts: Counts, most_connections: int, head_within: float
    ) -> None:
        self._app = app
        self._tls = tls
        self._counts = counts
        self._standing: Connections[_Connection] = Connections(most_connections)
        self._head_within = head_within
        self._waiting: dict[_Connection, float] = {}  # since when; no request yet
        self._unread: dict[_Connection, tuple[int, float]] = {}  # bytes, and since when none of them was read
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        # Around all others, and within all others: what comes so far has been let in.
        app.middlewares.insert(0, self._note_request)
        app.middlewares.append(self._let_in)
        _silent.setLevel(logging.CRITICAL + 1)

    async def start(self, address: str, port: int) -> int:
        """Listen. Returns the port, chosen by the system when 0 was given. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(self._app, handler_cancellation=True, shutdown_timeout=2.0)
        await self._runner.setup()
        connect = functools.partial(
            _Connection, cast(web.Server, self._runner.server), self._standing, self._counts, loop=loop,
            access_log=_silent, access_log_class=self._counting(), logger=_silent,
            keepalive_timeout=30.0, lingering_time=2.0,
            max_line_size=MOST_LINE, max_field_size=32_768, auto_decompress=False,
        )  # fmt: skip
        self._server = await loop.create_server(
            lambda: self._accepted(connect()), address, port,
            ssl=self._tls, ssl_handshake_timeout=10.0, ssl_shutdown_timeout=2.0, backlog=4096, reuse_address=True,
        )  # fmt: skip
        self._sweeping = loop.create_task(self._sweep(), name="listener-sweep")
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop listening; requests under way have two seconds to end."""
        if self._server is not None:
            self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._standing)

    def _accepted(self, connection: _Connection) -> _Connection:
        self._waiting[connection] = time.monotonic()
        return connection

    @web.middleware
    async def _note_request(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        self._waiting.pop(_connection(request), None)
        response = await handler(request)
        if _LET_IN not in request and not response.prepared:
            response.force_close()
        return response

    @web.middleware
    async def _let_in(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if request.path not in OPEN:
            if not self._standing.let_in(_connection(request)):
                raise web.HTTPServiceUnavailable(text="too many connections are at work")
            request[_LET_IN] = True
        return await handler(request)

    def _counting(self) -> type[AbstractAccessLogger]:
        """What aiohttp tells of every answer, also of those to what is no request."""
        waiting, standing, counts = self._waiting, self._standing, self._counts

        class Counting(AbstractAccessLogger):
            def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
                connection = _connection(request)
                waiting.pop(connection, None)
                standing.answered(connection)
                counts.http_answers[str(response.status)] += 1

        return Counting

    async def _sweep(self) -> None:
        """Drop connections on which nothing goes on."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for connection, since in list(self._waiting.items()):
                if now - since > self._head_within:
                    del self._waiting[connection]
                    # Without a transport it never had TLS, or has left.
                    connection.drop("no-request" if connection.transport is None else "slow-head")
            self._drop_slow_readers(now)

    def _drop_slow_readers(self, now: float) -> None:
        unread: dict[_Connection, tuple[int, float]] = {}
        for connection in list(self._standing):
            size = connection.transport.get_write_buffer_size() if connection.transport is not None else 0
            before, since = self._unread.get(connection, (size, now))
            if size and now - since > _READ_WITHIN and size >= before:
                connection.drop("slow-reader")
            elif size:
                unread[connection] = size, since if size >= before else now
        self._unread = unread


def _connection(request: web.BaseRequest) -> _Connection:
    return cast(_Connection, request.protocol)
