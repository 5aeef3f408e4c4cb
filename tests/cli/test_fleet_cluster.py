"""`eidos fleet` with a kubeconfig: through the cluster's own API, and what it says when that does not go."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trustme
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from cli import install_run
from cli.fleet_client import FleetClient, connected
from cli.fleet_options import connection, fleet_options
from cli.fleet_transport import ClusterConnection, Connection
from common.errors import Code, EidosError, UsageError
from common.fleet_api import API_PATH, Progress, RunBody, RunState
from tests.cli.test_fleet_text import document

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def behind_api(tmp_path: Path, handler: Handler) -> AsyncIterator[FleetClient]:
    """A client whose kubeconfig leads to a server that answers everything with the handler."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert_pem.bytes())
    path = kubeconfig(tmp_path, f"https://127.0.0.1:{server.port}", str(ca))
    try:
        async with connected(ClusterConnection(str(path), "staging")) as client:
            yield client
    finally:
        await server.close()


def kubeconfig(tmp_path: Path, server: str, ca: str = "") -> Path:
    document = {
        "current-context": "other",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": ca}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in ("staging", "other")],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return path


def saying(status: int, body: object, kind: str = "application/json") -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, text=text, content_type=kind)

    return handler


def status_body(code: int, message: str) -> dict[str, object]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


async def test_requests_go_where_the_fleets_api_is(tmp_path: Path) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.method} {request.raw_path} {request.headers['Authorization']}")
        return web.json_response({"items": [], "continue": ""})

    async with behind_api(tmp_path, handler) as client:
        assert await client.nodes("ok,stale") == []
    assert asked == [f"GET {API_PATH}/v1/nodes?limit=1000&state=ok%2Cstale Bearer secret"]


FORBIDDEN = status_body(403, 'fleets.fleet.eidos.nvidia.com "eidos" is forbidden: User "viewer" cannot get resource '
                             '"fleets/api" in API group "fleet.eidos.nvidia.com" at the cluster scope')  # fmt: skip
PROBLEM = {"type": "urn:eidos:problem:fleet_not_found", "title": "t", "status": 404, "detail": "nothing is known"}
UNKNOWN = {"type": "urn:eidos:problem:not_found", "title": "t", "status": 404}
DEFECT = {"type": "urn:eidos:problem:internal", "title": "internal error", "status": 500, "hint": "See its log."}
UNBELIEVED = {"type": "urn:eidos:problem:fleet_unauthorized", "title": "t", "status": 401}


