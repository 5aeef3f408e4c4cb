"""What requests say of formats: which one is answered, and what is refused before anything is done."""

from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from aggregator.api.negotiate import wanted_format, wants_lines
from common.formats import Format
from tests.aggregator.api.test_http import api


def request(accept: str) -> web.Request:
    return make_mocked_request("GET", "/", headers={"Accept": accept})


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", Format.JSON),
        ("application/*", Format.JSON),
        ("application/json", Format.JSON),
        ("application/yaml", Format.YAML),
        ("TEXT/YAML", Format.YAML),
        ("application/x-ndjson", Format.JSON),
        ("text/html, */*;q=0.8", Format.JSON),
        ("application/json;q=0.5, application/yaml", Format.YAML),
        ("application/json;q=0.5, */*", Format.YAML),
        ("application/json;q=0, */*", Format.YAML),
        ("*/*, application/json;q=0", Format.YAML),
        ("application/json;q=0, application/x-ndjson;q=0, application/*", Format.YAML),
        ("application/yaml;q=0, */*", Format.JSON),
        ("application/*;q=0.1, */*", Format.JSON),
        ("application/yaml, application/json", Format.YAML),
        ("application/json, application/yaml", Format.JSON),
        ("*/*, application/yaml", Format.JSON),
    ],
)
def test_the_format_that_is_wanted_most(accept: str, form: Format) -> None:
    assert wanted_format(request(accept)) is form


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "text/html",
        "*/*;q=0",
        "application/json;q=0",
        "application/json;q=0, application/yaml;q=0, */*",
        "application/*;q=0, */*",
        "application/json;q=nan",
        "application/json;q=many",
    ],
)
def test_no_format_is_acceptable(accept: str) -> None:
    with pytest.raises(web.HTTPNotAcceptable):
        wanted_format(request(accept))


@pytest.mark.parametrize(
    ("accept", "lines"),
    [
        ("application/x-ndjson", True),
        ("application/json, application/x-ndjson;q=0.5", True),
        ("application/x-ndjson;q=0, application/json", False),
        ("*/*", False),
        ("application/x-ndjson-seq", False),
    ],
)
def test_lines_are_streamed_to_those_who_name_them(accept: str, lines: bool) -> None:
    assert wants_lines(request(accept)) is lines


@pytest.mark.parametrize("more", [{}, {"Prefer": "respond-async"}])
async def test_what_cannot_be_answered_asks_no_node(tmp_path: Path, more: dict[str, str]) -> None:
    async with api(tmp_path) as user:
        told = await user.problem("POST", "/v1/runs", headers={"Accept": "text/html", **more})
        assert told["status"] == 406
        assert not user.fleet.fleet.runs.remembered()
