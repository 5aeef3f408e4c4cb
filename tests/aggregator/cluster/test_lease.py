"""Leader election: at most one leads, somebody leads soon, and nobody's clock matters but the own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aggregator.cluster.lease import Elector, Standing, Timing
from common.errors import FleetError
from common.kube.client import Kube
from tests.aggregator.cluster.conftest import kube_of
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.fakes.objects import Json
from tests.fleet.scene import until

QUICK = Timing(duration=1.0, renew_within=0.6, every=0.05, attempt=0.5)
STEADY = Timing(duration=300.0, renew_within=200.0, every=0.05, attempt=20.0)
"""Looks often, and nothing runs out however slow the machine is."""


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Candidate:
    """An elector that runs."""

    def __init__(self, kube: Kube, identity: str, clock: Clock | None = None, timing: Timing = QUICK) -> None:
        more = {} if clock is None else {"now": clock}
        self.elector = Elector(kube, "eidos", "eidos-aggregator", identity, timing, **more)
        self.running = asyncio.create_task(self.elector.run())

    @property
    def standing(self) -> Standing:
        return self.elector.standing

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@asynccontextmanager
async def candidate(
    api: FakeApiServer, identity: str, clock: Clock | None = None, timing: Timing = QUICK
) -> AsyncIterator[Candidate]:
    async with kube_of(api) as kube:
        running = Candidate(kube, identity, clock, timing)
        try:
            yield running
        finally:
            await running.stop()


def lease(api: FakeApiServer) -> Json:
    (found,) = api.store.all("leases")
    spec: Json = found["spec"]
    return spec


async def test_one_of_several_leads_and_another_when_it_falls_silent(api: FakeApiServer) -> None:
    clock = Clock()
    async with candidate(api, "a", clock, STEADY) as a:
        await until(lambda: a.standing is Standing.LEADING)
        assert a.elector.leads
        assert lease(api)["leaseTransitions"] == 0
        async with candidate(api, "b", clock, STEADY) as b:
            for _ in range(6):
                clock.time += 90
                await looked_and_renewed(api)
                assert (a.standing, b.standing) == (Standing.LEADING, Standing.WAITING)
            await a.stop()
            for _ in range(6):
                clock.time += 90
                await looked_or_leads(api, b)
            assert b.standing is Standing.LEADING
            assert (lease(api)["holderIdentity"], lease(api)["leaseTransitions"]) == ("b", 1)
            assert not a.elector.leads, "it knows by its own clock, although nobody told it"


async def looked_and_renewed(api: FakeApiServer) -> None:
    """Until one has read the Lease again and another has written it, both from beginning to end."""
    api.calls.clear()
    await until(lambda: min(len(api.asked(verb, "leases")) for verb in ("get", "update")) > 2)


async def test_who_releases_is_followed_at_once(api: FakeApiServer) -> None:
    async with candidate(api, "a", timing=STEADY) as a, candidate(api, "b", timing=STEADY) as b:
        await until(lambda: Standing.LEADING in (a.standing, b.standing))
        leader, other = (a, b) if a.standing is Standing.LEADING else (b, a)
        await leader.stop()
        await leader.elector.release()
        await until(lambda: other.standing is Standing.LEADING)  # with 300 seconds to go, had it not been released
        written = [item["spec"] for _, _, plural, item in api.store.history if plural == "leases"]
        assert ("", 1) in [(spec["holderIdentity"], spec["leaseDurationSeconds"]) for spec in written]
        assert not leader.elector.leads


async def test_many_that_start_at_once_make_one_lease_and_one_leader(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        candidates = [Candidate(kube, f"c{number}", timing=STEADY) for number in range(8)]
        await until(lambda: any(each.standing is Standing.LEADING for each in candidates))
        await until(lambda: len(api.asked("get", "leases")) > 100)
        standings = sorted(each.standing for each in candidates)
        assert standings == [Standing.LEADING] + [Standing.WAITING] * 7
        await asyncio.gather(*(each.stop() for each in candidates))


async def test_the_times_in_the_lease_do_not_matter(api: FakeApiServer) -> None:
    """The holder's clock is a year behind, or ahead: it holds as long as it writes."""
    for stamp in ("2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"):
        spec = {"holderIdentity": "other", "leaseDurationSeconds": 300, "acquireTime": stamp, "renewTime": stamp}
        api.add("leases", {"metadata": {"name": "eidos-aggregator", "namespace": "eidos"}, "spec": spec}, "eidos")
        clock = Clock()
        async with candidate(api, "a", clock, STEADY) as a:
            for _ in range(3):
                await looked(api)
                clock.time += 90
            await looked(api)
            assert a.standing is Standing.WAITING, "270 seconds after it was seen, whatever it says"
            clock.time += 60
            await until(lambda: a.standing is Standing.LEADING)
        api.remove("leases", "eidos-aggregator", "eidos")
        api.calls.clear()


