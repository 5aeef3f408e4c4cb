"""The command renders manifests/fleet as `kubectl kustomize` does, and ships all of it."""

import tomllib
from itertools import combinations
from pathlib import Path

import msgspec
import pytest
import yaml

from common.errors import UsageError
from installer.objects import PLURALS, as_yaml, build, every_item
from installer.rendering import overlays, render
from installer.settings import Settings
from tests.installer.kubectl import FLEET, by_name, fleet_from, kustomize

_PAIRS = [pair for pair in combinations(overlays(), 2) if set(pair) != {"restricted", "talos"}]


def test_the_base_is_what_kustomize_makes_of_it() -> None:
    assert by_name(render()) == by_name(kustomize(FLEET / "base"))


@pytest.mark.parametrize("name", overlays())
def test_an_overlay_is_what_kustomize_makes_of_it(name: str) -> None:
    rendered = by_name(render([name]))
    assert rendered == by_name(kustomize(FLEET / "overlays" / name))
    assert rendered != by_name(render())


@pytest.mark.parametrize("pair", _PAIRS, ids="+".join)
def test_overlays_combine(pair: tuple[str, str], tmp_path: Path) -> None:
    back = fleet_from(tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [str(back / "base")],
                "components": [str(back / "components" / name) for name in pair],
            }
        )
    )
    assert by_name(render(pair)) == by_name(kustomize(tmp_path))
    assert by_name(render(reversed(pair))) == by_name(render(pair))


def test_every_overlay_can_be_applied_by_itself() -> None:
    assert overlays() == sorted(path.name for path in (FLEET / "overlays").iterdir())


def test_overlays_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="there is no overlay 'gpus'"):
        build(Settings(overlays=("gpus",)))
    with pytest.raises(UsageError, match="exclude each other"):
        build(Settings(overlays=("talos", "restricted")))


def test_every_call_renders_anew() -> None:
    first = render()
    first[0]["metadata"]["name"] = "changed"
    assert render()[0]["metadata"]["name"] == "eidos"


def test_settings_are_in_the_objects() -> None:
    chosen = Settings(
        namespace="watch",
        agent_image="reg.example/a:1",
        aggregator_image="reg.example/b:2",
        image_pull_policy="Always",
        image_pull_secrets=("key",),
        node_selector={"pool": "gpu"},
        overlays=("cert-manager", "gpu-nodes", "service-monitor"),
    )
    items = {(item.kind, item.name): item for item in build(chosen)}
    assert items["Namespace", "watch"]
    assert {item.namespace for item in items.values()} == {"", "watch", "kube-system"}
    agent = items["DaemonSet", "eidos-agent"].manifest["spec"]["template"]["spec"]
    aggregator = items["Deployment", "eidos-aggregator"].manifest["spec"]["template"]["spec"]
    assert agent["containers"][0]["image"] == "reg.example/a:1"
    assert aggregator["containers"][0]["image"] == "reg.example/b:2"
    for pod in (agent, aggregator):
        assert pod["containers"][0]["imagePullPolicy"] == "Always"
        assert pod["imagePullSecrets"] == [{"name": "key"}]
    assert agent["nodeSelector"] == {"nvidia.com/gpu.present": "true", "pool": "gpu"}
    assert "nodeSelector" not in aggregator
    expected = {"name": "EIDOS_NODE_SELECTOR", "value": "nvidia.com/gpu.present=true,pool=gpu"}
    assert expected in aggregator["containers"][0]["env"]
    monitor = items["ServiceMonitor", "eidos"].manifest
    assert monitor["spec"]["endpoints"][0]["tlsConfig"]["serverName"] == "eidos-api.watch.svc"
    certificate = items["Certificate", "eidos-aggregator"].manifest
    assert certificate["spec"]["dnsNames"] == ["eidos-link.watch.svc", "eidos-api.watch.svc"]
    for item in items.values():
        for subject in item.manifest.get("subjects", ()):
            assert subject.get("namespace") in ("watch", None)
        if item.kind == "APIService":
            assert item.manifest["spec"]["service"]["namespace"] == "watch"
    text = as_yaml(build(chosen))
    assert len(list(yaml.safe_load_all(text))) == len(items)
    assert "namespace: eidos\n" not in text


def test_settings_are_remembered_alike_however_they_came_about() -> None:
    chosen = Settings(namespace="".join(["ei", "dos"]), overlays=("ha",), node_selector={"a": "b"})
    assert chosen.remembered() == '{"overlays":["ha"],"nodeSelector":{"a":"b"}}'
    assert msgspec.json.decode(chosen.remembered(), type=Settings) == chosen


def test_what_is_removed_is_all_that_any_overlay_makes() -> None:
    removed = {item.path for item in every_item("eidos")}
    for name in overlays():
        assert {item.path for item in build(Settings(overlays=(name,)))} <= removed
    assert {item.kind for item in every_item("eidos")} == set(PLURALS)


def test_all_of_it_is_shipped() -> None:
    project = tomllib.loads((FLEET.parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["manifests"]
    shipped = {path for pattern in patterns for path in FLEET.parent.glob(pattern)}
    assert {path for path in FLEET.rglob("*") if path.is_file()} == shipped
