"""What is refused before it costs, or confuses: watches without end, and a name that is another run's."""

import asyncio
from pathlib import Path

import pytest

from aggregator.apiservice import resource
from tests.aggregator.apiservice.served import served
from tests.aggregator.apiservice.test_nodes import follow
from tests.aggregator.apiservice.test_runs import body, create, done


async def test_watches_beyond_a_number_are_refused_until_others_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "_MOST_WATCHES", 2)
    async with served(tmp_path, join=0) as api:
        query = await follow(api)
        short = {**query, "timeoutSeconds": "1"}
        async with api.watching("nodesnapshots", params=query):
            async with api.watching("nodesnapshots", params=query):
                told = await api.status("nodesnapshots", 429, "TooManyRequests", params=short)
                assert told == "2 watches are open"
                await api.get("nodesnapshots")
            # One that has gone is noticed with the next event; this one's reader is there still.
            await api.scene.join("n2")
            for _ in range(1000):
                answer = await api.ask("nodesnapshots", params=short)
                if answer.status != 429:
                    break
                await asyncio.sleep(0.05)
            assert answer.status == 200


async def test_a_runs_id_is_a_name_that_is_taken(tmp_path: Path) -> None:
    """It is shown under that name already."""
    async with served(tmp_path) as api:
        assert (await create(api, body("mine", seconds=2))).status == 201
        run = (await done(api, "mine"))["status"]["run"]
        answer = await create(api, body(run, seconds=2))
        assert (answer.status, answer.json["reason"]) == (409, "AlreadyExists")
        assert len(api.scene.fleet.runs.remembered()) == 1
