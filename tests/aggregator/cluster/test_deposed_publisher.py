"""A publisher whose elector does not lead leaves ConfigMap eidos-fleet alone, whatever it is told to do."""

import pytest

from aggregator.cluster.publishing import LEADER
from aggregator.publish import FLEET
from common.errors import FleetError
from tests.aggregator.cluster.conftest import kube_of
from tests.aggregator.cluster.test_publishing import depose, leading, small
from tests.fakes.apiserver import FakeApiServer
from tests.fakes.objects import Json


def _index(api: FakeApiServer) -> Json:
    return next(each for each in api.store.all("configmaps") if each["metadata"]["name"] == FLEET)


def _mark(api: FakeApiServer) -> str:
    mark: str = _index(api)["metadata"]["annotations"][LEADER]
    return mark


async def test_who_was_deposed_does_not_take_over(api: FakeApiServer) -> None:
    """Its mark would make the successor's next write fail."""
    async with kube_of(api) as kube, leading(kube) as publisher:
        await publisher.publish(small("run-1"))
        await publisher.take_over()
        before = _mark(api)
        depose(api)
        with pytest.raises(FleetError, match="no longer leads"):
            await publisher.take_over()
        assert _mark(api) == before


async def test_each_taking_over_changes_the_version(api: FakeApiServer) -> None:
    """By the same leader too: what was decided before its gap must fail."""
    async with kube_of(api) as kube, leading(kube) as publisher:
        await publisher.publish(small("run-1"))
        seen = set()
        for _ in range(3):
            await publisher.take_over()
            seen.add((_mark(api), _index(api)["metadata"]["resourceVersion"]))
        assert len(seen) == len({mark for mark, _ in seen}) == 3
        assert all(mark.startswith("a since ") for mark, _ in seen)


async def test_who_leads_no_longer_mends_nothing(api: FakeApiServer) -> None:
    """What it would take for its own, disfigured, is its successor's."""
    resource = next(each for each in api.resources if each.plural == "configmaps")
    async with kube_of(api) as kube:
        async with leading(kube) as publisher:
            await publisher.publish(small("run-1"))
        api.store.merge(resource, ("eidos", FLEET), {"metadata": {"labels": None}})
        before = _index(api)
        api.calls.clear()
        await publisher.mend()
        assert _index(api) == before
        assert api.calls == []
