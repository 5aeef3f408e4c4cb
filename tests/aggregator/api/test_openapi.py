"""The API's description: valid, complete, and with a meaning for what is in it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator

from aggregator.api.openapi import _TEXTS, describe
from aggregator.api.operations import OPERATIONS
from aggregator.api.routes import application
from aggregator.duty import Duty
from aggregator.fleet import Fleet
from aggregator.settings import Settings
from aggregator.users import TokenUser
from tests.aggregator.api.test_http import api


@pytest.fixture
async def routes(tmp_path: Path) -> AsyncIterator[list[web.RouteDef]]:
    """All endpoints that are served."""
    fleet = Fleet(Settings(tmp_path), list)
    app = application(fleet, TokenUser("token"), fleet.settings.api, lambda: Duty.LEADING)
    yield [
        web.RouteDef(route.method, route.resource.canonical, route.handler, {})
        for route in app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    ]
    await fleet.stop()


def parts(value: object) -> list[dict[str, Any]]:
    """All objects inside a document."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if isinstance(value, dict) else []) + [part for one in inside for part in parts(one)]


async def test_it_is_openapi_and_describes_every_endpoint(routes: list[web.RouteDef]) -> None:
    document = describe(routes)
    OpenAPIV31SpecValidator(document).validate()
    described = {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}
    assert described == {f"{route.method} {route.path}" for route in routes}
    references = {part["$ref"].rpartition("/")[2] for part in parts(document) if "$ref" in part}
    assert references <= document["components"]["schemas"].keys()
    assert len(
        {operation["operationId"] for item in document["paths"].values() for operation in item.values()}
    ) == len(described)


async def test_an_endpoint_without_a_description_is_an_error(routes: list[web.RouteDef]) -> None:
    with pytest.raises(ValueError, match="GET /v1/new"):
        describe([*routes, web.RouteDef("GET", "/v1/new", routes[0].handler, {})])
    with pytest.raises(ValueError, match="/livez"):
        describe([route for route in routes if route.path != "/livez"])


async def test_what_is_in_it_means_something(routes: list[web.RouteDef]) -> None:
    document = describe(routes)
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["summary"], path
            assert all(parameter["description"] for parameter in operation["parameters"])
            if path.startswith("/v1/"):
                assert {"400", "401", "403", "406", "500", "503"} <= operation["responses"].keys()
    schemas = document["components"]["schemas"]
    assert schemas["QueryResult"]["properties"]["not-matched"]["type"] == "integer"
    assert schemas["QueryResult"]["properties"]["unknown"]["description"].startswith("Expected nodes")
    assert schemas["RunBody"]["properties"]["nodes"]["maxLength"] == 64_000
    assert schemas["RunBody"]["additionalProperties"] is False
    assert all("description" in schema for schema in schemas.values())


async def test_it_is_served(tmp_path: Path) -> None:
    async with api(tmp_path, join=0) as user:
        status, body, headers = await user.ask("GET", "/v1/openapi.json")
        assert (status, headers["Content-Type"]) == (200, "application/json")
        document = json.loads(body)
        assert document["openapi"] == "3.1.0"
        status, body, headers = await user.ask("GET", "/v1/openapi.yaml")
        assert headers["Content-Type"] == "application/yaml"
        assert yaml.safe_load(body) == document


def test_texts_are_there_for_every_status_that_is_a_problem() -> None:
    used = {status for operation in OPERATIONS.values() for status in operation.problems}
    assert used <= _TEXTS.keys()
