"""One agent's link, as the hub sees it: who it is, what it may still send, and sending that never waits."""

import asyncio
import time
from typing import Final

from aggregator import websocket
from aggregator.auth import AgentIdentity
from aggregator.counts import Counts
from aggregator.settings import LinkSettings
from common import wire
from common.wire import CLOSE_CODES, Closed, FrameError, FromAggregator

_MOST_RUNS: Final = 16
"""Unanswered runs remembered per link."""
_NOBODY_READS: Final = frozenset((Closed.LOST, Closed.SILENT, Closed.SLOW_READER))


class Link:
    """An agent's open WebSocket. Small: there are ten thousand of them."""

    __slots__ = (
        "_counts",
        "_most_unread",
        "_transport",
        "asked",
        "bytes_left",
        "closed",
        "expires_at",
        "frames_left",
        "heard_at",
        "identity",
        "pinged_at",
        "schema",
        "version",
    )

    def __init__(
        self, identity: AgentIdentity, transport: asyncio.Transport, settings: LinkSettings, counts: Counts
    ) -> None:
        self.schema = 0
        """0 until its Hello."""
        self.version = ""
        self.asked: dict[str, None] = {}
        """Runs it was asked for and has not answered, oldest first."""
        self.closed: Closed | None = None
        self.heard_at = self.pinged_at = time.monotonic()
        self._transport = transport
        self._counts = counts
        self._most_unread = settings.most_unread
        self.identified(identity)
        self.refill(settings)

    @property
    def alive(self) -> bool:
        """Whether it can be sent to."""
        return self.closed is None

    def identified(self, identity: AgentIdentity) -> None:
        """The agent has shown this token."""
        self.identity = identity
        # The wall clock may step; what counts is how long the token still had when it was shown.
        self.expires_at = time.monotonic() + (identity.expires_at - time.time())

    def refill(self, settings: LinkSettings) -> None:
        """A new interval begins, with new allowances."""
        self.frames_left = settings.most_frames
        self.bytes_left = settings.most_bytes

    def heard(self, size: int) -> None:
        """A message of so many bytes came. Raises FrameError when it was one too many."""
        self.heard_at = time.monotonic()
        self.frames_left -= 1
        self.bytes_left -= size
        self._counts.frames_in += 1
        self._counts.bytes_in += size
        if self.frames_left < 0:
            raise FrameError(Closed.TOO_MANY_FRAMES, "more frames than allowed")
        if self.bytes_left < 0:
            raise FrameError(Closed.TOO_LARGE, "more bytes than allowed")

    def send(self, message: FromAggregator) -> None:
        """Send without waiting. A link that does not take it is closed."""
        self.send_frame(websocket.frame(wire.encode(message)))

    def send_frame(self, frame: bytes) -> None:
        """As `send`, for a WebSocket frame that goes to many."""
        if self.closed is not None:
            return
        if self._transport.get_write_buffer_size() > self._most_unread:
            self.close(Closed.SLOW_READER)
            return
        self._counts.frames_out += 1
        self._counts.bytes_out += len(frame)
        self._transport.write(frame)

    def ask(self, run: str, frame: bytes) -> None:
        """Send a run's Collect, and remember that an answer is due."""
        self.asked[run] = None
        if len(self.asked) > _MOST_RUNS:
            del self.asked[next(iter(self.asked))]
        self.send_frame(frame)

    def close(self, reason: Closed) -> None:
        """Close for a reason, without waiting. The first reason counts."""
        if self.closed is not None:
            return
        self.closed = reason
        self._counts.closed[reason] += 1
        if reason in _NOBODY_READS:
            self._transport.abort()  # a closing handshake would only hold memory
            return
        goodbye = CLOSE_CODES[reason].to_bytes(2, "big") + reason.encode()
        self._transport.write(websocket.frame(goodbye, websocket.CLOSE))
        self._transport.close()
