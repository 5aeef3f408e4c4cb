"""The cluster's own tests, and those of Job mode, use its fixture."""

import pytest

from tests.cluster import fixture
from tests.cluster.agentimage import agent_archive
from tests.cluster.fixture import cluster, cluster_nodes
from tests.cluster.jobmode import agent_image, contexts, jobs, namespace
from tests.cluster.requirements import ClusterUnavailableError
from tests.cluster.slow import slow_image

__all__ = ["agent_image", "cluster", "cluster_nodes", "contexts", "jobs", "namespace", "slow_image"]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what is missing before the first test starts, the agent's image included."""
    fixture.pytest_collection_finish(session)
    needed = any("agent_image" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and not session.config.option.collectonly:
        try:
            agent_archive()
        except ClusterUnavailableError:
            return  # the fixture `cluster` says why
