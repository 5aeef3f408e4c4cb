"""The client against aggregators that misbehave, and what lies between."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from aggregator.ledger import Expected
from aggregator.run import Run, RunRequest
from cli import fleet_client
from cli.fleet_client import FleetClient, connected
from cli.fleet_run import drawn, take
from cli.fleet_transport import ClusterConnection, Connection
from common.errors import Code, EidosError
from common.fleet import FleetMetadata, FleetSnapshot, NodeState, Summary
from common.fleet_api import FactValue, FactView, NodeList, NodeView, Progress, RunBody, RunState, WatchAlive
from common.model import MeasurementType
from tests.cli.conftest import Demo
from tests.fakes.kubeconfig import write_kubeconfig

PROBLEM = "application/problem+json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[FleetClient]:
    """A client of a server on TLS that answers everything with the handler."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    try:
        ca = authority.cert_pem.bytes().decode()
        async with connected(Connection(f"https://127.0.0.1:{server.port}", ca, "secret")) as client:
            yield client
    finally:
        await server.close()


def saying(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Content-Type": kind, **headers})

    return handler


def in_pieces(status: int, first: bytes, second: bytes, kind: str) -> Handler:
    """The head and the first piece are read before the second is sent."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={"Content-Type": kind})
        await response.prepare(request)
        await response.write(first)
        await asyncio.sleep(0.1)
        await response.write(second)
        return response

    return handler


def problem(code: str, status: int, detail: str, hint: str = "", **headers: str) -> Handler:
    text = f'{{"type": "urn:eidos:problem:{code}", "title": "t", "status": {status}, "detail": "{detail}"'
    text += f', "hint": "{hint}"}}' if hint else "}"
    return saying(status, text.encode(), PROBLEM, **headers)


@pytest.mark.parametrize(
    ("handler", "code", "sentence"),
    [
        (problem("fleet_busy", 429, "20 runs are under way", **{"Retry-After": "5"}), Code.FLEET_BUSY,
         "20 runs are under way. Try again in 5 s."),
        (problem("fleet_busy", 429, "busy", "Later.", **{"Retry-After": "Wed, 21 Oct"}), Code.FLEET_BUSY,
         "busy. Later."),
        (saying(503, b"", "text/html", **{"Retry-After": "7"}), Code.FLEET_BUSY, "Try again in 7 s"),
        (saying(504, b"", "text/html"), Code.DEADLINE, "HTTP status 504"),
        (saying(503, b"{", "application/problem+json"), Code.FLEET_BUSY, "answers with HTTP status 503. Try again"),
        (problem("not_found", 404, "not found"), Code.FLEET_NOT_FOUND, "does not know what is asked. Aggregator and"),
        (problem("internal", 500, "look at the log"), Code.FLEET_FAILED, "failed: look at the log"),
        (problem("fleet_not_found", 404, "nothing"), Code.FLEET_NOT_FOUND, "nothing"),
        (problem("not_acceptable", 406, "no"), Code.FLEET_FAILED, "no"),
        (problem("deadline", 504, "late"), Code.DEADLINE, "late"),
        (problem("x", 500, "a\\u001b[31mred\\nline"), Code.FLEET_FAILED, "a\\x1b[31mred line"),
        (problem("x", 500, "y" * 5000), Code.FLEET_FAILED, "yyy …"),
        (saying(500, b"{", "application/problem+json"), Code.FLEET_FAILED, "HTTP status 500"),
        (saying(200, b"<html>", "text/html"), Code.FLEET_FAILED, "answers with HTTP status 200 and text/html"),
        (saying(302, b"", "text/html", Location="/login"), Code.FLEET_FAILED, "HTTP status 302"),
        (saying(200, b"{"), Code.FLEET_FAILED, "what is no NodeList"),
        (saying(200, b"[1]"), Code.FLEET_FAILED, "what is no NodeList"),
        (saying(200, b"\xff\xfe"), Code.FLEET_FAILED, "what is no NodeList"),
        (saying(200, b"[" * 100_000), Code.FLEET_FAILED, "what is no NodeList"),
    ],
)  # fmt: skip
async def test_answers_that_are_not_the_one_asked_for(handler: Handler, code: Code, sentence: str) -> None:
    async with serving(handler) as client:
        with pytest.raises(EidosError) as caught:
            await client.nodes()
    assert caught.value.code is code
    assert sentence in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert "secret" not in str(caught.value)


async def test_a_refusal_is_read_to_its_end() -> None:
    first, second = (
        b'{"type": "urn:eidos:problem:fleet_busy", "title": "t", "sta',
        b'tus": 503, "detail": "no leader yet"}',
    )
    async with serving(in_pieces(503, first, second, PROBLEM)) as client:
        with pytest.raises(EidosError, match="no leader yet"):
            await client.nodes()


async def test_why_a_cluster_does_not_reach_the_aggregator_is_read_to_its_end(tmp_path: Path) -> None:
    """The API server's answer about its APIService may come in any number of pieces."""
    condition = (
        b'{"type": "Available", "status": "False", "reason": "EndpointsNotFound", "message": "no\\nendpoints"}'
    )
    pieces = in_pieces(200, b'{"status": {"conditions": [', condition + b"]}}", "application/json")

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/apis/apiregistration.k8s.io/v1/apiservices/v1alpha1.fleet."):
            return await pieces(request)
        return web.Response(status=503, text="service unavailable")

    server = TestServer(web.Application())
    server.app.router.add_route("*", "/{path:.*}", handler)
    await server.start_server()
    try:
        kubeconfig = write_kubeconfig(tmp_path / "config", f"http://127.0.0.1:{server.port}")
        async with connected(ClusterConnection(kubeconfig)) as client:
            with pytest.raises(EidosError, match="reached by the API server: EndpointsNotFound: no endpoints"):
                await client.nodes()
    finally:
        await server.close()


async def test_the_token_goes_to_the_server_and_nowhere_else() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers["Authorization"])
        return web.json_response({"items": [], "continue": ""})

    async with serving(handler) as client:
        await client.nodes()
    assert seen == ["Bearer secret"]
    assert "secret" not in repr(Connection("https://x", "", "secret"))


