"""The endpoints of /v1, in one list. Handlers parse and render; what they show is made in views.py and below."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from aiohttp import web

from aggregator.api import views
from aggregator.api.metrics import CONTENT_TYPE, Exposition
from aggregator.api.negotiate import RENDERING, render, wanted_format, wants_lines
from aggregator.api.openapi import DescriptionApi, endpoint
from aggregator.api.operations import OPERATIONS
from aggregator.api.problems import errors_as_problems, on_duty, users_only
from aggregator.api.queries import QueryApi
from aggregator.api.requests import after, body, limit, taking
from aggregator.api.watching import WatchApi
from aggregator.beside import beside
from aggregator.duty import Duty
from aggregator.fleet import Fleet
from aggregator.run import Run, RunRequest
from aggregator.selector import Selector
from aggregator.settings import ApiSettings
from aggregator.turns import Turns
from aggregator.users import UserAuthenticator
from common.errors import Code, FleetError, UsageError
from common.fleet import NodeState
from common.fleet_api import NDJSON, GroupList, NodeList, OutlierList, RunBody, RunState
from common.model import MeasurementType

_HEAD_AFTER: Final = 0.05
"""Seconds. Proxies made with Go, kube-apiserver among them, break a stream off whose head comes while they still look
for the end of the request's body: 23 of 600 runs on a busy machine, and none with this."""
_PROGRESS_EVERY: Final = 0.25


