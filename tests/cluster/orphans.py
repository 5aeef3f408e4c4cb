"""Clusters of test runs that ended without stopping theirs: the processes died with the run, the rest goes here."""

import os

from tests.cluster.cluster import Cluster
from tests.cluster.paths import cache_root
from tests.cluster.processes import start_time
from tests.cluster.progress import build_lock


def own_name() -> str:
    """This test run's cluster. The start time makes it unique even when the kernel gives the pid again."""
    pid = os.getpid()
    return f"pytest-{pid}-{start_time(pid)}"


def remove_orphans() -> None:
    with build_lock("orphans"):  # the workers of a test run begin together, and find the same
        for state in cache_root().glob("run-pytest-*-*"):
            _, _, pid, started = state.name.split("-")
            if start_time(int(pid)) != int(started):
                Cluster(state.name.removeprefix("run-"), ()).stop()