async def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_client, "_MOST_BYTES", 1 << 20)

    async with serving(saying(200, b" " * (8 << 20))) as client:
        with pytest.raises(EidosError, match="without an end"):
            await client.nodes()


async def test_silence_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_client, "_SILENT", 0.2)
    released = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        await released.wait()
        return web.Response()

    async with serving(handler) as client:
        with pytest.raises(EidosError, match="does not answer in time") as caught:
            await client.nodes()
        with pytest.raises(EidosError, match="does not answer in time"):
            await take(client, RunBody())
        released.set()
    assert caught.value.exit_status == 5


async def test_a_connection_that_breaks() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as client:
        with pytest.raises(EidosError) as caught:
            await client.nodes()
    assert caught.value.exit_status == 4
    assert "broke: " in str(caught.value)


def progress(state: RunState, **more: object) -> bytes:
    line = Progress("r-1", state, 2, 1, 0.5, {"ok": 1}, ["b"], {})
    return msgspec.json.encode(msgspec.structs.replace(line, **more)) + b"\n"


def streaming(*lines: bytes) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/v1/runs/"):
            return await problem("fleet_failed", 500, "the run failed: no room")(request)
        return web.Response(body=b"".join(lines), headers={"Content-Type": "application/x-ndjson"})

    return handler


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([progress(RunState.COLLECTING)], "stopped in the middle of the run"),
        ([], "stopped in the middle of the run"),
        ([progress(RunState.COLLECTING), b'{"run"'], "what is no Progress"),
        ([b"x" * (3 << 20)], "broke"),
        ([progress(RunState.FAILED)], "the run failed: no room"),
    ],
)
async def test_progress_that_does_not_end_well(lines: list[bytes], sentence: str) -> None:
    async with serving(streaming(*lines)) as client:
        with pytest.raises(EidosError) as caught:
            await take(client, RunBody())
    assert sentence in str(caught.value)
    assert caught.value.code is Code.FLEET_FAILED


async def test_events_that_a_newer_aggregator_has_are_passed_over() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        lines = b'{"event":"eclipse","at":"t","of":["the sun"]}\n{"event":"alive","at":"t","more":1}\n'
        return web.Response(body=lines, headers={"Content-Type": "application/x-ndjson"})

    async with serving(handler) as client:
        assert [event async for event in client.watch(10)] == [WatchAlive("t")]


