"""One agent's link, as the hub sees it: who it is, what it may still send, and sending that never waits."""

import asyncio
import time
from typing import Final

from aiohttp import ClientConnectionResetError, web

from aggregator.auth import AgentIdentity
from aggregator.counts import Counts
from aggregator.settings import LinkSettings
from common import wire
from common.wire import CLOSE_CODES, Closed, FrameError, FromAggregator

_MOST_RUNS: Final = 16
"""Unanswered runs remembered per link."""


class Link:
    """An agent's WebSocket. Small: there are ten thousand of them."""

    __slots__ = (
        "_closing",
        "_counts",
        "_settings",
        "_socket",
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
        self,
        identity: AgentIdentity,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        settings: LinkSettings,
        counts: Counts,
    ) -> None:
        self.identity = identity
        self.schema = 0
        self.version = ""
        self.asked: dict[str, None] = {}
        """Runs it was asked for and has not answered, oldest first."""
        self.closed: Closed | None = None
        self.heard_at = self.pinged_at = time.monotonic()
        # The wall clock may step; what counts is how long the token still had when it was shown.
        self.expires_at = self.heard_at + (identity.expires_at - time.time())
        self.frames_left = settings.most_frames
        self.bytes_left = settings.most_bytes
        self._socket = socket
        self._transport = transport
        self._settings = settings
        self._counts = counts
        self._closing: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it can be sent to."""
        return self.closed is None

    def heard(self, size: int) -> None:
        """A frame of so many bytes came. Raises FrameError when it was one too many."""
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
        self.send_frame(wire.encode(message))

    def send_frame(self, frame: bytes) -> None:
        """As `send`, for a frame that goes to many."""
        if self.closed is not None:
            return
        if self._transport.get_write_buffer_size() > self._settings.most_unread:
            self.close(Closed.SLOW_READER)
            return
        sending = self._socket.send_bytes(frame)
        try:
            # The writer's limit is set so that it never waits (aggregator/hub.py): one step ends it. A task for each
            # of ten thousand sends would cost more than the sends.
            sending.send(None)
        except StopIteration:
            self._counts.frames_out += 1
            self._counts.bytes_out += len(frame)
        except (ClientConnectionResetError, ConnectionError):
            self.close(Closed.LOST)
        else:
            sending.close()
            self.close(Closed.SLOW_READER)

    def ask(self, run: str, frame: bytes) -> None:
        """Send a run's Collect, and remember that an answer is due."""
        self.asked[run] = None
        if len(self.asked) > _MOST_RUNS:
            del self.asked[next(iter(self.asked))]
        self.send_frame(frame)

    def refill(self) -> None:
        """A new interval begins."""
        self.frames_left = self._settings.most_frames
        self.bytes_left = self._settings.most_bytes

    def close(self, reason: Closed) -> None:
        """Close for a reason, without waiting. The first reason counts."""
        if self.closed is not None:
            return
        self.closed = reason
        self._counts.closed[reason] += 1
        if reason in (Closed.LOST, Closed.SILENT, Closed.SLOW_READER):
            self._transport.abort()  # nobody reads: a closing handshake would only hold memory
            return
        self._closing = asyncio.get_running_loop().create_task(self._say_goodbye(reason))

    async def _say_goodbye(self, reason: Closed) -> None:
        await self._socket.close(code=CLOSE_CODES[reason], message=reason.encode(), drain=False)
