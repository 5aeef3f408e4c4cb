"""Where agents dial in: who may have a link, and the loop that reads it.

At most one link per node. A second one for the same node is let in when

- its token names another pod and is not older: the agent was replaced (rolling update), the new one takes over; or
- it is the same pod, and the first link does not answer a challenge: the connection broke and the agent is back.

Otherwise it is refused: a second agent, or a copied token, cannot push a living agent out. A token older than the
newest one seen of its node is refused in any case, so that one taken from an old disk or log opens nothing.
"""

import asyncio
import logging
import time
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from aggregator.auth import AgentIdentity, Authenticator, TokenRefusedError
from aggregator.hub import Hub
from aggregator.link import Link
from aggregator.nodes import Node
from common import wire
from common.wire import CLOSE_CODES, LINK_PATH, MAX_FRAME, Closed, FrameError, Hello, Renew

_log: Final = logging.getLogger(__name__)

_OLDER_BY: Final = 30.0
"""Seconds by which a token may be older than the newest seen, for clocks that are a little apart."""
_NEVER_WAITS: Final = 1 << 62


class Refused(Exception):  # noqa: N818  # a decision, not an error
    """The agent gets no link, for a reason that is counted."""

    def __init__(self, reason: Closed, status: int) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.status = status


class LinkEndpoint:
    """The handler of LINK_PATH."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._challenging: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """What to serve."""
        return [web.get(LINK_PATH, self.handle)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One agent, from its request to the end of its link."""
        try:
            node, identity = await self._admit(request)
        except Refused as refused:
            self._hub.counts.refused[refused.reason] += 1
            return web.Response(status=refused.status, text=refused.reason.value)
        socket = web.WebSocketResponse(
            compress=False,
            autoping=False,
            max_msg_size=MAX_FRAME,
            writer_limit=_NEVER_WAITS,
            timeout=2.0,  # for the peer's half of the closing handshake
            decode_text=False,
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        link = Link(identity, socket, transport, self._hub.settings, self._hub.counts)
        if node.link is not None:  # another got in while this one was being let in
            link.close(Closed.DUPLICATE)
            return socket
        self._hub.attach(node, link)
        try:
            await self._serve(node, link, socket)
        except FrameError as error:
            _log.warning("link closed", extra={"node": node.name, "reason": error.reason.value, "detail": str(error)})
            link.close(error.reason)
        finally:
            link.close(Closed.LOST)  # unless it was closed for a better reason
            self._hub.detach(node, link)
        return socket

    async def _admit(self, request: web.Request) -> tuple[Node, AgentIdentity]:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        identity = await self._identify(token.strip() if scheme.lower() == "bearer" else "")
        node = self._hub.node(identity.node)
        if node is None:
            raise Refused(Closed.FULL, 503)
        if identity.issued_at < node.token_issued_at - _OLDER_BY:
            raise Refused(Closed.DUPLICATE, 409)
        if node.link is not None:
            await self._challenge(node, node.link, identity)
        return node, identity

    async def _identify(self, token: str) -> AgentIdentity:
        try:
            return await self._authenticator.identify(token)
        except TokenRefusedError as error:
            _log.warning("link refused", extra={"reason": "unauthorized", "detail": str(error)})
            raise Refused(Closed.EXPIRED if error.expired else Closed.UNAUTHORIZED, 401) from error
        except OSError as error:
            _log.error("tokens cannot be verified", extra={"detail": str(error)})
            raise Refused(Closed.UNAUTHORIZED, 503) from error

    async def _challenge(self, node: Node, incumbent: Link, newcomer: AgentIdentity) -> None:
        """Make room for a newcomer, or refuse it: see the module's docstring."""
        if newcomer.pod != incumbent.identity.pod and newcomer.issued_at >= incumbent.identity.issued_at:
            self._give_way(node, incumbent, Closed.REPLACED)
            return
        if node.name in self._challenging:
            raise Refused(Closed.DUPLICATE, 409)
        self._challenging.add(node.name)
        try:
            asked_at = time.monotonic()
            self._hub.challenge(incumbent)
            while incumbent.alive and time.monotonic() - asked_at < self._hub.settings.challenge:
                await asyncio.sleep(0.05)
                if incumbent.heard_at > asked_at:
                    raise Refused(Closed.DUPLICATE, 409)
        finally:
            self._challenging.discard(node.name)
        if node.link is incumbent:
            self._give_way(node, incumbent, Closed.SILENT)

    def _give_way(self, node: Node, incumbent: Link, reason: Closed) -> None:
        incumbent.close(reason)
        self._hub.detach(node, incumbent)

    async def _serve(self, node: Node, link: Link, socket: web.WebSocketResponse) -> None:
        """Read frames until the link ends. Raises FrameError when the agent breaks the protocol."""
        greeted = False
        while True:
            within = None if greeted else self._hub.settings.hello_within
            try:
                message = await socket.receive(within)
            except TimeoutError as error:
                raise FrameError(Closed.SILENT, "no Hello in time") from error
            if message.type is WSMsgType.BINARY:
                link.heard(len(message.data))
                said = wire.from_agent(message.data)
                if not greeted:
                    if not isinstance(said, Hello):
                        raise FrameError(Closed.OUT_OF_TURN, "no Hello to begin with")
                    greeted = True
                    self._hub.hello(node, link, said)
                elif isinstance(said, Renew):
                    await self._renew(node, link, said)
                else:
                    self._hub.received(node, link, said)
            elif message.type in (WSMsgType.PING, WSMsgType.PONG):
                link.heard(len(message.data))
            elif message.type is WSMsgType.TEXT:
                raise FrameError(Closed.BAD_FRAME, "a text frame")
            else:
                link.close(_why_ended(socket))
                return

    async def _renew(self, node: Node, link: Link, renew: Renew) -> None:
        try:
            identity = await self._authenticator.identify(renew.token)
        except TokenRefusedError as error:
            raise FrameError(Closed.EXPIRED if error.expired else Closed.UNAUTHORIZED, str(error)) from error
        except OSError:
            return  # the old token still holds for a while; the agent renews again
        if identity.node != node.name or identity.pod != link.identity.pod:
            raise FrameError(Closed.OTHER_NODE, "a token of another node or pod")
        if identity.issued_at < link.identity.issued_at:
            raise FrameError(Closed.DUPLICATE, "a token older than the one in use")
        link.identity = identity
        link.expires_at = time.monotonic() + (identity.expires_at - time.time())
        node.token_issued_at = max(node.token_issued_at, identity.issued_at)


def _why_ended(socket: web.WebSocketResponse) -> Closed:
    """What the end of the socket says about its cause."""
    code = socket.close_code
    if code == WSCloseCode.MESSAGE_TOO_BIG:
        return Closed.TOO_LARGE
    if code in (WSCloseCode.PROTOCOL_ERROR, WSCloseCode.INVALID_TEXT, WSCloseCode.UNSUPPORTED_DATA):
        return Closed.BAD_FRAME
    if code in (WSCloseCode.GOING_AWAY, CLOSE_CODES[Closed.GOING_AWAY]):
        return Closed.GOING_AWAY
    return Closed.LOST  # aiohttp reports a connection that just ended as OK
