"""The `cluster` fixture: one real cluster for the whole test run.

Import `cluster`, `cluster_nodes` and `pytest_collection_finish` into the conftest.py that needs them. Set
`EIDOS_CLUSTER=NAME` to use a cluster started by hand (`make cluster-up`), which is then left running.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, prepare
from tests.cluster.node import DEFAULT_NODES, NodeSpec
from tests.cluster.orphans import own_name, remove_orphans
from tests.cluster.paths import cache_root
from tests.cluster.requirements import ClusterUnavailableError
from tests.conftest import cannot_run_here

_RUNNING = pytest.StashKey[Cluster]()


def _prepare_or_skip() -> None:
    """Skips loudly where the cluster cannot run, and fails there in CI, where it must."""
    try:
        prepare()
    except ClusterUnavailableError as reason:
        cannot_run_here(f"the real cluster: {reason}")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what is missing before the first test starts, because a test's own time limit is much shorter."""
    if not session.config.option.collectonly and any(
        "cluster" in getattr(item, "fixturenames", ()) for item in session.items
    ):
        capture = session.config.pluginmanager.getplugin("capturemanager")
        shown = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
        # Where it is unavailable the fixture says why.
        with shown, contextlib.suppress(ClusterUnavailableError):
            prepare()


@pytest.fixture(scope="session")
def cluster_nodes() -> tuple[NodeSpec, ...]:
    """The nodes of the session's cluster; override it in the top conftest.py to change them for the whole run."""
    return DEFAULT_NODES


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, cluster_nodes: tuple[NodeSpec, ...]) -> Iterator[Cluster]:
    """A running cluster, shared by every test of the run; a test works in namespaces of its own."""
    stash = request.config.stash
    if _RUNNING in stash:
        # Two conftest files imported this fixture, which makes two of it; the first one owns the cluster.
        yield stash[_RUNNING]
        return
    name = os.environ.get("EIDOS_CLUSTER")
    if name:
        yield Cluster.attach(name)
        return
    _prepare_or_skip()
    remove_orphans()
    running = Cluster(own_name(), cluster_nodes, bound=True)
    started = False
    try:
        running.start()
        started = True
        stash[_RUNNING] = running
        yield running
    finally:
        if request.session.testsfailed or not started:
            _keep_logs(running)
        running.stop()


def _keep_logs(cluster: Cluster) -> None:
    """After a failure the daemons' logs stay in the cache, those of the last failed run only."""
    kept = cache_root() / "logs-of-last-failure"
    shutil.rmtree(kept, ignore_errors=True)
    for log in cluster.state.glob("*/*.log"):
        target = kept / log.relative_to(cluster.state)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, target)
