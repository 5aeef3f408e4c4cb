"""The client of the HTTP API: one place that speaks to an aggregator. Everything it raises is an EidosError.

Answers are limited in size and in time, and only TLS is spoken: the user's token goes with every request.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from cli.fleet_errors import refusal, told, translated
from common.errors import Code, FleetError, UsageError
from common.fleet import FleetSnapshot
from common.fleet_api import (
    MOST_ITEMS,
    NDJSON,
    FactView,
    GroupList,
    NodeList,
    NodeView,
    OutlierList,
    Problem,
    Progress,
    QueryBody,
    QueryResult,
    RunBody,
)

if TYPE_CHECKING:
    import aiohttp

    _Response: TypeAlias = AbstractAsyncContextManager[aiohttp.ClientResponse]

T = TypeVar("T")

_MOST_BYTES: Final = 256 << 20
"""Of one answer, unpacked."""
_LONGEST_LINE: Final = 1 << 20
_LONGEST_ADDRESS: Final = 4000
"""Characters of an expression in an address; servers and proxies refuse longer ones sooner or later."""
_CONNECT: Final = 10.0
_SILENT: Final = 30.0
"""Seconds without a byte after which the aggregator counts as gone."""
_WHOLE: Final = 120.0
_LONGEST_RUN: Final = 600.0
"""Seconds until a run that says nothing of itself has ended, those before it in the queue included."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Which aggregator, and how to prove who we are."""

    url: str
    """`https://host:port`, without a slash at the end."""
    ca: str = ""
    """Certificates it is trusted by, in PEM; empty for those the system trusts."""
    token: str = field(default="", repr=False)

    def tls(self) -> ssl.SSLContext:
        """Raises UsageError when the CA is no certificate."""
        try:
            context = ssl.create_default_context(cadata=self.ca or None)
        except ssl.SSLError as error:
            raise UsageError("what --ca names holds no certificate in PEM") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def ask(connection: Connection, work: "Callable[[FleetClient], Awaitable[T]]") -> T:
    """Do the work with a client, in an event loop of its own. Raises EidosError."""

    async def run() -> T:
        async with connected(connection) as client:
            return await work(client)

    return asyncio.run(run())


@asynccontextmanager
async def connected(connection: Connection) -> "AsyncIterator[FleetClient]":
    """A client, for as long as the block lasts. Raises UsageError when what it needs is not installed."""
    try:
        import aiohttp
    except ImportError as error:
        raise UsageError("what speaks to an aggregator is not installed", "pip install 'eidos[node]'.") from error
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=connection.tls(), limit=4),
        headers={"Authorization": f"Bearer {connection.token}"} if connection.token else {},
        timeout=aiohttp.ClientTimeout(total=_WHOLE, sock_connect=_CONNECT, sock_read=_SILENT),
        read_bufsize=_LONGEST_LINE,
        trust_env=False,
    ) as session:
        yield FleetClient(connection, session)


