"""/v1/query: which nodes an expression is true for."""

from aiohttp import web

from aggregator.api.negotiate import render, wanted_format
from aggregator.api.requests import after, body, limit
from aggregator.fleet import Fleet
from aggregator.query import Queries
from aggregator.settings import ApiSettings
from common.errors import UsageError
from common.fleet_api import QueryBody


class QueryApi:
    """The handlers, over one fleet."""

    def __init__(self, fleet: Fleet, settings: ApiSettings) -> None:
        self._fleet = fleet
        self._settings = settings
        self._queries = Queries(fleet)

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [web.get("/v1/query", self.query), web.post("/v1/query", self.query_by_body)]

    async def query(self, request: web.Request) -> web.Response:
        """Which nodes a CEL expression over the facts of the last snapshot is true for; asks no node anything."""
        query = request.query
        if "expression" not in query:
            raise UsageError("there is no expression", "Give ?expression=, or a body with POST.")
        return await self._answer(request, QueryBody(query["expression"], after(query), limit(query)))

    async def query_by_body(self, request: web.Request) -> web.Response:
        """The same with the expression in the body, where it may be longer than an address."""
        return await self._answer(request, await body(request, QueryBody, self._settings.body_within))

    async def _answer(self, request: web.Request, asked: QueryBody) -> web.Response:
        wanted_format(request)  # refuses before anything is evaluated
        run, document = self._fleet.last()
        return await render(request, await self._queries.answer(asked, run, document))
