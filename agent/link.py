"""The agent's link: dials the aggregator, answers it, dials again with full jitter when the link ends.

The agent never listens on the network. It shows its ServiceAccount token, read anew from its file for every attempt
and sent again when kubelet has rotated it; it believes only an aggregator that its CA bundle vouches for.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import ClientWSTimeout, WSMsgType

from agent.collecting import Collecting, Collection
from agent.holdings import Holdings
from common import wire
from common.model import MeasurementType
from common.version import SCHEMA, VERSION
from common.wire import (
    CLOSE_CODES,
    LINK_PATH,
    MAX_FRAME,
    PROTOCOL,
    Closed,
    Collect,
    FrameError,
    FromAgent,
    Hello,
    Ping,
    Pong,
    Renew,
    Report,
    SectionDigests,
    Want,
)

_log: Final = logging.getLogger(__name__)

_MOST_COLLECTS: Final = 32
"""Collects under way at once; an aggregator that asks for more is not one of ours."""
_MARGIN: Final = 2.0
"""Seconds beyond a collection's deadline after which what is held is reported as stale."""
_LARGEST_BUNDLE: Final = 1 << 20
_REASON_OF: Final = {code: reason for reason, code in CLOSE_CODES.items()}


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the aggregator is, and how patient the agent is. Seconds."""

    url: str
    """`https://host:port`."""
    token_file: Path
    ca_file: Path
    server_name: str = ""
    """The name that the aggregator's certificate must bear; empty means the host in the URL."""
    connect_within: float = 30.0
    silent_after: float = 90.0
    """The aggregator pings; when nothing is heard for so long, the link is broken."""
    send_within: float = 30.0
    token_every: float = 60.0
    """How often the token file is looked at."""
    backoff_first: float = 2.0
    backoff_most: float = 15.0
    """The wait before an attempt is anything up to a limit that doubles from the first to the most."""
    good_after: float = 10.0
    """A link that lasted so long starts the backoff anew."""