class FleetClient:
    """What can be asked of an aggregator. All methods raise EidosError."""

    def __init__(self, connection: Connection, session: "aiohttp.ClientSession") -> None:
        self._connection = connection
        self._session = session

    async def snapshot(self) -> FleetSnapshot:
        """The last one over the whole fleet."""
        return await self._get("/v1/snapshot", FleetSnapshot)

    async def run_snapshot(self, run: str) -> FleetSnapshot:
        """What a run that has ended gave."""
        return await self._get(f"/v1/runs/{quote(run, safe='')}/snapshot", FleetSnapshot)

    async def groups(self) -> GroupList:
        """Groups of the last snapshot."""
        return await self._get("/v1/groups", GroupList)

    async def outliers(self) -> OutlierList:
        """Outliers of the last snapshot."""
        return await self._get("/v1/outliers", OutlierList)

    async def node(self, name: str) -> bytes:
        """One node's Snapshot as JSON."""
        return await self._read("GET", f"/v1/nodes/{quote(name, safe='')}")

    async def nodes(self, states: str = "") -> list[NodeView]:
        """All nodes, or those in the states named (separated by commas), page by page."""
        items: list[NodeView] = []
        after = ""
        while True:
            page = await self._get("/v1/nodes", NodeList, {"limit": str(MOST_ITEMS), "after": after, "state": states})
            items.extend(page.items)
            if page.continue_after <= after:  # empty on the last page; never backwards
                return items
            after = page.continue_after

    async def fact(self, name: str) -> FactView:
        """One fact across the fleet, page by page when it is each node's own."""
        path = f"/v1/facts/{quote(name, safe='')}"
        view = await self._get(path, FactView, {"limit": str(MOST_ITEMS)})
        own, after, page = dict(view.own), "", view
        while page.more > after:
            after = page.more
            page = await self._get(path, FactView, {"limit": str(MOST_ITEMS), "after": after})
            own.update(page.own)
        return msgspec.structs.replace(view, own=own, more="")

    async def query(self, expression: str) -> QueryResult:
        """Which nodes an expression is true for; all pages of them. Long expressions travel in a body."""
        items: list[str] = []
        after = ""
        while True:
            page = await self._query(QueryBody(expression, after, MOST_ITEMS))
            items.extend(page.items)
            if page.continue_after <= after:
                return msgspec.structs.replace(page, items=items, continue_after="")
            after = page.continue_after

    async def _query(self, body: QueryBody) -> QueryResult:
        if len(quote(body.expression)) > _LONGEST_ADDRESS:
            return await self._decode(await self._read("POST", "/v1/query", body=body), QueryResult)
        asked = {"expression": body.expression, "after": body.after, "limit": str(body.limit)}
        return await self._get("/v1/query", QueryResult, asked)

    async def run(self, body: RunBody) -> AsyncIterator[Progress]:
        """Start a run, or join one that asks the same, and follow it to its end: the last is done or failed."""
        with translated(self._connection.url):
            async with self._start(body, NDJSON, _SILENT) as response:
                await self._check(response)
                while line := await response.content.readline():
                    yield self._decoded(line, Progress)

    async def run_and_wait(self, body: RunBody) -> FleetSnapshot:
        """The same without progress: the document comes with the run's end, however many runs others start."""
        with translated(self._connection.url):
            async with self._start(body, "application/json", _LONGEST_RUN) as response:
                await self._check(response)
                content = await self._content(response, _MOST_BYTES)
        return await asyncio.to_thread(self._decoded, content, FleetSnapshot)

    def _start(
        self, body: RunBody, accept: str, silent: float
    ) -> "AbstractAsyncContextManager[aiohttp.ClientResponse]":
        """A run ends by its own deadline, and may wait for others first; only silence is too long."""
        from aiohttp import ClientTimeout

        return self._session.post(
            self._connection.url + "/v1/runs",
            data=msgspec.json.encode(body),
            headers={"Accept": accept, "Content-Type": "application/json"},
            timeout=ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=silent),
            allow_redirects=False,
        )

    async def _get(self, path: str, kind: type[T], query: Mapping[str, str] | None = None) -> T:
        return await self._decode(await self._read("GET", path, query), kind)

    async def _decode(self, content: bytes, kind: type[T]) -> T:
        # Large documents take a moment; Ctrl-C is heard meanwhile.
        return await asyncio.to_thread(self._decoded, content, kind)

    async def _read(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: object = None
    ) -> bytes:
        from yarl import URL

        url = URL(self._connection.url + path, encoded=True).with_query(
            {key: value for key, value in (query or {}).items() if value}
        )
        with translated(self._connection.url):
            async with self._session.request(
                method,
                url,
                data=None if body is None else msgspec.json.encode(body),
                headers={"Accept": "application/json"}
                | ({} if body is None else {"Content-Type": "application/json"}),
                allow_redirects=False,
            ) as response:
                await self._check(response)
                return await self._content(response, _MOST_BYTES)

    async def _content(self, response: "aiohttp.ClientResponse", limit: int) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            content += chunk
            if len(content) > limit:
                raise FleetError(
                    Code.FLEET_FAILED, f"the aggregator at {self._connection.url} answers without an end"
                )
        return bytes(content)

    async def _check(self, response: "aiohttp.ClientResponse") -> None:
        """Raise what an answer that is not the one asked for means."""
        kind = response.content_type
        if response.status == 200 and kind in ("application/json", NDJSON):
            return
        problem = None
        if kind == "application/problem+json":
            with suppress(msgspec.MsgspecError):  # then the status alone has to do
                problem = msgspec.json.decode(await self._content(response, _LONGEST_LINE), type=Problem)
        url, retry_after = self._connection.url, response.headers.get("Retry-After", "")
        raise refusal(url, bool(self._connection.token), response.status, kind, problem, retry_after)

    def _decoded(self, content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise FleetError(
                Code.FLEET_FAILED,
                f"{self._connection.url} answers with what is no {kind.__name__}: {told(str(error))}",
                "Aggregator and eidos may be of versions that do not go together.",
            ) from error
