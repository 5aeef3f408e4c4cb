"""What `eidos fleet install` says when it cannot, and that nothing stays of it but what it says."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.fleetmode import NAMESPACE, Fleet

pytestmark = pytest.mark.cluster

NOWHERE = "127.0.0.1:1/eidos:none"


@pytest.fixture
def untouched(fleet: Fleet, before: dict[str, Any]) -> Iterator[Fleet]:
    """After the test the cluster is as it was."""
    yield fleet
    fleet.check_nothing_stays(before)


@pytest.fixture
def tidied(untouched: Fleet) -> Iterator[Fleet]:
    """After the test and an uninstall it is."""
    yield untouched
    removed = untouched.eidos("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr


@contextmanager
def _namespace(fleet: Fleet, *labels: str) -> Iterator[None]:
    fleet.kubectl("create", "namespace", NAMESPACE)
    try:
        if labels:
            fleet.kubectl("label", "namespace", NAMESPACE, *labels)
        yield
    finally:
        fleet.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")


def test_an_aggregators_image_that_cannot_be_pulled(tidied: Fleet) -> None:
    done = tidied.eidos("install", *tidied.images, "--aggregator-image", NOWHERE)
    assert done.returncode == 4, done.stderr
    error = done.stderr.splitlines()[-1]
    assert f"the aggregator does not come up: the image {NOWHERE} cannot be pulled" in error
    assert "Check the image" in error
    assert "eidos fleet uninstall" in error
    # No agent is there before an aggregator is.
    assert tidied.get("daemonsets", "-n", NAMESPACE)["items"] == []


def test_an_agents_image_that_cannot_be_pulled(tidied: Fleet) -> None:
    done = tidied.eidos("install", *tidied.images, "--agent-image", NOWHERE)
    assert done.returncode == 4, done.stderr
    error = done.stderr.splitlines()[-1]
    assert f"none of 2 agents comes up: the image {NOWHERE} cannot be pulled" in error
    # And again with the right one: it goes on from there.
    done = tidied.eidos("install", *tidied.images)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 agents ready" in done.stdout


def test_an_aggregator_that_keeps_ending(tidied: Fleet) -> None:
    agent = tidied.images[1]  # has no aggregator's dependencies in it
    done = tidied.eidos("install", *tidied.images, "--aggregator-image", agent)
    assert done.returncode == 4, done.stderr
    assert "the aggregator does not come up: the container keeps ending with status 1: " in done.stderr
    assert "ModuleNotFoundError" in done.stderr.splitlines()[-1]


def test_agents_that_no_node_is_for(tidied: Fleet) -> None:
    done = tidied.eidos("install", *tidied.images, "--node-selector", "pool=nowhere")
    assert done.returncode == 0, done.stderr
    assert "0 of 0 agents ready" in done.stdout


def test_a_quota_that_admits_no_pod(untouched: Fleet) -> None:
    with _namespace(untouched):
        untouched.kubectl("create", "quota", "none", "--hard=pods=0", "-n", NAMESPACE)
        # One that the cluster has not counted for yet refuses nothing.
        untouched.kubectl("wait", "quota/none", "-n", NAMESPACE, "--for=jsonpath={.status.hard}", "--timeout=60s")
        done = untouched.eidos("install", *untouched.images)
        assert done.returncode == 4, done.stderr
        assert "the aggregator does not come up: its pod cannot be created: " in done.stderr
        assert "exceeded quota: none" in done.stderr
        removed = untouched.eidos("uninstall", "--yes")
        assert removed.returncode == 0, removed.stderr
        # It was somebody else's before, and is again, without our labels.
        labels = untouched.get("namespace", NAMESPACE)["metadata"]["labels"]
        assert labels == {"kubernetes.io/metadata.name": NAMESPACE}
        assert len(untouched.get("quota", "-n", NAMESPACE)["items"]) == 1


def test_a_namespace_with_a_policy_of_its_own(untouched: Fleet) -> None:
    with _namespace(untouched, "pod-security.kubernetes.io/enforce=baseline"):
        done = untouched.eidos("install", *untouched.images)
        assert done.returncode == 4, done.stderr
        assert "admits only pods of Pod Security level baseline, and agents need privileged" in done.stderr


def test_a_user_without_rights(untouched: Fleet) -> None:
    done = untouched.eidos("install", *untouched.images, kubeconfig=untouched.cluster.token_kubeconfig("nobody"))
    assert done.returncode == 4, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("Error: you may not ")
    clauses = error.split("; nor ")
    assert [c for c in clauses if re.search(r"\bcreate .*\bclusterroles\.rbac\.authorization\.k8s\.io\b", c)], error
    assert [c for c in clauses if re.search(rf"\bcreate .*\bdaemonsets\.apps\b.* in namespace {NAMESPACE}", c)], error
    assert len(error) < 1500
    assert "Nothing was changed" in error


def test_a_role_of_somebody_else_is_left_alone(untouched: Fleet) -> None:
    untouched.kubectl("create", "clusterrole", "eidos-aggregator", "--verb=get", "--resource=nodes")
    try:
        done = untouched.eidos("install", *untouched.images)
        assert done.returncode == 4, done.stderr
        assert "ClusterRole eidos-aggregator is there and is not part of an installation of Eidos" in done.stderr
        removed = untouched.eidos("uninstall", "--yes")
        assert removed.returncode == 0, removed.stderr
        assert removed.stdout == f"There is no installation in namespace {NAMESPACE}.\n"
    finally:
        untouched.kubectl("delete", "clusterrole", "eidos-aggregator")


def test_a_type_that_the_cluster_does_not_know(untouched: Fleet) -> None:
    done = untouched.eidos("install", *untouched.images, "--overlay", "service-monitor")
    assert done.returncode == 4, done.stderr
    assert "the cluster does not know ServiceMonitor (monitoring.coreos.com/v1)" in done.stderr


def test_out_of_time_says_what_was_waited_for(tidied: Fleet) -> None:
    done = tidied.eidos("install", *tidied.images, "--timeout", "3s")
    assert done.returncode == 5, done.stderr
    assert re.search(r"out of time|before the deadline", done.stderr.splitlines()[-1]), done.stderr