class Link:
    """Keeps this node linked until it is stopped."""

    def __init__(
        self,
        settings: LinkSettings,
        collecting: Collecting,
        holdings: Holdings,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._settings = settings
        self._collecting = collecting
        self._holdings = holdings
        self._jitter = jitter
        self._said: dict[MeasurementType, SectionDigests] = {}
        self._said_outcome: bytes | None = None
        self._taken: Collection | None = None
        self._token = ""
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._collects: set[asyncio.Task[None]] = set()
        self.is_up = False
        self.heard_at = time.monotonic()

    async def run(self) -> None:
        """Dial, serve, wait, again. Ends only by cancellation, which says goodbye to the aggregator."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                why = await self._once()
            except (aiohttp.ClientError, OSError, ssl.SSLError, TimeoutError, ValueError) as error:
                why = f"{type(error).__name__}: {error}"
            lasted = time.monotonic() - began
            failures = 1 if lasted >= self._settings.good_after else failures + 1
            limit = min(self._settings.backoff_most, self._settings.backoff_first * 2 ** min(failures - 1, 16))
            wait = self._jitter(0.0, limit)
            _log.warning("link down", extra={"detail": why, "lasted": round(lasted, 1), "again_in": round(wait, 1)})
            await asyncio.sleep(wait)

    async def _once(self) -> str:
        """One link from dialling to its end; says why it ended."""
        settings = self._settings
        self._token = _read(settings.token_file).strip()
        # Read for every attempt: the aggregator's CA may have been rotated since the last one.
        context = _trusting(_read(settings.ca_file), settings.ca_file)
        connector = aiohttp.TCPConnector(ssl=context, limit=1, force_close=True)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
            async with asyncio.timeout(settings.connect_within):
                socket = await session.ws_connect(
                    settings.url.rstrip("/") + LINK_PATH,
                    headers={"Authorization": f"Bearer {self._token}"},
                    server_hostname=settings.server_name or None,
                    max_msg_size=MAX_FRAME,
                    compress=0,
                    timeout=ClientWSTimeout(ws_close=2.0),
                )
            renewing = asyncio.get_running_loop().create_task(self._renew_token(), name="renew-token")
            try:
                return await self._serve(socket)
            except FrameError as error:
                await socket.close(code=CLOSE_CODES[error.reason], message=error.reason.encode())
                return f"the aggregator broke the protocol: {error}"
            except asyncio.CancelledError:
                with suppress(aiohttp.ClientError, OSError):
                    await socket.close(code=CLOSE_CODES[Closed.GOING_AWAY], message=Closed.GOING_AWAY.encode())
                raise
            finally:
                self.is_up, self._socket = False, None
                for task in (renewing, *self._collects):
                    task.cancel()
                await asyncio.gather(renewing, *self._collects, return_exceptions=True)

    async def _serve(self, socket: aiohttp.ClientWebSocketResponse) -> str:
        self._socket = socket
        self._said, self._said_outcome = dict(self._holdings.sections), self._holdings.outcome
        age = min(self._holdings.age, 86_400.0)
        await self._send(Hello(PROTOCOL, SCHEMA, VERSION, list(self._said.values()), self._said_outcome, age))
        self.is_up = True
        _log.info("link up", extra={"url": self._settings.url})
        while True:
            try:
                message = await socket.receive(self._settings.silent_after)
            except TimeoutError:
                return f"nothing heard for {self._settings.silent_after:g} s"
            if message.type is not WSMsgType.BINARY:
                return _why_ended(message, socket)
            self.heard_at = time.monotonic()
            said = wire.from_aggregator(message.data)
            if isinstance(said, Collect):
                self._start_collect(said)
            elif isinstance(said, Want):
                for blobs in self._holdings.answer(said.digests):
                    await self._send(blobs)
            elif isinstance(said, Ping):
                await self._send(Pong(said.number))

    def _start_collect(self, collect: Collect) -> None:
        if len(self._collects) >= _MOST_COLLECTS:
            raise FrameError(Closed.TOO_MANY_FRAMES, f"more than {_MOST_COLLECTS} collections at once")
        task = asyncio.get_running_loop().create_task(self._collect(collect), name=f"run-{collect.run}")
        self._collects.add(task)
        task.add_done_callback(self._collects.discard)

    async def _collect(self, collect: Collect) -> None:
        cpu = time.process_time()
        try:
            async with asyncio.timeout(collect.seconds + _MARGIN):
                collection = await self._collecting.collect(collect.sections, collect.seconds)
        except Exception as error:  # late, or a defect: the aggregator hears of it in time either way
            _log.error("not collected", extra={"run": collect.run, "detail": f"{type(error).__name__}: {error}"})
            await self._send(Report(collect.run, stale=True))
            return
        if collection is not self._taken:  # several runs may share one
            self._taken = collection
            self._holdings.take(collection.snapshot, collection.kinds)
        sections = [s for kind, s in self._holdings.sections.items() if self._said.get(kind) != s]
        outcome = self._holdings.outcome if self._holdings.outcome != self._said_outcome else None
        self._said, self._said_outcome = dict(self._holdings.sections), self._holdings.outcome
        await self._send(Report(collect.run, sections, outcome, collection.seconds))
        _log.info(
            "collected",
            extra={
                "run": collect.run,
                "seconds": round(collection.seconds, 3),
                "cpu_seconds": round(time.process_time() - cpu, 3),
                "changed": [section.kind.value for section in sections],
            },
        )

    async def _renew_token(self) -> None:
        """Show the aggregator the next token before the last one expires."""
        while True:
            await asyncio.sleep(self._settings.token_every)
            try:
                token = _read(self._settings.token_file).strip()
            except OSError as error:
                _log.warning("token not readable", extra={"detail": str(error)})
                continue
            if token and token != self._token:
                self._token = token
                await self._send(Renew(token))

    async def _send(self, message: FromAgent) -> None:
        """Send, or end the link when the aggregator does not take it in time."""
        socket = self._socket
        if socket is None or socket.closed:
            return
        try:
            async with asyncio.timeout(self._settings.send_within):
                await socket.send_bytes(wire.encode(message))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            _log.warning("not sent", extra={"detail": f"{type(error).__name__}: {error}"})
            await socket.close()


def _why_ended(message: aiohttp.WSMessage, socket: aiohttp.ClientWebSocketResponse) -> str:
    # The socket's own code is 1006 when the aggregator has hung up before it could be answered.
    code = message.data if message.type is WSMsgType.CLOSE else socket.close_code
    reason = _REASON_OF.get(code or 0)
    if reason is Closed.PROTOCOL:
        return (
            f"the aggregator does not understand version {PROTOCOL} of the protocol, which this agent ({VERSION}) "
            "speaks: upgrade the aggregator, or go back to the agents' image of before"
        )
    return f"closed by the aggregator: {reason}" if reason else f"closed with code {code}"


def _trusting(bundle: str, source: Path) -> ssl.SSLContext:
    """TLS with peers whom the bundle vouches for. Raises OSError when it vouches for nobody.

    `ssl.create_default_context` takes an empty bundle for none, and believes whomever the system does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificates and names
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=bundle)
    except (ValueError, ssl.SSLError) as error:
        raise OSError(f"{source} holds no certificate in PEM") from error
    return context


def _read(path: Path) -> str:
    """A small text file. Raises OSError, also when it is too large to be a token or a bundle."""
    with path.open("rb") as file:
        content = file.read(_LARGEST_BUNDLE + 1)
    if len(content) > _LARGEST_BUNDLE:
        raise OSError(f"{path} is larger than {_LARGEST_BUNDLE} bytes")
    return content.decode("utf-8", "replace")
