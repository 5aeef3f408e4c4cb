"""Where agents dial in: one protocol object per connection, from its first byte to its end."""

import asyncio
import logging
import ssl
from collections.abc import Coroutine
from typing import Final, cast

from aggregator import websocket
from aggregator.admission import Admission, Refused
from aggregator.hub import Hub
from aggregator.link import Link
from aggregator.nodes import Node
from aggregator.websocket import FrameReader, HandshakeError, accept, close_code, parse_head, refuse
from common import wire
from common.wire import CLOSE_CODES, LINK_PATH, Closed, FrameError, Hello, Renew

_log: Final = logging.getLogger(__name__)

_GOING_AWAY: Final = frozenset((1001, CLOSE_CODES[Closed.GOING_AWAY]))
_END: Final = b"\r\n\r\n"
_NO_HANDSHAKE: Final = "no-handshake"
"""What a connection that never came to speak TLS is counted as; links that were one are closed for a `Closed`."""
_NO_WEBSOCKET: Final = "no-websocket"
"""What a request that opens no WebSocket is counted as: it is no agent's."""
_ROOM: Final = 1000
"""Connections beyond the most nodes: newcomers that are still being looked at."""


class LinkEndpoint:
    """Listens for agents."""

    def __init__(self, hub: Hub, admission: Admission) -> None:
        self.hub = hub
        self.admission = admission
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.unfinished = 0
        """Bytes of messages that are not whole yet, on all links."""
        self._server: asyncio.Server | None = None

    async def start(self, tls: ssl.SSLContext, address: str, port: int) -> int:
        """Listen. Returns the port, chosen by the system when 0 was given. Raises OSError."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self), address, port, ssl=tls, ssl_handshake_timeout=self.hub.settings.hello_within,
            ssl_shutdown_timeout=2.0, backlog=4096, reuse_address=True,
        )  # fmt: skip
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, reason: Closed) -> None:
        """Listen no more and end all links for this reason. It can be started again."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self.connections):
            connection.end(reason)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0)

    @property
    def is_full(self) -> bool:
        """Whether there is room for no more."""
        return len(self.connections) > self.hub.settings.most_nodes + _ROOM


