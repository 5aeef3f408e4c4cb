"""Logs, followed across lost connections."""

import asyncio
import time
from contextlib import aclosing

import pytest

from common.errors import Code
from common.kube import logs as module
from common.kube.client import KubeError
from common.kube.logs import logs
from tests.common.kube.conftest import Connect
from tests.fakes.apiserver import FakeApiServer, Fault


def _line(second: int, fraction: str, text: str, zone: str = "Z") -> str:
    return f"2026-01-03T10:30:{second:02}{fraction}{zone} {text}"


async def test_a_whole_log(api: FakeApiServer, connect: Connect) -> None:
    api.say("p", _line(1, ".123456789", "one"), _line(2, "", "two  words"), _line(3, ".1", ""), "(end)")
    async with connect() as kube:
        assert [line async for line in logs(kube, "x", "p")] == [b"one", b"two  words", b""]


async def test_options_are_passed_on(api: FakeApiServer, connect: Connect) -> None:
    api.say("p", "(end)")
    async with connect() as kube:
        async for _ in logs(kube, "x", "p", container="c", previous=True, tail=5):
            pass
    query = api.calls[0].query
    assert (query["container"], query["previous"], query["tailLines"]) == ("c", "true", "5")


@pytest.mark.parametrize("zone", ["Z", "+02:00"])
async def test_a_broken_connection_loses_and_repeats_nothing(api: FakeApiServer, connect: Connect, zone: str) -> None:
    # Several lines in one second, and two with the very same stamp: the server can only begin at a second.
    lines = [
        _line(1, ".1", "a", zone),
        _line(1, ".5", "b", zone),
        _line(1, ".5", "c", zone),
        _line(1, ".50", "d", zone),
        _line(2, ".25", "e", zone),
        _line(2, ".3", "f", zone),
    ]
    async with connect() as kube, aclosing(logs(kube, "x", "p", follow=True, tail=100)) as follow:
        for number, line in enumerate(lines):
            api.say("p", line)
            assert await asyncio.wait_for(anext(follow), 20) == b"abcdef"[number : number + 1]
            api.drop_watches()
        api.say("p", "(end)")
        assert [line async for line in follow] == []
    assert "tailLines" not in api.calls[-1].query


async def test_a_log_that_is_not_followed_is_not_resumed(api: FakeApiServer, connect: Connect) -> None:
    api.say("p", _line(1, "", "one"))
    api.faults = [Fault("cut")]
    async with connect() as kube:
        with pytest.raises(KubeError):
            async for _ in logs(kube, "x", "p"):
                pass


async def test_a_container_that_has_not_started(api: FakeApiServer, connect: Connect) -> None:
    api.faults = [Fault("status", status=400, message='container "eidos" in pod "p" is waiting to start')]
    async with connect() as kube:
        with pytest.raises(KubeError, match="is waiting to start") as caught:
            await anext(logs(kube, "x", "p", follow=True))
    assert (caught.value.status, caught.value.code) == (400, Code.CLUSTER_INVALID)


async def test_the_deadline_ends_a_silent_log(api: FakeApiServer, connect: Connect) -> None:
    api.say("p", _line(1, "", "one"))
    async with connect() as kube, aclosing(logs(kube, "x", "p", follow=True)) as follow:
        assert await anext(follow) == b"one"
        kube.deadline = time.monotonic() + 0.2
        with pytest.raises(KubeError) as caught:
            await anext(follow)
    assert caught.value.code is Code.DEADLINE


async def test_long_lines_and_odd_stamps(
    api: FakeApiServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_LINE", 40)
    api.say("p", _line(1, "", "x" * 60), "2026-99-99T99:99:99Z odd", "none", "(end)")
    async with connect() as kube:
        assert b"".join([line async for line in logs(kube, "x", "p")]) == b"x" * 60 + b"odd" + b"none"
