"""Collection in the resident agent: one at a time, shared, and never the same hung collector twice."""

import asyncio
import threading
import time
from collections.abc import Callable

from agent.collecting import Collecting
from agent.collectors.base import Collector, Context, Options
from agent.collectors.registry import collectors
from agent.host import Host
from common.model import Collected, FailureCode, MeasurementType, Ok, State


class Fake:
    """A collector that does as told and counts."""

    def __init__(self, name: str, kind: MeasurementType, act: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.type = kind
        self.calls = 0
        self._act = act

    def collect(self, ctx: Context) -> Collected:
        self.calls += 1
        self._act()
        return Collected.of({self.name: Ok({"calls": self.calls})})


def collecting(*chosen: Collector) -> Collecting:
    return Collecting(chosen, Host("/nonexistent"), "n1", Options())


async def test_cluster_wide_facts_are_not_an_agents_business() -> None:
    here = Collecting(collectors(), Host("/nonexistent"), "n1", Options())
    assert MeasurementType.K8S not in here.kinds
    assert MeasurementType.NODE_TOPOLOGY not in here.kinds
    assert MeasurementType.OS in here.kinds


async def test_only_the_types_asked_for_are_collected() -> None:
    cpu, gpu = Fake("cpu", MeasurementType.OS), Fake("gpu", MeasurementType.GPU)
    here = collecting(cpu, gpu)
    collection = await here.collect([MeasurementType.GPU], 5.0)
    assert (cpu.calls, gpu.calls) == (0, 1)
    assert collection.kinds == {MeasurementType.GPU}
    assert [entry.collector for entry in collection.snapshot.collection] == ["gpu"]


async def test_requests_during_a_collection_share_the_next_one() -> None:
    started, release = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        release.wait(10)

    cpu, gpu = Fake("cpu", MeasurementType.OS, hold), Fake("gpu", MeasurementType.GPU)
    here = collecting(cpu, gpu)
    first = asyncio.create_task(here.collect([MeasurementType.OS], 10.0))
    await asyncio.to_thread(started.wait, 10)
    later = [
        asyncio.create_task(here.collect(kinds, 10.0)) for kinds in ([MeasurementType.OS], [MeasurementType.GPU])
    ]
    await asyncio.sleep(0)
    release.set()
    one = await first
    two, three = await asyncio.gather(*later)
    assert two is three
    assert one is not two
    assert two.kinds == {MeasurementType.OS, MeasurementType.GPU}
    assert (cpu.calls, gpu.calls) == (2, 1), "what is asked during a collection is read after the question"


async def test_a_hung_collector_is_left_alone_until_it_comes_back() -> None:
    release = threading.Event()
    hung, fine = Fake("hung", MeasurementType.GPU, lambda: bool(release.wait(30))), Fake("fine", MeasurementType.OS)  # type: ignore[arg-type]  # a wait gives a bool nobody reads
    here = collecting(hung, fine)
    reasons = []
    for _ in range(4):
        began = time.monotonic()
        collection = await here.collect([], 0.2)
        assert time.monotonic() - began < 25  # the collector waits for 30
        entries = {entry.collector: entry for entry in collection.snapshot.collection}
        assert entries["fine"].state is State.OK
        assert entries["hung"].code is FailureCode.TIMEOUT
        reasons.append(entries["hung"].reason)
    assert hung.calls == 1
    assert [thread.name for thread in threading.enumerate()].count("collect-hung") == 1
    assert reasons == ["no answer within 0.2 s", *["an earlier collection has not ended"] * 3]
    release.set()
    for _ in range(500):
        again = await here.collect([MeasurementType.GPU], 5.0)
        if again.snapshot.collection[0].state is State.OK:
            break
    assert again.snapshot.collection[0].state is State.OK
    assert (hung.calls, fine.calls) == (2, 4)


async def test_a_caller_that_gives_up_does_not_end_the_collection_for_others() -> None:
    release = threading.Event()
    slow = Fake("slow", MeasurementType.OS, lambda: bool(release.wait(30)))  # type: ignore[arg-type]  # as above
    here = collecting(slow)
    impatient = asyncio.create_task(here.collect([], 20.0))
    patient = asyncio.create_task(here.collect([], 20.0))
    await asyncio.sleep(0.05)
    impatient.cancel()
    release.set()
    assert (await patient).snapshot.collection[0].state is State.OK
    assert slow.calls == 1