class Connection(asyncio.Protocol):
    """One connection: a request's head, admission, then frames."""

    __slots__ = (
        "_admission",
        "_deadline",
        "_endpoint",
        "_head",
        "_link",
        "_node",
        "_reader",
        "_transport",
        "_unfinished",
    )

    def __init__(self, endpoint: LinkEndpoint) -> None:
        self._endpoint = endpoint
        self._head: bytearray | None = bytearray()
        """What came of the request; None when it is whole."""
        self._reader: FrameReader | None = None
        self._unfinished = 0
        """Its part of the endpoint's sum."""
        self._admission: asyncio.Task[None] | None = None
        self._link: Link | None = None
        self._node: Node | None = None
        # The event loop itself ends a handshake that is late, and says so to nobody.
        self._deadline: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            endpoint.hub.settings.hello_within + 0.5, self._no_handshake
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._greeted()
        self._endpoint.connections.add(self)
        if self._endpoint.is_full:
            self._refuse(Closed.FULL, 503)
            return
        within = self._endpoint.hub.settings.hello_within
        self._deadline = asyncio.get_running_loop().call_later(within, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, by whomever."""
        self._endpoint.connections.discard(self)
        self._greeted()
        self._count_unfinished(0)
        if self._admission is not None:
            self._admission.cancel()  # its token may wait for a review, and nobody waits for it any more
        if self._link is not None and self._node is not None:
            self._link.close(Closed.LOST)  # unless it was closed for a better reason
            self._endpoint.hub.detach(self._node, self._link)
        self._link = self._node = None

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._link is not None and self._link.closed is not None:
            return
        try:
            if self._reader is not None:
                self._take_frames(self._reader, data)
            elif self._head is not None:
                self._take_head(self._head, data)
            else:
                raise FrameError(Closed.OUT_OF_TURN, "frames before the WebSocket is open")
        except HandshakeError as error:
            text = f"{error}: only agents dial in here, by WebSocket at {LINK_PATH}\n"
            self._refuse(_NO_WEBSOCKET, error.status, text)
        except FrameError as error:
            self._break_off(error)

    def end(self, reason: Closed) -> None:
        """Close, for a reason of ours."""
        if self._link is not None:
            self._link.close(reason)
        else:
            self._transport.abort()

    def _take_frames(self, reader: FrameReader, data: bytes) -> None:
        endpoint = self._endpoint
        messages = reader.feed(data)
        self._count_unfinished(reader.held)
        for opcode, payload in messages:
            self._message(opcode, payload)
        if reader.held and endpoint.unfinished > endpoint.hub.settings.most_unfinished:
            raise FrameError(Closed.FULL, "too much that is unfinished on all links together")

    def _take_head(self, head: bytearray, data: bytes) -> None:
        before = len(head)
        head += data
        end = head.find(_END, max(0, before - 3))
        if (end if end >= 0 else len(head)) > websocket.MOST_HEAD:
            raise HandshakeError(431, "the request's head is too large")
        if end < 0:
            return
        whole, rest = bytes(head[:end]), head[end + len(_END) :]
        self._head = None
        if rest:
            raise HandshakeError(400, "more than a head")
        path, headers = parse_head(whole)
        if path != LINK_PATH:
            raise HandshakeError(404, "there is nothing at this path")
        answer = accept(headers)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        self._admission = self._spawn(self._admit(token.strip() if scheme.lower() == "bearer" else "", answer))

    async def _admit(self, token: str, answer: bytes) -> None:
        try:
            node, identity = await self._endpoint.admission.admit(token)
        except Refused as refused:
            self._refuse(refused.reason, refused.status)
            return
        if self._transport.is_closing():
            return
        hub = self._endpoint.hub
        self._node, self._link = node, Link(identity, self._transport, hub.settings, hub.counts)
        self._reader, self._admission = FrameReader(), None
        hub.attach(node, self._link)
        self._transport.write(answer)

    def _message(self, opcode: int, payload: bytes) -> None:
        link, node, hub = self._link, self._node, self._endpoint.hub
        if link is None or node is None or link.closed is not None:
            return
        link.heard(len(payload))
        if opcode == websocket.BINARY:
            said = wire.from_agent(payload)
            if not link.schema:
                if not isinstance(said, Hello):
                    raise FrameError(Closed.OUT_OF_TURN, "no Hello to begin with")
                self._greeted()
                hub.hello(node, link, said)
            elif isinstance(said, Renew):
                self._spawn(self._renew(node, link, said.token))
            else:
                hub.received(node, link, said)
        elif opcode == websocket.CLOSE:
            link.close(Closed.GOING_AWAY if close_code(payload) in _GOING_AWAY else Closed.LOST)
        elif opcode == websocket.PING:
            link.send_frame(websocket.frame(payload, websocket.PONG))
        elif opcode == websocket.TEXT:
            raise FrameError(Closed.BAD_FRAME, "a text message")

    async def _renew(self, node: Node, link: Link, token: str) -> None:
        try:
            await self._endpoint.admission.renew(node, link, token)
        except FrameError as error:
            self._break_off(error)

    def _break_off(self, error: FrameError) -> None:
        if self._link is None or self._node is None:
            self._refuse(error.reason, 400)
            return
        if self._link.closed is None:
            _log.warning(
                "link closed", extra={"node": self._node.name, "reason": error.reason.value, "detail": str(error)}
            )
        self._link.close(error.reason)
        self._reader = None
        self._count_unfinished(0)

    def _count_unfinished(self, held: int) -> None:
        """The only place that changes the sum, by what this connection's part changes, so that it cannot drift."""
        self._endpoint.unfinished += held - self._unfinished
        self._unfinished = held

    def _refuse(self, reason: str, status: int, text: str = "") -> None:
        if self._transport.is_closing():
            return
        self._endpoint.hub.counts.refused[reason] += 1
        self._head = None
        self._transport.write(refuse(status, text or reason))
        self._transport.close()

    def _no_handshake(self) -> None:
        self._deadline = None
        self._endpoint.hub.counts.refused[_NO_HANDSHAKE] += 1

    def _too_slow(self) -> None:
        self._deadline = None
        if self._link is not None:
            self._link.close(Closed.SILENT)
        else:
            self._endpoint.hub.counts.refused[Closed.SILENT] += 1
            self._transport.abort()

    def _greeted(self) -> None:
        """What was awaited has come."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._endpoint.tasks.add(task)
        task.add_done_callback(self._endpoint.tasks.discard)
        return task
