"""/v1/watch: nodes, runs and drift as they happen; slow readers and full houses."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aggregator import watch
from aggregator.api import watching as watching_api
from aggregator.watch import MOST_WAITING, MOST_WATCHERS, Watcher, Watchers
from common.fleet_api import NodeChange, WatchAlive, WatchEnd, WatchEnding
from tests.aggregator.api.test_http import User, api
from tests.fleet.scene import until

Event = dict[str, Any]


class Lines:
    """The lines of one watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.seen: list[Event] = []

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The next event of a kind; those before it are seen, too."""
        async with asyncio.timeout(40):
            while line := await self._response.content.readline():
                self.seen.append(json.loads(line))
                if wanted(self.seen[-1]):
                    return self.seen[-1]
        raise AssertionError(f"it ended: {self.seen}")


@asynccontextmanager
async def watching(user: User, query: str = "") -> AsyncIterator[Lines]:
    async with user.session.get(
        f"{user.base}/v1/watch{query}", headers={"Authorization": f"Bearer {user.token}"}
    ) as response:
        assert (response.status, response.content_type) == (200, "application/x-ndjson"), await response.text()
        yield Lines(response)


def ended(event: Event, run: str = "") -> bool:
    """Whether it says that a run, or this one, is done."""
    progress = event.get("progress", {})
    return progress.get("state") == "done" and run in ("", progress["run"])


async def test_nodes_runs_and_drift(tmp_path: Path) -> None:
    async with api(tmp_path) as user, watching(user) as lines:
        start = await lines.until(lambda event: event["event"] == "start")
        assert (start["expected"], start["connected"], start["states"], start["run"]) == (5, 3, {}, "")
        await user.ask("POST", "/v1/runs")
        done = await lines.until(ended)
        assert done["progress"]["states"] == {"ok": 3, "no-agent": 2}
        ok = next(event for event in lines.seen if event.get("state") == "ok")
        assert (ok["nodes"], ok["count"], ok["connected"]) == ("n[1-3]", 3, True)
        agent = await user.fleet.join("n4")
        back = await lines.until(lambda event: event["event"] == "nodes" and event["nodes"] == "n4")
        assert (back["connected"], back["state"]) == (True, "no-agent")
        await user.ask("POST", "/v1/runs")
        assert not any(event["event"] == "drift" for event in lines.seen), "a node that is new has not changed"
        agent.change("97")
        known = len(lines.seen)
        await user.ask("POST", "/v1/runs")
        run = (await user.get("/v1/snapshot"))["metadata"]["run"]
        await lines.until(lambda event: ended(event, run))
        (drift,) = (event for event in lines.seen[known:] if event["event"] == "drift")
        assert (drift["nodes"], drift["more"]) == ("n4", 0)
        assert drift["facts"] == [
            {"type": "OS", "subtype": "sysctl", "key": "/proc/sys/vm/swappiness", "before": "60", "after": "97"}
        ]
        agent.dialled.transport.abort()
        lost = await lines.until(lambda event: event["event"] == "nodes" and not event["connected"])
        assert lost["nodes"] == "n4"


async def test_the_end_says_why(tmp_path: Path) -> None:
    async with api(tmp_path, join=0) as user:
        async with watching(user, "?seconds=1") as lines:
            end = await lines.until(lambda event: event["event"] == "end")
            assert (end["code"], end["reason"]) == ("time", "the time asked for is over")
        assert (await user.problem("GET", "/v1/watch?seconds=0"))["status"] == 400


async def test_nothing_happens_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_ALIVE_AFTER", 0.05)
    async with api(tmp_path, join=0) as user, watching(user) as lines:
        await lines.until(lambda event: event["event"] == "alive")


async def test_no_more_than_a_house_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_WATCHERS", 1)
    async with api(tmp_path, join=0) as user, watching(user) as lines:
        await lines.until(lambda event: True)
        assert (await user.problem("GET", "/v1/watch"))["status"] == 429
    assert MOST_WATCHERS >= 16


async def test_a_connection_that_nobody_reads_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [NodeChange("", 1, "n" * 1_000_000, expected=True, connected=True)] * 4
    monkeypatch.setattr(watching_api, "_TAKEN_WITHIN", 0.2)
    monkeypatch.setattr(watch, "_EVERY", 0.01)
    monkeypatch.setattr(Watchers, "_node_changes", lambda watchers: large)
    async with api(tmp_path, join=0) as user:
        port = user.fleet.local.server.api_port
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=user.fleet.context, limit=1024)
        writer.write(f"GET /v1/watch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {user.token}\r\n\r\n".encode())
        await until(lambda: user.fleet.counts.http_dropped["slow-watcher"] == 1)
        writer.transport.abort()


async def test_who_does_not_take_its_events_is_dropped_and_told_why() -> None:
    watcher = Watcher()
    for number in range(MOST_WAITING * 3):
        watcher.tell([WatchAlive(str(number))])
    events = [event async for event in watcher.events()]
    assert len(events) == MOST_WAITING + 1
    last = events[-1]
    assert isinstance(last, WatchEnd)
    assert last.code is WatchEnding.SLOW


async def test_however_much_happens_at_once_is_told() -> None:
    """Nobody can take it sooner than it is told."""
    watcher = Watcher()
    much = [WatchAlive(str(number)) for number in range(MOST_WAITING * 3)]
    watcher.tell(much)
    watcher.tell([])
    watcher.end(WatchEnding.TIME)
    *events, last = [event async for event in watcher.events()]
    assert events == much
    assert isinstance(last, WatchEnd)
    assert last.code is WatchEnding.TIME
