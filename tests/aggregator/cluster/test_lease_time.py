"""From when, and as whom, a holder leads: a slow API server gives nobody more time than the others count."""

import asyncio

import pytest

from aggregator.cluster.lease import Elector, Standing, Timing
from common.errors import FleetError
from tests.aggregator.cluster.conftest import kube_of
from tests.aggregator.cluster.test_lease import Clock, candidate, lease
from tests.fakes.apiserver import Asked, FakeApiServer, Fault
from tests.fleet.scene import until

ONCE = Timing(duration=300.0, renew_within=200.0, every=1000.0, attempt=10.0)


async def test_leading_counts_from_before_the_request_not_from_its_answer(api: FakeApiServer) -> None:
    """Others count from when the API server wrote it, which may be long before the answer comes."""
    clock = Clock()

    def slow(asked: Asked) -> None:
        if asked.verb in ("create", "update"):
            clock.time += 150

    api.before = slow
    async with kube_of(api) as kube:
        elector = Elector(kube, "eidos", "eidos-aggregator", "a", ONCE, now=clock)
        running = asyncio.create_task(elector.run())
        await until(lambda: elector.standing is Standing.LEADING)
        leads = []
        for seconds in (49, 1):
            clock.time += seconds
            leads.append(elector.leads)
        assert leads == [True, False], "until 200 seconds after it asked"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_one_of_the_same_name_that_took_the_lease_meanwhile_has_led_since(api: FakeApiServer) -> None:
    """A container that was started anew beside the one that hangs: the Lease says our name, and is not ours."""
    async with candidate(api, "a") as a:
        await until(lambda: a.standing is Standing.LEADING)
        api.faults.append(Fault("drop", "leases", times=1_000_000))
        await until(lambda: a.standing is Standing.UNSURE)
        (found,) = api.store.all("leases")
        found["spec"]["acquireTime"] = "2030-01-01T00:00:00.000000Z"
        assert lease(api)["holderIdentity"] == "a"
        api.faults.clear()
        with pytest.raises(FleetError, match="another replica leads now"):
            await asyncio.wait_for(a.running, 60)
        assert a.standing is Standing.LOST
