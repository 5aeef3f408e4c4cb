"""/v1/query: what it answers, what it refuses, and that nothing asked can hang the aggregator or fill its memory."""

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from aggregator import query, turns
from common.fleet_api import MOST_EXPRESSION, MOST_LINE, QueryBody
from tests.aggregator.api.test_http import User, api
from tests.aggregator.query.test_child import DOUBLING

ISSUE = 'OS.release.VERSION_ID != "24.04" && semver(GPU.smi.driver) < semver("570.0.0")'
TEN = "[0,1,2,3,4,5,6,7,8,9]"


async def ask(user: User, expression: str, **more: object) -> dict[str, Any]:
    status, body, _ = await user.ask("POST", "/v1/query", json={"expression": expression, **more})
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    return answer


def counts(answer: dict[str, Any]) -> tuple[int, int, int, int]:
    return answer["matched"], answer["not-matched"], answer["undecided"], answer["unknown"]


async def test_which_nodes_and_why(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        answer = await ask(user, ISSUE)
        assert counts(answer) == (1, 2, 0, 2)
        assert (answer["nodes"], answer["items"], answer["nowhere"]) == ("n2", ["n2"], [])
        assert answer["groups"][0] == {
            "result": "matched",
            "count": 1,
            "nodes": "n2",
            "values": {"OS.release.VERSION_ID": "22.04", "GPU.smi.driver": "550.144.03"},
        }
        assert await user.get(f"/v1/query?expression={quote(ISSUE, safe='')}") == answer


async def test_queries_nobody_waits_for_keep_their_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end = threading.Semaphore(0), threading.Event()

    def table(*_: object) -> None:
        began.release()
        may_end.wait(30)
        raise OSError("nobody hears this")

    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        monkeypatch.setattr(query.Queries, "_table", table)
        fleet = user.fleet.fleet
        queries, last = query.Queries(fleet), fleet.last()
        asked = [asyncio.create_task(queries.answer(QueryBody("true", "", 1), *last)) for _ in range(6)]
        for _ in range(2):
            assert await asyncio.to_thread(began.acquire, timeout=30)
        for task in asked[:2]:
            task.cancel()
        assert not await asyncio.to_thread(began.acquire, timeout=0.2), "two at a time"
        may_end.set()
        told = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in told] == [asyncio.CancelledError] * 2 + [OSError] * 4


async def test_every_plain_expression_fits_into_an_address(tmp_path: Path) -> None:
    """Whoever may only view can ask it through the cluster's API, where a POST takes more."""
    longest = '"' + "<" * (MOST_EXPRESSION - 6) + '"!=""'
    assert len(longest) == MOST_EXPRESSION
    assert len(quote(longest, safe="")) < MOST_LINE - 1024
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        answer = await user.get(f"/v1/query?expression={quote(longest, safe='')}&after={'n' * 253}&limit=1000")
        assert counts(answer) == (3, 0, 0, 2)


