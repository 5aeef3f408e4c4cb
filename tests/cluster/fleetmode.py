"""What the tests of a fleet in the cluster share: the command as a user runs it, and what is in the cluster."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.furnish import put_nvml
from tests.cluster.images import CHECKOUT

NAMESPACE: Final = "eidos"
# What comes and goes by itself while a cluster lives.
_PASSING: Final = ("events", "events.events.k8s.io", "leases.coordination.k8s.io", "endpointslices.discovery.k8s.io",
                  "componentstatuses")  # fmt: skip


@pytest.fixture(scope="module")
def fleet(
    cluster: Cluster, agent_image: str, aggregator_image: str, tmp_path_factory: pytest.TempPathFactory
) -> "Fleet":
    put_nvml(cluster)
    return Fleet(cluster, agent_image, aggregator_image, tmp_path_factory.mktemp("fleet"))


@pytest.fixture(scope="module")
def before(fleet: "Fleet") -> dict[str, Any]:
    """Everything in the cluster as a module finds it; each of its tests leaves it so."""
    for item in fleet.get("namespaces,pods", "--all-namespaces")["items"]:  # an earlier module's, on its way out
        metadata, kind = item["metadata"], item["kind"].lower()
        if "deletionTimestamp" in metadata:
            there = ("-n", metadata["namespace"]) if "namespace" in metadata else ()
            fleet.kubectl("wait", "--for=delete", f"{kind}/{metadata['name']}", *there, "--timeout=100s")
    return fleet.everything()


@pytest.fixture(scope="module")
def installed(fleet: "Fleet") -> Iterator["Fleet"]:
    """The fleet is in the cluster, for all tests of a module."""
    done = fleet.eidos("install", *fleet.images)
    assert done.returncode == 0, done.stderr
    yield fleet
    done = fleet.eidos("uninstall", "--yes")
    assert done.returncode == 0, done.stderr


class Fleet:
    """A cluster that `eidos fleet` is used on."""

    def __init__(self, cluster: Cluster, agent_image: str, aggregator_image: str, folder: Path) -> None:
        self.cluster = cluster
        self.images = ("--agent-image", agent_image, "--aggregator-image", aggregator_image)
        self.folder = folder

    # ---- kubectl

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(*arguments, stdin=stdin)

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))

    def everything(self) -> dict[str, Any]:
        """Every object of every type but what passes, with what nobody but its author sets of it."""
        listed = self.kubectl("api-resources", "--verbs=list", "-o", "name").split()
        kinds = ",".join(kind for kind in listed if kind not in _PASSING)
        found = self.get(kinds, "--all-namespaces")["items"]
        return {_name(item): _content(item) for item in found}

    def check_nothing_stays(self, before: dict[str, Any], within: float = 60) -> None:
        """Everything is as it was, or soon is: the cluster takes a moment to undo what followed from an object."""
        until = time.monotonic() + within
        while (now := self.everything()) != before and time.monotonic() < until:
            continue  # each look takes a while
        assert now == before

    # ---- eidos

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cli", "fleet", *arguments]

    def environment(self, kubeconfig: Path | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EIDOS_", "KUBE"))}
        return {**kept, "KUBECONFIG": str(kubeconfig or self.cluster.kubeconfig), "PYTHONPATH": str(CHECKOUT)}

    def eidos(self, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """`eidos fleet …` to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(kubeconfig),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=200,  # uninstalling gives up after 120, and says itself what it has waited for
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, not waited for."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _name(item: dict[str, Any]) -> str:
    metadata = item["metadata"]
    return f"{item['apiVersion']} {item['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def _content(item: dict[str, Any]) -> dict[str, Any]:
    """Labels, annotations, spec and data: what a leftover of ours would show in."""
    metadata = {key: item["metadata"].get(key, {}) for key in ("labels", "annotations")}
    rest = {key: value for key, value in item.items() if key not in ("metadata", "status", "apiVersion", "kind")}
    return {**metadata, **rest}