@pytest.mark.parametrize(
    "head", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n["]
)
async def test_reading_is_tried_again_once_when_the_answer_breaks_off(head: bytes) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if len(asked) % 2:
            assert request.transport is not None
            request.transport.write(head)
            request.transport.close()
        return web.Response(body=b'{"items":[],"nodeTable":[]}', content_type="application/json")

    async with serving(handler) as client:
        assert (await client.outliers()).items == []
    assert asked == ["/v1/outliers"] * 2


async def test_what_breaks_is_told_without_the_names_of_classes() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n[")
        request.transport.close()
        return web.Response()

    async with serving(handler) as client:
        with pytest.raises(EidosError, match=r"broke: its answer ends in the middle\. The"):
            await client.outliers()
    async with serving(streaming(b'{"at": 1}\n')) as client:
        with pytest.raises(EidosError, match="answers with what is no event: "):
            await anext(client.watch(1))


async def test_a_document_that_others_displaced_is_asked_for_again() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return await problem("fleet_not_found", 404, "no longer kept")(request)
        if request.headers["Accept"] == "application/x-ndjson":
            return await streaming(progress(RunState.DONE))(request)
        assert msgspec.json.decode(await request.read(), type=RunBody) == RunBody(nodes="a", seconds=3.0)
        summary = Summary(0, 0, {}, 0, 0, 0, 0, 0)
        document = FleetSnapshot(
            metadata=FleetMetadata("0", "r-2", "t"), summary=summary, ledger=[], groups=[], outliers=[],
            collection=[], measurements=[],
        )  # fmt: skip
        return web.Response(body=msgspec.json.encode(document), content_type="application/json")

    async with serving(handler) as client:
        document, _ = await take(client, RunBody(nodes="a", seconds=3.0))
    assert document.metadata.run == "r-2"


async def test_many_different_runs_at_once_each_get_their_own(demo: Demo) -> None:
    home = demo.directory / "fleet"
    token, ca = (home / "user-token").read_text(), (home / "ca.crt").read_text()

    async def one(number: int) -> int:
        nodes = f"h100-8x-ib-[1-{1 + number % 3}]"
        async with connected(Connection(demo.environment["EIDOS_SERVER"], ca, token)) as client:
            document, _ = await take(client, RunBody(nodes=nodes, seconds=30.0 + number))
        assert document.summary.expected == 1 + number % 3
        return document.summary.states["ok"]

    assert await asyncio.gather(*(one(number) for number in range(12))) == [1, 2, 3] * 4


async def test_pages_that_lead_nowhere_end() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if "facts" in request.path:
            return web.json_response({"type": "OS", "subtype": "s", "key": "k", "own": {"a": 1}, "more": "a"})
        return web.json_response({"items": [{"node": "a", "connected": True}], "continue": "a"})

    async with serving(handler) as client:
        assert len(await client.nodes()) == 2
        assert (await client.fact("OS.s.k")).own == {"a": 1}


async def test_pages_of_a_fact_are_one_view() -> None:
    pages: dict[str, dict[str, object]] = {
        "": {"own": {"a1": 1}, "unknown": "n1,n3", "more": "n3"},
        "n3": {"own": {"n5": 2}, "unknown": "n4", "values": [{"count": 2, "nodes": "n[6-7]"}], "more": "n7"},
        "n7": {"own": {"n8": 3}, "values": [{"count": 1, "nodes": "n9"}]},
    }

    async def handler(request: web.Request) -> web.StreamResponse:
        page = pages[request.query.get("after", "")]
        return web.json_response({"type": "OS", "subtype": "s", "key": "k", **page})

    async with serving(handler) as client:
        view = await client.fact("OS.s.k")
    lacking = [FactValue(3, "n[6-7,9]")]
    assert view == FactView(MeasurementType.OS, "s", "k", lacking, {"a1": 1, "n5": 2, "n8": 3}, "n[1,3-4]")


async def test_names_are_escaped_in_paths() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request.raw_path)
        return web.json_response({"type": "OS", "subtype": "sysctl", "key": "k"})

    async with serving(handler) as client:
        await client.fact("OS.sysctl./proc/sys/a?b#c d%2e")
        await client.node("../x")
    assert seen == ["/v1/facts/OS.sysctl.%2Fproc%2Fsys%2Fa%3Fb%23c%20d%252e?limit=1000", "/v1/nodes/..%2Fx"]


def test_what_progress_shows() -> None:
    line = Progress(
        "r", RunState.COLLECTING, 9, 2, 1.25, {"ok": 1, "partial": 1}, ["a", "b\x1b[2J"], {"gpu (timeout)": 1}, 7
    )
    text = str(drawn(line))
    assert text.splitlines() == [
        "collecting  2/9 nodes answered  ok 1  partial 1  1.2 s",
        "slowest: a, b\\x1b[2J and 5 more",
        "failing: gpu (timeout) on 1",
    ]


def test_progress_names_nobody_as_slow_who_is_not_waited_for() -> None:
    run = Run("r", RunRequest())
    run.begin([Expected(name) for name in ("stopped", "killed", "never-there")])
    for name in ("stopped", "killed"):
        run.await_answer(name)
    run.settle_one("killed", None)
    assert str(drawn(run.progress())).splitlines()[1:] == ["slowest: stopped"]
    for number in range(6):
        run.await_answer(f"n{number}")
    assert str(drawn(run.progress())).splitlines()[1].endswith(" and 2 more")


def test_types_agree_with_what_they_are_sent_as() -> None:
    page = NodeList([NodeView("a", True, state=NodeState.OK, facts_at="t")], "a")
    assert msgspec.json.decode(msgspec.json.encode(page), type=NodeList) == page
    view = FactView(MeasurementType.OS, "sysctl", "k", own={"a": 1})
    assert msgspec.json.decode(msgspec.json.encode(view), type=FactView) == view