async def test_what_cannot_be_decided_is_neither(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        answer = await ask(user, 'GPU.smi.drivr == "1"')
        assert counts(answer) == (0, 0, 3, 2)
        assert answer["nowhere"] == ["GPU.smi.drivr"]
        assert answer["groups"][0]["reason"] == "GPU.smi.drivr is not there"
        assert counts(await ask(user, 'GPU.smi.drivr == "1" || OS.release.VERSION_ID == "24.04"')) == (1, 0, 2, 2)
        assert counts(await ask(user, 'GPU.smi.drivr == "1" && OS.release.VERSION_ID == "24.04"')) == (0, 2, 1, 2)
        assert counts(await ask(user, 'has(GPU.smi.drivr) && GPU.smi.drivr == "1"')) == (0, 3, 0, 2)
        answer = await ask(user, 'OS.sysctl["/proc/sys/vm/swappiness"] > 50')
        assert answer["groups"][0]["reason"] == "> cannot take string and int"
        assert counts(await ask(user, 'int(OS.sysctl["/proc/sys/vm/swappiness"]) > 50')) == (3, 0, 0, 2)
        answer = await ask(user, 'OS.sysctl["/proc/sys/vm/swappiness"] != 60')
        assert (counts(answer), answer["nowhere"]) == ((0, 0, 3, 2), [])
        assert "is text and cannot equal a number" in answer["groups"][0]["reason"]
        assert answer["groups"][0]["values"] == {'OS.sysctl["/proc/sys/vm/swappiness"]': "60"}
        answer = await ask(user, "semver(OS.release.ID) > semver('1')")
        assert answer["groups"][0]["reason"] == "semver: 'ubuntu' is no version"


async def test_lines_that_differ_in_nothing_shown_are_one(tmp_path: Path) -> None:
    """A whole subtype may be another on every node, and no line shows it."""
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        answer = await ask(user, 'OS.release.ID == "ubuntu" && "nouveau" in OS.kmod')
        assert answer["groups"] == [
            {"result": "not-matched", "count": 3, "nodes": "n[1-3]", "values": {"OS.release.ID": "ubuntu"}}
        ]
        answer = await ask(user, '"nouveau" in OS.kmod || OS.release.VERSION_ID == "24.04"')
        assert [(group["result"], group["nodes"]) for group in answer["groups"]] == [
            ("matched", "n3"), ("not-matched", "n[1-2]"),
        ]  # fmt: skip


async def test_pages_of_matching_nodes(tmp_path: Path) -> None:
    async with api(tmp_path) as user:
        await user.ask("POST", "/v1/runs")
        first = await ask(user, "true", limit=2)
        assert (first["items"], first["continue"], first["nodes"]) == (["n1", "n2"], "n2", "n[1-3]")
        rest = await user.get("/v1/query?expression=true&limit=2&after=n2")
        assert (rest["items"], rest["continue"]) == (["n3"], "")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("OS.release.ID == 'x' &&\n  nothing == 1", "undeclared reference to 'nothing' (line 2, column 3"),
        ("OS.release.ID = 'x'", "line 1, column 15"),
        (
            "true || nope(OS.release.ID)",
            "undeclared reference to 'nope' (line 1, column 9",
        ),
        ("true || semver('nonsense') == b''", "semver: 'nonsense' is no version (line 1, column 9"),
        ("OS.release.ID.matches('(')", "missing ): ( (line 1, column 15"),
        ("semver(GPU.smi.driver) < '570'", "< cannot take version and string (line 1, column 24"),
        ("size(OS.release.ID)", "the expression is a number and not true or false (line 1, column 1"),
        ("{1: OS.release.ID}", "the expression is a map and not true or false"),
        ("OS.release.ID ==", "something is missing at the end (line 1, column 17"),
        ("OS.release.ID == GPU.smi.'x'", "'.'x'' cannot stand here (line 1, column 26"),
        ("OS.sysctl", "OS.sysctl is a whole subtype, and neither true nor false"),
        ("OS == 1", "OS alone names no fact (line 1, column 1)"),
        ("(" * 40 + "true" + ")" * 40, "nested too deeply"),
        ("x" * (MOST_EXPRESSION + 1), "4096"),
        ("", "expression"),
        ("\x00", "line 1, column 1"),
        ("OS.release.ID == '\ud800'", "not what is expected"),
    ],
)
async def test_a_wrong_expression_is_shown_where_it_is_wrong(tmp_path: Path, expression: str, told: str) -> None:
    async with api(tmp_path, join=1) as user:
        await user.ask("POST", "/v1/runs", json={"seconds": 30})
        problem = await user.problem("POST", "/v1/query", data=json.dumps({"expression": expression}).encode())
        assert problem["status"] == 400
        assert told in problem["detail"]


async def test_the_hint_for_a_key_with_a_hyphen(tmp_path: Path) -> None:
    async with api(tmp_path, join=1) as user:
        await user.ask("POST", "/v1/runs", json={"seconds": 30})
        problem = await user.problem("GET", "/v1/query?expression=GPU.smi.gpu-count%20%3E%204")
        assert problem["hint"] == 'A key with a hyphen stands in brackets: GPU.smi["gpu-count"].'


async def test_hostile_expressions_end_and_cost_the_aggregator_nothing(tmp_path: Path) -> None:
    async with api(tmp_path, join=1) as user:
        await user.ask("POST", "/v1/runs", json={"seconds": 30})
        hostile = {
            "steps": "".join(f"{TEN}.all({name}," for name in "abcdefg") + "g >= 0" + ")" * 7,
            "memory": DOUBLING,
            "lists": "[1,2,3,4,5,6,7,8]" + "".join(f".map(x{n},[x{n},x{n}])" for n in range(20)) + ".size() > 0",
            "regex": "OS.release.ID.matches('(a+)+$') || ('" + "a" * 2000 + "b').matches('^(a+)+$')",
            "regex size": "'a'.matches('((a{0,50}){0,50}){0,50}')",
        }
        told = {}
        for name, expression in hostile.items():
            status, body, _ = await user.ask("POST", "/v1/query", json={"expression": expression})
            answer = json.loads(body)
            told[name] = (
                answer["groups"][0].get("reason", answer["groups"][0]["result"])
                if status == 200
                else answer["detail"]
            )
        assert told["steps"] == "it takes more steps than a query may"
        assert re.search(r"more (time or )?memory than a query may", told["memory"])
        assert told["regex"] == "not-matched"
        assert "invalid repetition size" in told["regex size"]
        assert counts(await ask(user, "true")) == (1, 0, 0, 4)


async def test_many_at_once_take_turns_or_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_MOST", 5)
    async with api(tmp_path, join=1) as user:
        assert (await user.problem("GET", "/v1/query?expression=true"))["status"] == 404, "no snapshot yet"
        await user.ask("POST", "/v1/runs", json={"seconds": 30})
        asked = [user.ask("POST", "/v1/query", json={"expression": "true"}) for _ in range(8)]
        statuses = [status for status, _, _ in await asyncio.gather(*asked)]
        assert sorted(statuses) == [200] * 5 + [429] * 3