async def looked(api: FakeApiServer) -> None:
    """Until the Lease was read again, and what was read was taken in."""
    api.calls.clear()
    await until(lambda: len(api.asked("get", "leases")) > 2)


async def test_who_could_not_look_does_not_depose_a_leader_that_is_well(api: FakeApiServer) -> None:
    """After an outage of the API server, the standby may be the first to reach it."""
    spec = {"holderIdentity": "other", "leaseDurationSeconds": 300, "acquireTime": "2001-01-01T00:00:00.000000Z"}
    api.add("leases", {"metadata": {"name": "eidos-aggregator", "namespace": "eidos"}, "spec": spec}, "eidos")
    clock = Clock()
    async with candidate(api, "a", clock, STEADY) as a:
        await looked(api)
        api.faults.append(Fault("drop", "leases", times=1_000_000))
        api.calls.clear()
        await until(lambda: len(api.calls) > 2)
        clock.time += 9000
        api.faults.clear()
        await looked(api)
        assert not a.elector.leads
        for _ in range(3):
            clock.time += 120
            await looked_or_leads(api, a)
        assert a.elector.leads


async def looked_or_leads(api: FakeApiServer, a: Candidate) -> None:
    api.calls.clear()
    await until(lambda: len(api.calls) > 2 or a.standing is Standing.LEADING)


async def test_a_leader_out_of_touch_is_unsure_in_time_and_leads_again_when_it_may(api: FakeApiServer) -> None:
    async with candidate(api, "a") as a:
        await until(lambda: a.standing is Standing.LEADING)
        acquired = lease(api)["acquireTime"]
        api.faults.append(Fault("drop", "leases", times=1_000_000))
        await until(lambda: a.standing is Standing.UNSURE)
        assert not a.elector.leads
        api.faults[0].match = "PUT"
        with pytest.raises(FleetError):
            await a.elector.confirm()
        api.faults.clear()
        await until(lambda: a.standing is Standing.LEADING)
        assert lease(api)["acquireTime"] == acquired


async def test_a_leader_that_comes_back_to_anothers_lease_has_lost(api: FakeApiServer) -> None:
    async with candidate(api, "a") as a:
        await until(lambda: a.standing is Standing.LEADING)
        api.faults.append(Fault("drop", "leases", times=1_000_000))
        await until(lambda: a.standing is Standing.UNSURE)
        leases = next(each for each in api.resources if each.plural == "leases")
        spec = {"holderIdentity": "b", "leaseDurationSeconds": 1, "leaseTransitions": 1}
        api.store.replace(leases, ("eidos", "eidos-aggregator"), {"spec": spec})
        api.faults.clear()
        with pytest.raises(FleetError, match="another replica leads now"):
            await asyncio.wait_for(a.running, 60)
        assert a.standing is Standing.LOST


async def test_a_lease_that_others_held_and_released_meanwhile_is_lost_too(api: FakeApiServer) -> None:
    async with candidate(api, "a") as a:
        await until(lambda: a.standing is Standing.LEADING)
        api.faults.append(Fault("drop", "leases", times=1_000_000))
        await until(lambda: a.standing is Standing.UNSURE)
        (found,) = api.store.all("leases")
        found["spec"] |= {"holderIdentity": "", "acquireTime": "2030-01-01T00:00:00.000000Z"}
        api.faults.clear()
        with pytest.raises(FleetError):
            await asyncio.wait_for(a.running, 60)


async def test_a_deleted_lease_is_made_again(api: FakeApiServer) -> None:
    async with candidate(api, "a") as a:
        await until(lambda: a.standing is Standing.LEADING)
        api.remove("leases", "eidos-aggregator", "eidos")
        await until(lambda: list(api.store.all("leases")))
        assert a.standing is Standing.LEADING
        assert lease(api)["holderIdentity"] == "a"


async def test_who_was_asleep_does_not_lead_from_the_moment_it_wakes(api: FakeApiServer) -> None:
    clock = Clock()
    async with candidate(api, "a", clock) as a:
        await until(lambda: a.standing is Standing.LEADING)
        clock.time += QUICK.renew_within
        assert a.standing is Standing.LEADING, "nothing has run yet"
        assert not a.elector.leads
        with pytest.raises(FleetError, match="no longer leads"):
            await a.elector.confirm()


async def test_standings_are_told_as_they_come(api: FakeApiServer) -> None:
    async with candidate(api, "a") as a:
        standings = a.elector.standings()
        told = [await anext(standings), await anext(standings)]
        api.faults.append(Fault("drop", "leases", times=1_000_000))
        told.append(await anext(standings))
        assert told == [Standing.WAITING, Standing.LEADING, Standing.UNSURE]
        await standings.aclose()
