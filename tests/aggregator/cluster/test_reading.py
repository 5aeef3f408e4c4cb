"""What the aggregator asks the API server for, how often, and what becomes of its refusals."""

from typing import Any

import pytest

from aggregator.cluster import reading
from aggregator.cluster.reading import ClusterReader
from common.kube import client
from common.model import Absent, Collected, Failed, FailureCode, Ok
from tests.aggregator.cluster.conftest import kube_of
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.fakes.objects import Resource

POLICIES = Resource("clusterpolicies", "ClusterPolicy", "nvidia.com/v1", namespaced=False)
LATE = Failed(FailureCode.TIMEOUT, "the API server did not answer within the deadline")


def pod(number: int) -> dict[str, Any]:
    return {
        "metadata": {"name": f"p{number}"},
        "spec": {"containers": [{"name": "c", "image": f"x/app:{number % 2}"}]},
    }


async def read(api: FakeApiServer, seconds: float = 10.0) -> Collected:
    async with kube_of(api) as kube:
        return await ClusterReader(kube)(seconds)


async def test_everything_in_a_few_requests(api: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 5)
    api.resources += [POLICIES]
    api.add("clusterpolicies", {"metadata": {"name": "p"}, "spec": {"driver": {"version": "570"}}})
    for number in range(12):
        api.add("pods", pod(number), "default")
    collected = await read(api)
    assert collected.subtypes == {
        "server": Ok({"version": "v1.36.3", "platform": "linux/amd64", "goVersion": "go1.26.0"}),
        "image": Ok({"app": "0,1"}),
        "image-reference": Ok({"x/app": "0,1"}),
        "policy": Ok({"driver.version": "570"}),
    }
    assert len(api.asked("list", "pods")) == 1 + 3
    assert not api.asked("get", "pods")
    assert not api.asked("list", "nodes")


async def test_what_is_forbidden_costs_nothing_else(api: FakeApiServer) -> None:
    api.forbidden = {("list", "pods")}
    collected = await read(api)
    assert isinstance(collected.subtypes["server"], Ok)
    assert isinstance(collected.subtypes["policy"], Absent)
    assert collected.subtypes["image"] == Failed(
        FailureCode.API_FORBIDDEN, 'list pods is forbidden: User "tester" cannot list resource "pods"'
    )


async def test_too_many_pods_are_only_counted(api: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_PODS", 3)
    for number in range(4):
        api.add("pods", pod(number), "default")
    collected = await read(api)
    reason = "the cluster has more than 3 pods, too many to be read for every snapshot"
    assert collected.subtypes["image"] == Failed(FailureCode.TOO_LARGE, reason)
    assert len(api.asked("list", "pods")) == 1
    api.remove("pods", "p3", "default")
    assert (await read(api)).subtypes["image"] == Ok({"app": "0,1"})


async def test_an_api_server_that_is_away_is_one_reason(api: FakeApiServer) -> None:
    api.faults = [Fault("drop", times=100)]
    ending = (await read(api)).ending
    assert isinstance(ending, Failed)
    assert ending.code is FailureCode.API_UNREACHABLE


async def test_what_comes_too_late_is_not_waited_for(api: FakeApiServer) -> None:
    api.faults = [Fault("hang", "/api/v1/pods")]
    collected = await read(api, seconds=2.0)
    assert isinstance(collected.subtypes["server"], Ok)
    assert collected.subtypes["image"] == LATE
    api.faults = [Fault("hang", times=100)]
    assert (await read(api, seconds=0.5)).ending == LATE
