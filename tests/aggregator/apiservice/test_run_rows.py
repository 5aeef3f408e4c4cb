"""What kubectl prints of runs that come and go."""

from pathlib import Path

from tests.aggregator.apiservice.served import TABLE, served
from tests.aggregator.apiservice.test_runs import body, create, done


async def test_the_row_of_a_run_that_goes_is_what_it_was(tmp_path: Path) -> None:
    async with served(tmp_path) as api:
        await create(api, body(nodes="n1"))
        await done(api, "mine")
        table = await api.get("fleetsnapshots", headers={"Accept": TABLE})
        before = table["rows"][0]["cells"]
        query = {
            "watch": "true",
            "fieldSelector": "metadata.name=mine",
            "resourceVersion": table["metadata"]["resourceVersion"],
        }
        async with api.watching("fleetsnapshots", params=query, headers={"Accept": TABLE}) as events:
            for number in range(api.scene.fleet.settings.run.kept):
                await api.scene.run(nodes=f"n{number % 3 + 1}")
            while (event := await anext(events))["type"] != "DELETED":
                before = event["object"]["rows"][0]["cells"]
        after = event["object"]["rows"][0]["cells"]
        age = [column["name"] for column in table["columnDefinitions"]].index("Age")
        assert after[age].endswith("s")
        del before[age], after[age]
        assert after == before
