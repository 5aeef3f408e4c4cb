"""The client of the HTTP API: one place that speaks to an aggregator. Everything it raises is an EidosError.

Answers are limited in size and in time. How requests get there: fleet_transport.py.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args
from urllib.parse import quote, urlencode

import msgspec

from cli.fleet_errors import broke_off, told, translated
from cli.fleet_transport import ClusterConnection, Connection, Transport, opened
from common.errors import Code, EidosError, FleetError, UsageError
from common.fleet import FleetSnapshot
from common.fleet_api import (
    MOST_ITEMS,
    MOST_LINE,
    NDJSON,
    FactValue,
    FactView,
    GroupList,
    NodeList,
    NodeView,
    OutlierList,
    Progress,
    QueryBody,
    QueryResult,
    RunBody,
    RunState,
    WatchEvent,
)
from common.http_content import read_whole
from common.nodeset import fold_names, unfold_names

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

_EVENTS: Final = frozenset(event.__struct_config__.tag for event in get_args(WatchEvent))
_MOST_BYTES: Final = 256 << 20
"""Of one answer, unpacked."""
_LONGEST_ADDRESS: Final = MOST_LINE - 512
"""Letters of a path and its parameters; what comes before them needs the rest of the line."""
_JSON: Final = "application/json"
_CUT_AFTER: Final = 50
"""Seconds of a watch through a cluster, which ends every answer after a minute."""
_ASKED_EVERY: Final = 1.0
_SILENT: Final = 30.0
"""Seconds without a byte after which the aggregator counts as gone."""
_WHOLE: Final = 120.0
_LONGEST_RUN: Final = 600.0
"""Seconds until a run that says nothing of itself has ended, those before it in the queue included."""


class _AnyEvent(msgspec.Struct):
    event: str


def ask(connection: Connection | ClusterConnection, work: "Callable[[FleetClient], Awaitable[T]]") -> T:
    """Do the work with a client, in an event loop of its own. Raises EidosError."""

    async def run() -> T:
        async with connected(connection) as client:
            return await work(client)

    return asyncio.run(run())


@asynccontextmanager
async def connected(connection: Connection | ClusterConnection) -> "AsyncIterator[FleetClient]":
    """A client, for as long as the block lasts. Raises EidosError."""
    async with opened(connection) as transport:
        yield FleetClient(transport)


class FleetClient:
    """What can be asked of an aggregator. All methods raise EidosError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

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
        pages, after = [await self._get(path, FactView, {"limit": str(MOST_ITEMS)})], ""
        while pages[-1].more > after:
            after = pages[-1].more
            pages.append(await self._get(path, FactView, {"limit": str(MOST_ITEMS), "after": after}))
        return pages[0] if not pages[0].more else _together(pages)

    async def query(self, expression: str) -> QueryResult:
        """Which nodes an expression is true for; all pages of them. Very long expressions travel in a body."""
        items: list[str] = []
        after = ""
        while True:
            page = await self._query(QueryBody(expression, after, MOST_ITEMS))
            items.extend(page.items)
            if page.continue_after <= after:
                return msgspec.structs.replace(page, items=items, continue_after="")
            after = page.continue_after

    async def _query(self, body: QueryBody) -> QueryResult:
        if len(quote(body.expression)) > self._transport.longest:
            return await self._decode(await self._read("POST", "/v1/query", body=body), QueryResult)
        asked = {"expression": body.expression, "after": body.after, "limit": str(body.limit)}
        return await self._get("/v1/query", QueryResult, asked)

    async def watch(self, seconds: int) -> AsyncIterator[WatchEvent]:
        """Changes as they happen, for so long at most; WatchEnd is the last, unless the connection breaks.

        Events that a newer aggregator may tell of, and nobody here knows, are passed over.
        """
        asked = {"seconds": str(_CUT_AFTER if self._transport.cuts and seconds > _CUT_AFTER else seconds)}
        async with self._transport.send("GET", "/v1/watch", asked, None, NDJSON, _SILENT) as response:
            await self._check(response)
            while line := await response.content.readline():
                if self._decoded(line, _AnyEvent).event in _EVENTS:
                    event: WatchEvent = self._decoded(line, WatchEvent)
                    yield event

    async def run(self, body: RunBody) -> AsyncIterator[Progress]:
        """Start a run, or join one that asks the same, and follow it to its end: the last is done or failed."""
        last: Progress | None = None
        async with aclosing(self._begun(body)) as begun:
            async for last in begun:
                yield last
        while last is not None and self._transport.cuts and last.state not in (RunState.DONE, RunState.FAILED):
            last = await self._get(f"/v1/runs/{quote(last.run, safe='')}", Progress)
            yield last
            await asyncio.sleep(_ASKED_EVERY)

    async def _begun(self, body: RunBody) -> AsyncGenerator[Progress, None]:
        """A run's progress, until its end or until a cluster cuts the answer short.

        One that is cut before it says anything is asked for again: kube-apiserver loses answers that begin while it
        still passes on a request's last byte, and whoever asks the same joins the run that is there.
        """
        is_told, is_again = False, False
        while True:
            try:
                async with self._start(body, NDJSON, _SILENT) as response:
                    while line := await response.content.readline():
                        yield self._decoded(line, Progress)
                        is_told = True
                return
            except EidosError as error:
                if self._transport.cuts and is_told:
                    return
                if is_again or is_told or not broke_off(error):
                    raise
                is_again = True

    async def run_and_wait(self, body: RunBody) -> FleetSnapshot:
        """The same without progress: the document comes with the run's end, however many runs others start."""
        async with self._start(body, "application/json", _LONGEST_RUN) as response:
            content = await self._content(response)
        return await asyncio.to_thread(self._decoded, content, FleetSnapshot)

    @asynccontextmanager
    async def _start(self, body: RunBody, accept: str, silent: float) -> "AsyncIterator[aiohttp.ClientResponse]":
        """A run ends by its own deadline, and may wait for others first; only silence is too long."""
        encoded = msgspec.json.encode(body)
        async with self._transport.send("POST", "/v1/runs", {}, encoded, accept, silent) as response:
            await self._check(response)
            yield response

    async def _get(self, path: str, kind: type[T], query: Mapping[str, str] | None = None) -> T:
        return await self._decode(await self._read("GET", path, query), kind)

    async def _decode(self, content: bytes, kind: type[T]) -> T:
        # Large documents take a moment; Ctrl-C is heard meanwhile.
        return await asyncio.to_thread(self._decoded, content, kind)

    async def _read(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: object = None
    ) -> bytes:
        """The whole answer to what only reads; asked again once when it breaks off."""
        try:
            return await self._read_once(method, path, query, body)
        except EidosError as error:
            if not broke_off(error):
                raise
        return await self._read_once(method, path, query, body)

    async def _read_once(self, method: str, path: str, query: Mapping[str, str] | None, body: object) -> bytes:
        given = {key: value for key, value in (query or {}).items() if value}
        if len(path) + len(urlencode(given)) > _LONGEST_ADDRESS:
            raise UsageError("what is asked for is longer than any address of an aggregator can be")
        encoded = None if body is None else msgspec.json.encode(body)
        # Whoever answers drop by drop is not waited for either.
        with translated(self._transport.name):
            async with asyncio.timeout(_WHOLE):
                async with self._transport.send(method, path, given, encoded, _JSON, _SILENT) as response:
                    await self._check(response)
                    return await self._content(response)

    async def _content(self, response: "aiohttp.ClientResponse") -> bytes:
        content = await read_whole(response.content, _MOST_BYTES)
        if len(content) > _MOST_BYTES:
            raise FleetError(Code.FLEET_FAILED, f"the aggregator at {self._transport.name} answers without an end")
        return content

    async def _check(self, response: "aiohttp.ClientResponse") -> None:
        """Raise what an answer that is not the one asked for means."""
        if response.status != 200 or response.content_type not in (_JSON, NDJSON):
            raise await self._transport.refusal(response)

    def _decoded(self, content: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            wanted = "event" if kind in (_AnyEvent, WatchEvent) else kind.__name__
            raise FleetError(
                Code.FLEET_FAILED,
                f"{self._transport.name} answers with what is no {wanted}: {told(str(error))}",
                "Aggregator and eidos may be of versions that do not go together.",
            ) from error


def _together(pages: Sequence[FactView]) -> FactView:
    """Pages of a fact that is each node's own: their values are nodes that have none."""
    lacking = [name for page in pages for value in page.values for name in unfold_names(value.nodes)]
    return msgspec.structs.replace(
        pages[0],
        values=[FactValue(len(lacking), fold_names(lacking))] if lacking else [],
        own={node: value for page in pages for node, value in page.own.items()},
        unknown=fold_names(name for page in pages for name in unfold_names(page.unknown)),
        more="",
    )
