"""The Helm chart makes the same objects as kustomize, for every overlay."""

import subprocess
from typing import Any

import pytest
import yaml

from common.version import VERSION
from installer.rendering import Manifest, render
from installer.settings import MANAGED_BY
from tests.installer.helm import helm, template
from tests.installer.kubectl import by_name
from tools.chart import CHART, templates

pytestmark = pytest.mark.timeout(3000)  # the first run builds helm

_VALUES: dict[str, dict[str, Any]] = {
    "": {},
    "cert-manager": {"certManager": {"enabled": True}},
    "gpu-nodes": {"agent": {"nodeSelector": {"nvidia.com/gpu.present": "true"}}},
    "ha": {"aggregator": {"replicas": 2}},
    "restricted": {"agent": {"restricted": True}},
    "service-monitor": {"serviceMonitor": {"enabled": True}},
    "talos": {"agent": {"talos": True}},
}


def _without_namespace(objects: list[Manifest]) -> dict[tuple[str, str, str], Manifest]:
    """What is compared: the namespace is made by helm itself, and whose an object is differs rightly."""
    for o in objects:
        o["metadata"]["labels"].pop(MANAGED_BY, None)
    return by_name([o for o in objects if o["kind"] != "Namespace"])


@pytest.mark.parametrize("overlay", _VALUES)
def test_values_make_what_an_overlay_makes(overlay: str) -> None:
    made = template(CHART, _VALUES[overlay])
    assert {o["metadata"]["labels"][MANAGED_BY] for o in made} == {"Helm"}
    assert _without_namespace(made) == _without_namespace(render([overlay] if overlay else []))


def test_another_namespace_is_everywhere() -> None:
    values = {"serviceMonitor": {"enabled": True}, "certManager": {"enabled": True}}
    made = template(CHART, values, namespace="watch")
    text = yaml.safe_dump(made)
    assert "namespace: watch" in text
    assert "namespace: eidos\n" not in text
    assert "eidos-api.watch.svc" in text
    assert "eidos-link.watch.svc" in text
    assert "eidos.svc" not in text


def test_images_and_secrets_are_the_users() -> None:
    values = {
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "key"}],
        "agent": {"image": "reg.example/a:1", "tolerations": []},
        "aggregator": {"image": "reg.example/b:2"},
    }
    pods = {o["kind"]: o["spec"]["template"]["spec"] for o in template(CHART, values) if o["kind"] in _WORKLOADS}
    for kind, image in _WORKLOADS.items():
        assert pods[kind]["containers"][0]["image"] == image
        assert pods[kind]["containers"][0]["imagePullPolicy"] == "Always"
        assert pods[kind]["imagePullSecrets"] == [{"name": "key"}]
    assert pods["DaemonSet"]["tolerations"] == []


_WORKLOADS = {"DaemonSet": "reg.example/a:1", "Deployment": "reg.example/b:2"}


def test_helm_finds_nothing_wrong() -> None:
    done = subprocess.run(
        [str(helm()), "lint", "--strict", str(CHART)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_templates_are_those_of_the_manifests() -> None:
    """`make chart` writes them anew."""
    there = {path.name: path.read_text() for path in (CHART / "templates").glob("*.yaml")}
    assert there == templates()


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