@pytest.mark.parametrize(
    ("handler", "code", "sentence"),
    [
        (saying(404, "404 page not found", "text/plain"), Code.FLEET_NOT_FOUND,
         "there is no fleet in the cluster of context staging: its API has no fleet.eidos.nvidia.com/v1alpha1. In"),
        (saying(404, status_body(404, "the server could not find")), Code.FLEET_NOT_FOUND, "there is no fleet in"),
        (saying(403, FORBIDDEN), Code.CLUSTER_FORBIDDEN,
         'get fleets/api.fleet.eidos.nvidia.com eidos is forbidden: User "viewer" cannot get resource "fleets/api"'),
        (saying(401, status_body(401, "Unauthorized")), Code.CLUSTER_UNAUTHORIZED, "does not accept the credentials"),
        (saying(503, "service unavailable", "text/plain"), Code.FLEET_UNREACHABLE, "cannot be reached by the API"),
        (saying(404, PROBLEM, "application/problem+json"), Code.FLEET_NOT_FOUND, "nothing is known"),
        (saying(404, UNKNOWN, "application/problem+json"), Code.FLEET_NOT_FOUND,
         "the aggregator in the cluster of context staging does not know what is asked. Aggregator and eidos may"),
        (saying(500, DEFECT, "application/problem+json"), Code.FLEET_FAILED,
         "the aggregator in the cluster of context staging failed: internal error. See its log"),
        (saying(500, "{", "application/problem+json"), Code.FLEET_FAILED, "staging answers with HTTP status 500"),
        (saying(401, UNBELIEVED, "application/problem+json"), Code.FLEET_UNAUTHORIZED, "does not believe its API"),
        (saying(200, "<html>", "text/html"), Code.CLUSTER_FAILED, "the API server https://127.0.0.1"),
        (saying(302, "", "text/html"), Code.CLUSTER_FAILED, "answers with a redirect"),
        (saying(200, "{"), Code.FLEET_FAILED, "what is no NodeList"),
    ],
)  # fmt: skip
async def test_trouble_is_one_sentence(tmp_path: Path, handler: Handler, code: Code, sentence: str) -> None:
    async with behind_api(tmp_path, handler) as client:
        with pytest.raises(EidosError) as caught:
            await client.nodes()
    assert caught.value.code is code
    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_why_the_aggregator_is_not_available(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.fleet.eidos.nvidia.com":
            gone = {"type": "Available", "status": "False", "reason": "MissingEndpoints", "message": "no\naddresses"}
            return web.json_response({"status": {"conditions": [gone]}})
        return web.Response(status=503, text="service unavailable")

    async with behind_api(tmp_path, handler) as client:
        with pytest.raises(EidosError, match="by the API server: MissingEndpoints: no addresses") as caught:
            await client.groups()
    assert caught.value.code is Code.FLEET_UNREACHABLE


def line(state: RunState, answered: int) -> bytes:
    told = {"run": "1-1", "state": state, "expected": 4, "answered": answered, "seconds": 1.0, "states": {},
            "waiting": [], "reasons": {}}  # fmt: skip
    return json.dumps(told).encode() + b"\n"


async def test_progress_streams_through(tmp_path: Path) -> None:
    heard = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(line(RunState.COLLECTING, 1))
        await asyncio.wait_for(heard.wait(), 10)  # the second is not written before the first was read
        await response.write(line(RunState.DONE, 4))
        return response

    async with behind_api(tmp_path, handler) as client:
        seen: list[Progress] = []
        async for progress in client.run(RunBody()):
            seen.append(progress)
            heard.set()
    assert [progress.answered for progress in seen] == [1, 4]


async def test_a_run_cut_short_on_the_way_is_followed_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.fleet_client._ASKED_EVERY", 0.01)
    answers = [line(RunState.FOLDING, 3), line(RunState.DONE, 4)]

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == f"{API_PATH}/v1/runs/1-1":
            return web.Response(body=answers.pop(0), content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        await response.write(line(RunState.COLLECTING, 2))
        assert request.transport is not None
        request.transport.abort()  # as kube-apiserver does after --request-timeout
        return response

    async with behind_api(tmp_path, handler) as client:
        seen = [progress.answered async for progress in client.run(RunBody())]
    assert seen == [2, 3, 4]


@pytest.mark.parametrize(("cuts", "seen"), [(1, [4]), (2, "cut short")])
async def test_a_run_cut_before_it_says_anything_is_joined_once(
    tmp_path: Path, cuts: int, seen: list[int] | str
) -> None:
    """kube-apiserver loses an answer that begins while it still passes on the request's last byte."""
    asked: list[bytes] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(await request.read())
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        if len(asked) > cuts:
            await response.write(line(RunState.DONE, 4))
            return response
        assert request.transport is not None
        request.transport.abort()
        return response

    async with behind_api(tmp_path, handler) as client:
        if isinstance(seen, list):
            assert [progress.answered async for progress in client.run(RunBody(nodes="n1"))] == seen
        else:
            with pytest.raises(EidosError, match=seen):
                await anext(client.run(RunBody(nodes="n1")))
    assert len(asked) == 2
    assert asked[0] == asked[1]


# ---- which aggregator is meant


def chosen(arguments: list[str], environment: dict[str, str]) -> Connection | ClusterConnection | str:
    import click

    found: list[Connection | ClusterConnection | str] = []

    @click.command()
    @fleet_options
    def command(**flags: object) -> None:
        try:
            found.append(connection(flags))
        except UsageError as error:
            found.append(error.message)

    clean = dict.fromkeys(("KUBECONFIG", "EIDOS_SERVER", "KUBERNETES_SERVICE_HOST", "EIDOS_TOKEN_FILE"))
    result = CliRunner().invoke(command, arguments, env={**clean, "HOME": "/nonexistent", **environment})
    assert result.exit_code == 0, result.output
    return found[0]


def test_which_aggregator_is_meant(tmp_path: Path) -> None:
    config = {"KUBECONFIG": str(kubeconfig(tmp_path, "https://x"))}
    server = {"EIDOS_SERVER": "https://there:1"}
    assert chosen(["--context", "a"], {}) == ClusterConnection(None, "a")
    assert chosen(["--kubeconfig", "f", "--context", "a"], server) == ClusterConnection("f", "a")
    assert chosen(["--server", "here:1"], config) == Connection("https://here:1")
    assert chosen([], {**config, **server}) == Connection("https://there:1")
    assert chosen([], config) == ClusterConnection()
    assert chosen([], {}) == "no aggregator is named, and there is no kubeconfig"
    assert "give one of them" in str(chosen(["--server", "here:1", "--context", "a"], {}))


async def test_a_fleet_just_installed_is_asked_again_until_every_api_server_knows_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install_run, "_AGAIN_AFTER", 0.01)
    done = Progress("r1", RunState.DONE, 1, 1, 0.1, {}, [], {}, 0)
    not_yet = [saying(404, "404 page not found", "text/plain"), saying(503, "service unavailable", "text/plain")]
    of_the_apiservice = saying(200, {"status": {}})

    async def handler(request: web.Request) -> web.StreamResponse:
        if not request.path.startswith(API_PATH):
            return await of_the_apiservice(request)
        if not_yet:
            return await not_yet.pop(0)(request)
        body = document() if request.path.endswith("/snapshot") else done
        kind = "application/json" if request.path.endswith("/snapshot") else "application/x-ndjson"
        return web.Response(body=msgspec.json.encode(body), content_type=kind)

    async with behind_api(tmp_path, handler) as client:
        assert await install_run.take_once_served(client, RunBody(), lambda _: None) == document()
        monkeypatch.setattr(install_run, "_SERVED_WITHIN", 0.0)
        not_yet.append(saying(503, "service unavailable", "text/plain"))
        not_yet.append(saying(503, "service unavailable", "text/plain"))
        with pytest.raises(EidosError, match="cannot be reached by the API server"):
            await install_run.take_once_served(client, RunBody(), lambda _: None)
