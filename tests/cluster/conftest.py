"""The cluster's own tests, and those of Job mode, use its fixture."""

import pytest

from tests.cluster import fixture
from tests.cluster.fixture import cluster, cluster_nodes
from tests.cluster.fleetmode import before, fleet, installed
from tests.cluster.images import agent_archive, aggregator_archive
from tests.cluster.jobmode import agent_image, aggregator_image, contexts, jobs, namespace
from tests.cluster.requirements import ClusterUnavailableError
from tests.cluster.slow import slow_image

__all__ = [
    "agent_image",
    "aggregator_image",
    "before",
    "cluster",
    "cluster_nodes",
    "contexts",
    "fleet",
    "installed",
    "jobs",
    "namespace",
    "slow_image",
]
_BUILDS = {"agent_image": agent_archive, "aggregator_image": aggregator_archive}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's time is its fixtures' too, and the first of a run starts the cluster and loads the images."""
    for item in items:
        if item.get_closest_marker("cluster") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(600))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what is missing before the first test starts, the images of ours it asks for included."""
    fixture.pytest_collection_finish(session)
    if session.config.option.collectonly:
        return
    needed = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    try:
        for name in needed & _BUILDS.keys():
            _BUILDS[name]()
    except ClusterUnavailableError:
        return  # the fixture `cluster` says why
