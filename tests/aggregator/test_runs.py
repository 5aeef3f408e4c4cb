"""Runs that have to wait for others."""

import asyncio
from pathlib import Path

from aggregator.run import RunRequest
from aggregator.selector import Selector
from aggregator.settings import RunSettings
from common.errors import Code
from common.fleet_api import RunState
from tests.aggregator.api.test_http import api
from tests.fleet.scene import scene, until

ONE = RunSettings(warming=0.0, at_once=1)


async def test_a_run_that_cannot_begin_by_its_deadline_asks_nobody(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"], runs=ONE) as fleet:
        agent = await fleet.join("n1")
        agent.answers_collect = False
        runs = fleet.fleet.runs
        first = runs.start(RunRequest(seconds=100.0))
        second = runs.start(RunRequest(Selector("n1"), seconds=0.3))
        assert second.state is RunState.QUEUED
        await asyncio.wait_for(second.ended.wait(), 60)
        assert (second.state, second.failure_code) == (RunState.FAILED, Code.FLEET_BUSY)
        assert second.failure == "it could not begin within its deadline of 0.3 s: others are under way"
        assert first.state is RunState.COLLECTING
        await agent.collected.wait()
        agent.report_now()
        await asyncio.wait_for(first.ended.wait(), 60)
        assert [collect.run for collect in agent.collects] == [first.id]


async def test_a_run_whose_turn_comes_in_time_has_its_whole_deadline(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1"], runs=ONE) as fleet:
        agent = await fleet.join("n1")
        agent.answers_collect = False
        runs = fleet.fleet.runs
        first = runs.start(RunRequest(seconds=0.2))
        second = runs.start(RunRequest(seconds=2.0))
        await asyncio.wait_for(second.ended.wait(), 60)
        assert (first.state, second.state) == (RunState.DONE, RunState.DONE)
        assert fleet.reasons(second) == {"n1": "no answer within 2 s"}
        assert second.collected_after > 1.9


async def test_the_caller_of_a_run_that_cannot_begin_is_told_to_come_back(tmp_path: Path) -> None:
    runs = RunSettings(warming=30.0, at_once=1)  # nobody has connected: the first one waits for them
    async with api(tmp_path, join=0, runs=runs) as user:
        status, _, _ = await user.ask("POST", "/v1/runs", json={"seconds": 30}, headers={"Prefer": "respond-async"})
        assert status == 202
        status, body, headers = await user.ask("POST", "/v1/runs", json={"seconds": 0.3})
        assert (status, headers["Retry-After"]) == (429, "5")
        assert b"it could not begin within its deadline of 0.3 s" in body


async def test_who_comes_back_and_has_said_nothing_yet_did_not_fail_to_answer(tmp_path: Path) -> None:
    async with scene(tmp_path, ["n1", "n2"], runs=RunSettings(warming=0.0)) as fleet:
        back, other = await fleet.join("n1"), await fleet.join("n2")
        back.answers_collect = other.answers_collect = False
        run = fleet.fleet.runs.start(RunRequest(seconds=30.0))
        await asyncio.gather(back.collected.wait(), other.collected.wait())
        back.dialled.transport.abort()
        await until(lambda: fleet.hub.nodes["n1"].link is None)
        assert (await fleet.dial(fleet.token("n1"))).status == 101
        other.report_now()
        await asyncio.wait_for(run.ended.wait(), 20)
        assert fleet.reasons(run)["n1"] == "link down: the connection was lost"