class Api:
    """The handlers, over one fleet."""

    def __init__(self, fleet: Fleet, settings: ApiSettings, duty: Callable[[], Duty]) -> None:
        self._fleet = fleet
        self._settings = settings
        self._duty = duty
        self._exposition = Exposition(fleet, duty)
        self._turns = Turns()
        self._waiting = 0

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/metrics", self.metrics),
            web.post("/v1/runs", self.start_run),
            web.get("/v1/runs/{run}", self.run),
            web.get("/v1/runs/{run}/snapshot", self.run_snapshot),
            web.get("/v1/snapshot", self.snapshot),
            web.get("/v1/nodes", self.nodes),
            web.get("/v1/nodes/{node}", self.node),
            web.get("/v1/groups", self.groups),
            web.get("/v1/outliers", self.outliers),
            web.get("/v1/facts/{fact:.+}", self.fact),
        ]

    async def livez(self, request: web.Request) -> web.Response:
        """The event loop turns."""
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        """Agents and users are served."""
        duty = self._duty()
        return web.Response(text="ok\n") if duty is Duty.LEADING else web.Response(status=503, text=f"{duty}\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus' text format."""
        return web.Response(body=self._exposition.render(), headers={"Content-Type": CONTENT_TYPE})

    async def start_run(self, request: web.Request) -> web.StreamResponse:
        """Start a run, or join one that asks the same. Waits for the document; `Prefer: respond-async` does not.

        With `Accept: application/x-ndjson` progress is streamed, one object a line; the last is done or failed.
        """
        wanted_format(request)  # refuses before the fleet is asked
        run_request = self._run_request(await body(request, RunBody, self._settings.body_within))
        if "respond-async" in request.headers.get("Prefer", ""):
            run = self._fleet.runs.start(run_request)
            return await render(request, run.progress(), status=202, headers={"Location": f"/v1/runs/{run.id}"})
        if self._waiting >= self._settings.most_waiting:
            raise FleetError(Code.FLEET_BUSY, "too many requests wait for runs", "Try again later.")
        run = self._fleet.runs.start(run_request)
        self._waiting += 1
        try:
            if wants_lines(request):
                return await self._stream(request, run)
            await run.ended.wait()
        finally:
            self._waiting -= 1
        return await self._document(request, run)

    async def run(self, request: web.Request) -> web.Response:
        """A run's progress."""
        return await render(request, self._find(request).progress())

    async def run_snapshot(self, request: web.Request) -> web.Response:
        """The document of a run that has ended."""
        return await self._document(request, self._find(request))

    async def snapshot(self, request: web.Request) -> web.Response:
        """The last document over the whole fleet."""
        run, document = self._fleet.last()
        return await render(request, document, run.id)

    async def nodes(self, request: web.Request) -> web.Response:
        """Nodes and their states, by name; `state` (several, by comma), `after` and `limit`."""
        states = frozenset(filter(None, request.query.get("state", "").split(",")))
        if "state" in request.query and not states:
            raise UsageError("parameter 'state' names no state", "Leave it out for all of them.")
        if unknown := states - {state.value for state in NodeState}:
            raise UsageError(f"there is no state {min(unknown)[:40]!r}", f"Choose from {', '.join(NodeState)}.")
        items, more = views.nodes(self._fleet, after(request.query), limit(request.query), states)
        return await render(request, NodeList(items, items[-1].node if more else ""))

    async def node(self, request: web.Request) -> web.Response:
        """One node's last known snapshot, as one-shot mode would have written it there."""
        name = request.match_info["node"]
        with self._fleet.reading_content():
            document = await beside(self._fleet.snapshot_of, name)
        if document is None:
            raise FleetError(Code.FLEET_NOT_FOUND, f"nothing is known of a node {name[:253]!r}")
        return await render(request, document)

    async def groups(self, request: web.Request) -> web.Response:
        """Groups of equal nodes, largest first."""
        run, document = self._fleet.last()
        return await render(request, GroupList(document.groups, document.node_table), run.id)

    async def outliers(self, request: web.Request) -> web.Response:
        """Outliers, those that differ least first."""
        run, document = self._fleet.last()
        return await render(request, OutlierList(document.outliers, document.node_table), run.id)

    async def fact(self, request: web.Request) -> web.Response:
        """One fact across the fleet: values and who has them."""
        run, document = self._fleet.last()
        page = after(request.query), limit(request.query)
        async with self._turns.taken():
            with self._fleet.reading_content():
                view = await beside(views.fact, self._fleet, run, document, request.match_info["fact"], *page)
        return await render(request, view)

    def _find(self, request: web.Request) -> Run:
        run = self._fleet.runs.find(request.match_info["run"])
        if run is None:
            raise FleetError(
                Code.FLEET_NOT_FOUND,
                "there is no such run",
                "Only the last few runs are kept, and of an earlier aggregator only the last snapshot.",
            )
        return run

    async def _document(self, request: web.Request, run: Run) -> web.Response:
        if run.state is RunState.FAILED:
            hint = "Try again later." if run.failure_code is Code.FLEET_BUSY else ""
            raise FleetError(run.failure_code, f"the run failed: {run.failure}", hint)
        if run.document is None and run.ended.is_set():
            raise FleetError(Code.FLEET_NOT_FOUND, "the run's document is no longer kept", "See /v1/snapshot.")
        if run.document is None:
            raise FleetError(Code.FLEET_NOT_FOUND, "the run has not ended yet", f"See /v1/runs/{run.id}.")
        return await render(request, run.document, run.id, headers={"Location": f"/v1/runs/{run.id}"})

    async def _stream(self, request: web.Request, run: Run) -> web.StreamResponse:
        await asyncio.sleep(_HEAD_AFTER)
        response = web.StreamResponse(headers={"Content-Type": NDJSON, "Cache-Control": "no-cache"})
        await response.prepare(request)
        async for progress in run.watch(_PROGRESS_EVERY):
            await response.write(msgspec.json.encode(progress) + b"\n")
        await response.write_eof()
        return response

    def _run_request(self, asked: RunBody) -> RunRequest:
        return RunRequest(
            Selector(asked.nodes, asked.labels),
            tuple(kind for kind in MeasurementType if kind in asked.sections),
            asked.seconds if asked.seconds is not None else self._fleet.settings.run.seconds,
        )


def application(
    fleet: Fleet,
    users: UserAuthenticator,
    settings: ApiSettings,
    duty: Callable[[], Duty],
    prefixes: Sequence[str] = ("",),
) -> web.Application:
    """The API as an application; /v1 is there behind each of the prefixes."""
    app = web.Application(
        client_max_size=settings.most_body, middlewares=[errors_as_problems, on_duty(duty), users_only(users)]
    )
    app[RENDERING] = {}
    watching = WatchApi(fleet, duty)
    app.on_shutdown.append(watching.stop)
    served = [*Api(fleet, settings, duty).routes(), *QueryApi(fleet, settings).routes(), *watching.routes()]
    for route in (*served, *DescriptionApi(served).routes()):
        if not route.path.startswith("/v1/"):
            app.add_routes([route])
            continue
        names = {one.name for one in OPERATIONS[endpoint(route)].parameters if one.where == "query"}
        handler = taking(names, route.handler)
        app.add_routes(
            [web.RouteDef(route.method, prefix + route.path, handler, route.kwargs) for prefix in prefixes]
        )
    return app
