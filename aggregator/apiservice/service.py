"""What is served as part of a cluster's API, in one list."""

import msgspec
from aiohttp import web

from aggregator.apiservice import discovery, openapi
from aggregator.apiservice.create import Creator
from aggregator.apiservice.fleets import FleetSource
from aggregator.apiservice.nodes import NodeSource
from aggregator.apiservice.resource import Resource, json_answer
from aggregator.apiservice.runs import RunSource
from aggregator.apiservice.status import errors_as_statuses
from aggregator.fleet import Fleet
from aggregator.users import GROUP_PATH
from common.fleet import FLEET_GROUP


class ApiService:
    """Part of a cluster's API, for an application whose users are the cluster's (aggregator/cluster/users.py)."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._document = openapi.group_document()

    def add_to(self, app: web.Application) -> None:
        """Add the routes; errors on them are Statuses."""
        # Twice: below the middleware that makes problems of errors, and above it to turn those on our paths.
        app.middlewares.insert(0, errors_as_statuses)
        app.middlewares.append(errors_as_statuses)
        app.add_routes(self.routes())

    def routes(self) -> list[web.RouteDef]:
        """What is served besides /v1 at aggregator.users.API_PATH."""
        nodes, fleets = Resource(NodeSource(self._fleet)), Resource(FleetSource(self._fleet))
        source = RunSource(self._fleet)
        runs = Resource(source)
        creator = Creator(source, runs, self._fleet.settings.api.body_within)
        # No HEAD of what is streamed: aiohttp would send the body all the same, and the next answer would follow it.
        return [
            web.get("/apis", self.groups),
            web.get(f"/apis/{FLEET_GROUP}", self.group),
            web.get(GROUP_PATH, self.resources),
            web.get("/openapi/v3", self.openapi),
            web.get(openapi.GROUP_DOCUMENT, self.openapi_group),
            web.get(f"{GROUP_PATH}/nodesnapshots", nodes.listing, allow_head=False),
            web.get(f"{GROUP_PATH}/nodesnapshots/{{name}}", nodes.get),
            web.get(f"{GROUP_PATH}/fleetsnapshots", runs.listing, allow_head=False),
            web.post(f"{GROUP_PATH}/fleetsnapshots", creator.create),
            web.get(f"{GROUP_PATH}/fleetsnapshots/{{name}}", runs.get),
            web.get(f"{GROUP_PATH}/fleets", fleets.listing, allow_head=False),
            web.get(f"{GROUP_PATH}/fleets/{{name}}", fleets.get),
        ]

    async def groups(self, request: web.Request) -> web.Response:
        """All groups: ours; with their resources where that is asked for."""
        if discovery.is_aggregated_wanted(request.headers.get("Accept", "")):
            answer = json_answer(msgspec.json.encode(discovery.aggregated()))
            answer.headers["Content-Type"] = discovery.AGGREGATED
            return answer
        return json_answer(msgspec.json.encode(discovery.api_groups()))

    async def group(self, request: web.Request) -> web.Response:
        """The group and its version."""
        return json_answer(msgspec.json.encode(discovery.api_group()))

    async def resources(self, request: web.Request) -> web.Response:
        """The group's resources. kube-apiserver takes this for a sign of life."""
        return json_answer(msgspec.json.encode(discovery.api_resources()))

    async def openapi(self, request: web.Request) -> web.Response:
        """Where the group's document is."""
        return json_answer(msgspec.json.encode(openapi.root(self._document)))

    async def openapi_group(self, request: web.Request) -> web.Response:
        """The group's document. Its name changes with it, so that it may be kept."""
        answer = json_answer(self._document)
        if request.query.get("hash"):
            answer.headers["Cache-Control"] = "private, max-age=31536000, immutable"
        return answer
