"""K8s: server, node, images and policies, each with its own success and failure."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.kubernetes import KubernetesCollector
from common.kube.facts import provider_of
from common.kube.images import Image, parse_image, parse_images
from common.kube.policies import Policy, flatten, parse_policies
from common.model import Absent, Collected, FailureCode, Ok, State
from tests.agent.cluster_context import access, context_for, data_of, failure_of
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.fakes.objects import Resource

GPU_POLICIES = Resource("clusterpolicies", "ClusterPolicy", "nvidia.com/v1", namespaced=False)
KYVERNO_POLICIES = Resource("clusterpolicies", "ClusterPolicy", "kyverno.io/v1", namespaced=False)

NODE = {
    "metadata": {"name": "gpu-1"},
    "spec": {"providerID": "aws:///us-east-1e/i-0861d1808b85e90ca"},
    "status": {
        "nodeInfo": {
            "containerRuntimeVersion": "containerd://1.7.24",
            "kubeletVersion": "v1.30.8",
            "kernelVersion": "6.8.0-1024-aws",
            "operatingSystem": "linux",
            "osImage": "Ubuntu 22.04.5 LTS",
            "machineID": "not read",
        }
    },
}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with FakeApiServer() as server:
        yield server


def _collect(api: FakeApiServer, folder: Path) -> Collected:
    return KubernetesCollector(access()).collect(context_for(api, folder))


def _pod(name: str, *images: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": image} for image in images], **more},
    }


def test_server_and_node(api: FakeApiServer, tmp_path: Path) -> None:
    api.add("nodes", NODE)
    collected = _collect(api, tmp_path)
    assert collected.state is State.OK
    assert data_of(collected, "server") == {
        "version": "v1.36.3",
        "platform": "linux/amd64",
        "goVersion": "go1.26.0",
    }
    assert data_of(collected, "node") == {
        "source-node": "gpu-1",
        "provider": "eks",
        "provider-id": "aws:///us-east-1e/i-0861d1808b85e90ca",
        "container-runtime-id": "containerd://1.7.24",
        "container-runtime-name": "containerd",
        "container-runtime-version": "1.7.24",
        "kubelet-version": "v1.30.8",
        "kernel-version": "6.8.0-1024-aws",
        "operating-system": "linux",
        "os-image": "Ubuntu 22.04.5 LTS",
    }


def test_a_machine_that_is_no_node_of_the_cluster(api: FakeApiServer, tmp_path: Path) -> None:
    assert _collect(api, tmp_path).subtypes["node"] == Absent("the cluster has no node gpu-1")


def test_a_node_of_which_little_is_known(api: FakeApiServer, tmp_path: Path) -> None:
    api.add("nodes", {"metadata": {"name": "gpu-1"}, "spec": {}, "status": {}})
    assert data_of(_collect(api, tmp_path), "node") == {"source-node": "gpu-1"}


@pytest.mark.parametrize(
    ("provider_id", "provider"),
    [("aws:///z/i", "eks"), ("gce://p/z/i", "gke"), ("azure:///s", "aks"), ("oci://o", "oke"), ("k3s://n", "k3s"),
     ("", ""), ("ocid1.instance", "")],
)  # fmt: skip
def test_providers(provider_id: str, provider: str) -> None:
    assert provider_of(provider_id) == provider


@pytest.mark.parametrize(
    ("reference", "image", "name"),
    [
        ("nginx", Image("nginx", "", ""), "nginx"),
        ("nginx:1.27", Image("nginx", "1.27", ""), "nginx"),
        ("nvcr.io/nvidia/driver:570-ubuntu22.04", Image("nvcr.io/nvidia/driver", "570-ubuntu22.04", ""), "driver"),
        ("host:5000/a/b", Image("host:5000/a/b", "", ""), "b"),
        ("host:5000/a/b:c@sha256:d", Image("host:5000/a/b", "c", "sha256:d"), "b"),
        ("a/b@sha256:d", Image("a/b", "", "sha256:d"), "b"),
        ("", Image("", "", ""), ""),
    ],
)
def test_image_references(reference: str, image: Image, name: str) -> None:
    assert parse_image(reference) == image
    assert parse_image(reference).name == name


@given(st.lists(st.text("ab:/@.", max_size=12)))
def test_any_image_references(references: list[str]) -> None:
    names, full = parse_images(references)
    assert all(names.values())
    assert all(full.values())
    assert set(names) == {parse_image(reference).name for reference in references} - {""}


def test_images_of_all_containers_of_all_pods(api: FakeApiServer, tmp_path: Path) -> None:
    api.add("pods", _pod("a", "nvcr.io/nvidia/driver:570", "nginx"), "x")
    api.add("pods", _pod("b", "nvcr.io/nvidia/driver:570", initContainers=[{"image": "quay.io/x/init:1"}]), "y")
    api.add("pods", _pod("c", "other.io/driver:550@sha256:f", ephemeralContainers=[{"image": "debug@sha256:e"}]), "y")
    collected = _collect(api, tmp_path)
    assert data_of(collected, "image") == {"driver": "550,570", "nginx": "latest", "init": "1", "debug": "latest"}
    assert data_of(collected, "image-reference") == {
        "nvcr.io/nvidia/driver": "570",
        "other.io/driver": "550@sha256:f",
        "nginx": "latest",
        "quay.io/x/init": "1",
        "debug": "sha256:e",
    }


SPEC = {
    "driver": {"enabled": True, "version": "570.133.20", "env": [], "manager": {}},
    "daemonsets": {
        "rollingUpdate": {"maxUnavailable": 1},
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "labels": {"app.kubernetes.io/managed-by": "gpu-operator"},
    },
    "ratio": 0.5,
    "nothing": None,
    "sandboxWorkloads": {"enabled": False, "defaultWorkload": ""},
}


def test_flattening() -> None:
    assert dict(flatten(SPEC)) == {
        "driver.enabled": "true",
        "driver.version": "570.133.20",
        "driver.env": "[]",
        "driver.manager": "{}",
        "daemonsets.rollingUpdate.maxUnavailable": "1",
        "daemonsets.tolerations": '[{"effect":"NoSchedule","operator":"Exists"}]',
        "daemonsets.labels.app.kubernetes.io/managed-by": "gpu-operator",
        "ratio": "0.5",
        "nothing": "null",
        "sandboxWorkloads.enabled": "false",
        "sandboxWorkloads.defaultWorkload": "",
    }


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ({"env": [{"name": "API_TOKEN", "value": "abc"}]}, {"env": '[{"name":"API_TOKEN","value":"<redacted>"}]'}),
        ({"env": [{"name": "MODE", "value": "fast"}]}, {"env": '[{"name":"MODE","value":"fast"}]'}),
        (
            {"a": {"clientSecret": "abc", "password": 12}},
            {"a.clientSecret": "<redacted>", "a.password": "<redacted>"},
        ),
        ({"tokens": ["a", "b"]}, {"tokens": '["<redacted>","<redacted>"]'}),
        ({"o": {"kind": "Secret", "data": {"x": "abc"}}}, {"o.kind": "Secret", "o.data.x": "<redacted>"}),
        ({"stringData": {"x": "abc"}}, {"stringData.x": "<redacted>"}),
        ({"o": {"kind": "ConfigMap", "data": {"x": "abc"}}}, {"o.kind": "ConfigMap", "o.data.x": "abc"}),
        ({"repo": "https://u:p@h/x"}, {"repo": "https://<redacted>@h/x"}),
        ({"args": ["--token", "abc"]}, {"args": '["--token","<redacted>"]'}),
        ({"imagePullSecrets": ["ngc"], "secretName": "s"}, {"imagePullSecrets": '["ngc"]', "secretName": "s"}),
        (
            {"secretKeyRef": {"name": "s", "key": "token"}, "useToken": True},
            {"secretKeyRef.name": "s", "secretKeyRef.key": "token", "useToken": "true"},
        ),
    ],
)
def test_policies_lose_only_their_secrets(spec: dict[str, Any], shown: dict[str, str]) -> None:
    assert parse_policies([Policy("nvidia.com", "p", spec)]) == shown


def test_policies_that_do_not_agree_are_kept_apart() -> None:
    policies = [
        Policy("nvidia.com", "cluster-policy", {"driver": {"version": "570"}, "validation": "a", "same": 1}),
        Policy("kyverno.io", "no-root", {"validation": "b", "rules": [1], "same": 1}),
        Policy("kyverno.io", "no-host", {"rules": [2]}),
    ]
    assert parse_policies(policies) == {
        "driver.version": "570",
        "same": "1",
        "validation": "a",
        "nvidia.com/cluster-policy/validation": "a",
        "kyverno.io/no-root/validation": "b",
        "kyverno.io/no-root/rules": "[1]",
        "kyverno.io/no-host/rules": "[2]",
    }


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("ab."),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(st.dictionaries(st.text("ab.", min_size=1), _values, max_size=4), max_size=3))
def test_any_specs(specs: list[dict[str, Any]]) -> None:
    data = parse_policies([Policy("g", f"p{number}", spec) for number, spec in enumerate(specs)])
    assert all(isinstance(value, str) for value in data.values())
    assert {value for spec in specs for _, value in flatten(spec)} == set(data.values())


@pytest.mark.parametrize("aggregated", [True, False])
def test_policies_of_every_group(api: FakeApiServer, tmp_path: Path, aggregated: bool) -> None:
    api.aggregated_discovery = aggregated
    api.resources += [GPU_POLICIES]
    api.add("clusterpolicies", {"metadata": {"name": "cluster-policy"}, "spec": {"driver": {"version": "570"}}})
    assert _collect(api, tmp_path).subtypes["policy"] == Ok({"driver.version": "570"}, {})


@pytest.mark.parametrize("aggregated", [True, False])
def test_no_operator_is_installed(api: FakeApiServer, tmp_path: Path, aggregated: bool) -> None:
    api.aggregated_discovery = aggregated
    outcome = _collect(api, tmp_path).subtypes["policy"]
    assert outcome == Absent("the cluster has no resource of kind ClusterPolicy")


def test_an_operator_without_a_policy_is_empty_and_not_absent(api: FakeApiServer, tmp_path: Path) -> None:
    api.resources += [GPU_POLICIES]
    assert data_of(_collect(api, tmp_path), "policy") == {}


def test_a_group_whose_server_is_down_does_not_matter(api: FakeApiServer, tmp_path: Path) -> None:
    api.aggregated_discovery = False
    api.resources += [GPU_POLICIES]
    api.faults = [Fault("status", "/apis/batch/v1", times=100, status=503)]
    assert data_of(_collect(api, tmp_path), "policy") == {}


def test_what_may_not_be_read_costs_only_itself(api: FakeApiServer, tmp_path: Path) -> None:
    api.add("nodes", NODE)
    api.resources += [GPU_POLICIES]
    api.forbidden = {("list", "pods"), ("list", "clusterpolicies")}
    collected = _collect(api, tmp_path)
    assert collected.state is State.PARTIAL
    assert data_of(collected, "node")["provider"] == "eks"
    for subtype in ("image", "image-reference"):
        failure = failure_of(collected, subtype)
        assert (failure.code, failure.reason) == (
            FailureCode.API_FORBIDDEN,
            'list pods is forbidden: User "tester" cannot list resource "pods"',
        )
    assert "list clusterpolicies.nvidia.com is forbidden" in failure_of(collected, "policy").reason


def test_policies_of_others_that_may_not_be_read_are_told(api: FakeApiServer, tmp_path: Path) -> None:
    api.resources += [GPU_POLICIES, KYVERNO_POLICIES]
    api.faults = [
        Fault("status", "kyverno.io/v1/clusterpolicies", times=100, status=403, message="x is forbidden: no")
    ]
    outcome = _collect(api, tmp_path).subtypes["policy"]
    assert isinstance(outcome, Ok)
    assert outcome.context == {"clusterpolicies.kyverno.io": "list clusterpolicies.kyverno.io is forbidden: no"}
    api.faults = [
        Fault("status", "nvidia.com/v1/clusterpolicies", times=100, status=403, message="x is forbidden: no")
    ]
    assert failure_of(_collect(api, tmp_path), "policy").code is FailureCode.API_FORBIDDEN


def test_two_snapshots_are_equal(api: FakeApiServer, tmp_path: Path) -> None:
    api.add("nodes", NODE)
    for name in ("a", "b", "c"):
        api.add("pods", _pod(name, f"nginx:{name}"), "x")
    assert _collect(api, tmp_path) == _collect(api, tmp_path)
