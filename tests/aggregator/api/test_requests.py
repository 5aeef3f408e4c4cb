"""What requests may carry: parameters that exist, each once, and bodies that are plain JSON."""

import asyncio
import json
from pathlib import Path

import pytest

from aggregator.api.operations import OPERATIONS
from tests.aggregator.api.test_http import api


@pytest.mark.parametrize("endpoint", sorted(each for each in OPERATIONS if " /v1/" in each))
async def test_parameters_that_do_not_exist_are_refused(tmp_path: Path, endpoint: str) -> None:
    method, path = endpoint.translate({ord("{"): None, ord("}"): None}).split(" ")
    async with api(tmp_path, join=0) as user:
        told = await user.problem(method, f"{path}?bogus=1")
        assert (told["status"], told["detail"]) == (400, "there is no parameter 'bogus' here")
        assert not user.fleet.fleet.runs.remembered()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/nodes?state=ok&state=timeout", "state"),
        ("/v1/nodes?limit=1&after=n1&limit=1", "limit"),
        ("/v1/query?expression=true&expression=false", "expression"),
        ("/v1/watch?seconds=1&seconds=2", "seconds"),
    ],
)
async def test_parameters_given_twice_are_refused(tmp_path: Path, path: str, name: str) -> None:
    async with api(tmp_path, join=0) as user:
        told = await user.problem("GET", path)
        assert (told["status"], told["detail"]) == (400, f"parameter {name!r} is given more than once")


@pytest.mark.parametrize("given", ["", ",", ",,"])
async def test_states_that_name_none_are_not_all_of_them(tmp_path: Path, given: str) -> None:
    async with api(tmp_path, join=0) as user:
        told = await user.problem("GET", f"/v1/nodes?state={given}")
        assert (told["status"], told["detail"]) == (400, "parameter 'state' names no state")
        assert told["hint"] == "Leave it out for all of them."


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/query"])
@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Content-Encoding": "gzip"}, "'gzip'"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "'application/x-www-form-urlencoded'"),
        ({"Content-Type": "application/yaml"}, "'application/yaml'"),
    ],
)
async def test_bodies_that_are_not_plain_json_are_refused(
    tmp_path: Path, path: str, headers: dict[str, str], named: str
) -> None:
    async with api(tmp_path, join=0) as user:
        told = await user.problem("POST", path, data=b"{}", headers=headers)
        assert told["status"] == 415
        assert named in told["detail"]
        assert not user.fleet.fleet.runs.remembered()


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "Application/JSON; charset=utf-8", "Content-Encoding": "identity"},
        {"Content-Type": "application/octet-stream"},
    ],
)
async def test_bodies_of_json_are_read(tmp_path: Path, headers: dict[str, str]) -> None:
    async with api(tmp_path) as user:
        assert (await user.ask("POST", "/v1/runs", data=b'{"nodes": "n1"}', headers=headers))[0] == 200


async def test_no_body_has_no_type(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        for headers in ({}, {"Content-Type": "text/plain"}):
            assert (await user.ask("POST", "/v1/runs", headers=headers))[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01garbage-of-a-stranger" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-Large: " + b"garbage-of-a-stranger" * 2000 + b"\r\n\r\n",
        b"GET /" + b"garbage-of-a-stranger" * 2000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\ngarbage-of-a-stranger\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_answered_briefly(tmp_path: Path, sent: bytes) -> None:
    async with api(tmp_path, join=0) as user:
        port = user.fleet.local.server.api_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=user.fleet.context)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"400"
        assert b"application/problem+json" in head
        assert json.loads(body)["type"] == "urn:eidos:problem:bad_request"
        assert len(answer) < 600
        assert b"garbage" not in answer
        assert user.fleet.counts.http_answers == {"400": 1}
