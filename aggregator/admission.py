"""Who may have a link. At most one per node. A second one for the same node is let in when

- its token names another pod and is not older: the agent was replaced (rolling update), the new one takes over; or
- it is the same pod, and the first link does not answer a challenge: the connection broke and the agent is back.

Otherwise it is refused: a second agent, or a copied token, cannot push a living agent out. A token older than the
newest one seen of its node is refused in any case, so that one taken from an old disk or log opens nothing; unless
the newest one is from the future: then clocks were ahead when it was seen, and it would lock its node out as long.
"""

import asyncio
import logging
import math
import time
from typing import Final

from aggregator.auth import AgentIdentity, Authenticator, TokenRefusedError
from aggregator.hub import Hub
from aggregator.link import Link
from aggregator.nodes import Node
from common.wire import Closed, FrameError

_log: Final = logging.getLogger(__name__)

_OLDER_BY: Final = 30.0
"""Seconds by which a token may be older than the newest seen, for clocks that are a little apart."""
_STEP: Final = 0.05
"""Seconds between two looks at whether a link has answered its challenge."""


class Refused(Exception):  # noqa: N818  # a decision, not an error
    """The agent gets no link, for a reason that is counted; `status` is the HTTP answer."""

    def __init__(self, reason: Closed, status: int) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.status = status


class Admission:
    """Decides on newcomers and on renewed tokens."""

    def __init__(self, hub: Hub, authenticator: Authenticator) -> None:
        self._hub = hub
        self._authenticator = authenticator
        self._challenging: set[str] = set()

    async def admit(self, token: str) -> tuple[Node, AgentIdentity]:
        """The node the token speaks for, with no other link in the way. Raises Refused."""
        identity = await self._identify(token)
        node = self._hub.node(identity.node)
        if node is None:
            raise Refused(Closed.FULL, 503)
        if _is_ahead(node.token_issued_at):
            node.token_issued_at = 0.0
        if identity.issued_at < node.token_issued_at - _OLDER_BY:
            raise Refused(Closed.DUPLICATE, 409)
        if node.link is not None:
            await self._challenge(node, node.link, identity)
        if node.link is not None:  # another was quicker
            raise Refused(Closed.DUPLICATE, 409)
        return node, identity

    async def renew(self, node: Node, link: Link, token: str) -> None:
        """Go on with a newer token of the same node and pod. Raises FrameError."""
        try:
            identity = await self._authenticator.identify(token)
        except TokenRefusedError as error:
            if error.early:  # a clock was set back since it was signed: the old token is as good as before
                return
            raise FrameError(Closed.EXPIRED if error.expired else Closed.UNAUTHORIZED, str(error)) from error
        except OSError:
            return  # the old token still holds for a while; the agent dials again after that
        if identity.node != node.name or identity.pod != link.identity.pod:
            raise FrameError(Closed.OTHER_NODE, "a token of another node or pod")
        if identity.issued_at < link.identity.issued_at and not _is_ahead(link.identity.issued_at):
            raise FrameError(Closed.DUPLICATE, "a token older than the one in use")
        link.identified(identity)
        node.token_issued_at = max(node.token_issued_at, identity.issued_at)

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
            # Counted in steps and not by the clock: while this process stood still, nobody could be heard.
            for _ in range(math.ceil(self._hub.settings.challenge / _STEP)):
                await asyncio.sleep(_STEP)
                if incumbent.heard_at > asked_at:
                    raise Refused(Closed.DUPLICATE, 409)
                if not incumbent.alive:
                    break
        finally:
            self._challenging.discard(node.name)
        self._give_way(node, incumbent, Closed.SILENT)

    def _give_way(self, node: Node, incumbent: Link, reason: Closed) -> None:
        incumbent.close(reason)
        self._hub.detach(node, incumbent)


def _is_ahead(issued_at: float) -> bool:
    """Whether a token that was good when it was seen is from the future now."""
    return issued_at > time.time() + _OLDER_BY
