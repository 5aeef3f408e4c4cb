"""Without the command on a real cluster: the chart with helm, the kustomization with kubectl, and what is left."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.replicas import wait_for
from tests.installer.helm import run_helm
from tests.installer.kubectl import fleet_from
from tools.chart import CHART

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]  # the first run builds helm

HERE = ("-n", NAMESPACE)
WAITING = ("--wait", "--timeout=100s")


@pytest.fixture(scope="module")
def released(fleet: Fleet, before: dict[str, Any]) -> Iterator[Fleet]:
    """As docs/install.md says."""
    fleet.kubectl("create", "namespace", NAMESPACE)
    fleet.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=privileged")
    _, agent, _, aggregator = fleet.images
    images = (f"--set=agent.image={agent}", f"--set=aggregator.image={aggregator}")
    said = helm(fleet, "install", "eidos", str(CHART), *images, *WAITING)
    assert f"eidos fleet uninstall --namespace {NAMESPACE}" in said
    yield fleet
    fleet.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")
    fleet.check_nothing_stays(before)


def helm(fleet: Fleet, *arguments: str) -> str:
    return run_helm(fleet.folder, fleet.cluster.kubeconfig, *HERE, *arguments)


def snapshot(fleet: Fleet) -> dict[str, Any]:
    """A run over the whole fleet, once all agents are there."""
    fleet.kubectl("rollout", "status", "daemonset/eidos-agent", *HERE, "--timeout=100s")
    fleet.kubectl("wait", "apiservice/v1alpha1.fleet.eidos.nvidia.com", "--for=condition=Available", "--timeout=100s")
    done = fleet.eidos("snapshot", "--format", "json", "--deadline", "30s")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def written(fleet: Fleet) -> dict[str, Any]:
    """What is in the namespace and was not made by helm, nor by Kubernetes itself; by kind and name."""
    items = fleet.get("secrets,configmaps,leases", *HERE)["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": item
        for item in items
        if item["metadata"]["name"] != "kube-root-ca.crt" and item.get("type") != "helm.sh/release.v1"
    }


WRITTEN = {"Secret/eidos-authority", "ConfigMap/eidos-ca", "ConfigMap/eidos-fleet", "Lease/eidos-aggregator"}


def test_agents_come_up_and_answer(released: Fleet) -> None:
    document = snapshot(released)
    assert {line["state"] for line in document["ledger"]} <= {"ok", "partial"}, document["ledger"]
    assert document["summary"]["expected"] == 2
    lines = released.kubectl("get", "nodesnapshots", "--no-headers").splitlines()
    assert [line.split()[:2] for line in lines] == [["cpu-1", "ok"], ["gpu-1", "ok"]]


@pytest.mark.parametrize("command", [("install",), ("uninstall", "--yes")])
def test_the_command_leaves_a_release_to_helm(released: Fleet, command: tuple[str, ...]) -> None:
    done = released.eidos(*command)
    assert done.returncode == 4
    assert "was installed by Helm" in done.stderr
    assert "helm uninstall" in done.stderr
    assert released.get("daemonset", "eidos-agent", *HERE)["status"]["numberReady"] == 2


def test_an_upgrade_keeps_what_the_aggregator_wrote(released: Fleet) -> None:
    before = written(released)
    assert set(before) == WRITTEN
    # It waits for all but what may be unavailable, so a standby, which is never ready, does not keep it waiting.
    helm(released, "upgrade", "eidos", str(CHART), "--reuse-values", "--set=aggregator.replicas=2", *WAITING)
    ready = "jsonpath={.status.readyReplicas}=1"
    released.kubectl("wait", "deployment/eidos-aggregator", *HERE, f"--for={ready}", "--timeout=100s")
    assert released.get("deployment", "eidos-aggregator", *HERE)["spec"]["replicas"] == 2
    wait_for(lambda: "2 of 2 nodes connected" in released.eidos("status").stdout, 60)
    after = written(released)
    for name in ("Secret/eidos-authority", "ConfigMap/eidos-ca"):
        assert (after[name]["metadata"]["uid"], after[name]["data"]) == (
            before[name]["metadata"]["uid"],
            before[name]["data"],
        )


def test_what_helm_leaves_is_known_and_goes_with_one_command(released: Fleet) -> None:
    helm(released, "uninstall", "eidos", *WAITING)
    wait_for(lambda: not released.get("pods", *HERE)["items"], 60)
    assert set(written(released)) == WRITTEN
    left = released.kubectl("get", "all,serviceaccounts,roles,rolebindings,networkpolicies,pdb", *HERE, "-o", "name")
    assert left.split() == ["serviceaccount/default"]
    done = released.eidos("uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"Removed {len(WRITTEN)} objects" in done.stdout
    assert written(released) == {}


def test_kubectl_alone_does_it_too(released: Fleet, tmp_path: Path) -> None:
    """And what it applied it removes, with all that the aggregator wrote, because the namespace is part of it."""
    names = ("ghcr.io/nvidia/eidos", "ghcr.io/nvidia/eidos-aggregator")
    images = [image.rpartition(":") for image in released.images[1::2]]
    kustomization = {
        "resources": [str(fleet_from(tmp_path) / "base")],
        "images": [
            {"name": name, "newName": new, "newTag": tag} for name, (new, _, tag) in zip(names, images, strict=True)
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    released.kubectl("apply", "-k", str(tmp_path))
    assert snapshot(released)["summary"]["expected"] == 2
    released.kubectl("delete", "-k", str(tmp_path), "--timeout=100s")
    assert released.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found") == ""
