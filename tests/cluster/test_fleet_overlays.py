"""The overlays on a real cluster, one after the other: each installation is brought to what the flags say now."""

import base64
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import trustme

from installer.rendering import render
from tests.cluster.crds import CERTIFICATE, ISSUER, SERVICE_MONITOR, TRAINING, known
from tests.cluster.fleetmode import NAMESPACE, Fleet
from tests.cluster.replicas import wait_for
from tests.cluster.scrape import samples, scrape, targets

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def gone_afterwards(fleet: Fleet, before: dict[str, Any]) -> Iterator[None]:
    with known(fleet.cluster, SERVICE_MONITOR, CERTIFICATE, ISSUER, TRAINING):
        yield
        removed = fleet.eidos("uninstall", "--yes")
        assert removed.returncode == 0, removed.stderr
    fleet.check_nothing_stays(before)


def _install(fleet: Fleet, *overlays: str) -> str:
    done = fleet.eidos("install", *fleet.images, *(f"--overlay={overlay}" for overlay in overlays))
    assert done.returncode == 0, done.stderr
    return done.stdout


def _nodes(fleet: Fleet) -> dict[str, str]:
    done = fleet.eidos("nodes", "--format", "json")
    assert done.returncode == 0, done.stderr
    return {item["node"]: item.get("state", "") for item in json.loads(done.stdout)["items"]}


def test_restricted_agents_are_admitted_and_answer(fleet: Fleet) -> None:
    """Kubelet's probes go through a shell there, and the namespace enforces what the agents keep to."""
    assert "2 of 2 agents ready" in _install(fleet, "restricted")
    labels = fleet.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert set(_nodes(fleet)) == {"cpu-1", "gpu-1"}
    one = fleet.eidos("node", "gpu-1", "--format", "json")
    assert one.returncode == 0, one.stderr
    facts = {s["subtype"]: s["data"] for m in json.loads(one.stdout)["measurements"] for s in m["subtypes"]}
    assert "/proc/sys/vm/swappiness" in facts["sysctl"]
    assert "containerd.service" not in facts


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def _issue(fleet: Fleet, authority: trustme.CA) -> None:
    """What cert-manager makes of the Certificate."""
    objects = {(o["kind"], o["metadata"]["name"]): o for o in render(["cert-manager"])}
    wanted = objects["Certificate", "eidos-aggregator"]["spec"]
    pair = authority.issue_cert(*wanted["dnsNames"])
    entries = {
        "tls.crt": "".join(blob.bytes().decode() for blob in pair.cert_chain_pems),
        "tls.key": pair.private_key_pem.bytes().decode(),
        "ca.crt": authority.cert_pem.bytes().decode(),
    }
    metadata = {"name": wanted["secretName"], "namespace": NAMESPACE, **wanted["secretTemplate"]}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls"}
    fleet.kubectl("create", "-f", "-", stdin=json.dumps({**secret, "stringData": entries}))


def _authorities(fleet: Fleet) -> tuple[str, str]:
    """Those that agents and kube-apiserver know the aggregator by."""
    service = fleet.get("apiservice", "v1alpha1.fleet.eidos.nvidia.com")
    bundle: str = fleet.get("configmap", "eidos-ca", "-n", NAMESPACE)["data"]["ca.crt"]
    return bundle, base64.b64decode(service["spec"]["caBundle"]).decode()


def test_talos_agents_read_the_host_without_its_root(fleet: Fleet, authority: trustme.CA) -> None:
    """And the aggregator has a certificate of somebody else's."""
    _issue(fleet, authority)
    assert "2 of 2 agents ready" in _install(fleet, "talos", "cert-manager")
    theirs = authority.cert_pem.bytes().decode()
    assert _authorities(fleet) == (theirs, theirs)
    for kind in ("certificates", "issuers"):
        stored = {item["metadata"]["name"]: item["spec"] for item in fleet.get(kind, "-n", NAMESPACE)["items"]}
        rendered = {
            o["metadata"]["name"]: o["spec"] for o in render(["cert-manager"]) if f"{o['kind'].lower()}s" == kind
        }
        assert stored == rendered
    one = fleet.eidos("node", "gpu-1", "--format", "json")
    assert one.returncode == 0, one.stderr
    facts = {s["subtype"]: s["data"] for m in json.loads(one.stdout)["measurements"] for s in m["subtypes"]}
    assert facts["release"]["ID"] == "debian"
    assert facts["sysctl"]["/proc/sys/kernel/hostname"] == "gpu-1"
    assert facts["smi"]["gpu-count"] == 8


def test_two_aggregators_and_agents_on_gpu_nodes_only(fleet: Fleet, authority: trustme.CA) -> None:
    assert "1 of 1 agents ready" in _install(fleet, "ha", "gpu-nodes", "service-monitor")
    # With its own authority again, which agents and kube-apiserver know by now.
    assert authority.cert_pem.bytes().decode() not in _authorities(fleet)
    assert fleet.get("certificates,issuers", "-n", NAMESPACE)["items"] == []
    assert _nodes(fleet) == {"gpu-1": "ok"}
    pods = fleet.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=aggregator")["items"]
    live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert {pod["spec"]["nodeName"] for pod in live} == {"cpu-1", "gpu-1"}
    # An eviction of the leader is allowed, though a standby is never ready.
    fleet.kubectl("wait", "pdb/eidos-aggregator", "-n", NAMESPACE, "--timeout=30s",
                  "--for=jsonpath={.status.disruptionsAllowed}=1")  # fmt: skip


@pytest.fixture
def prometheus(fleet: Fleet) -> Iterator[str]:
    """The token of a ServiceAccount that nothing is bound to yet."""
    fleet.kubectl("create", "serviceaccount", "prometheus", "-n", "default")
    yield fleet.kubectl("create", "token", "prometheus", "-n", "default").strip()
    fleet.kubectl("delete", "clusterrolebinding", "prometheus-eidos", "--ignore-not-found")
    fleet.kubectl("delete", "serviceaccount", "prometheus", "-n", "default")


def test_metrics_are_scraped_as_the_service_monitor_says(fleet: Fleet, prometheus: str) -> None:
    monitor = fleet.get("servicemonitor", "eidos", "-n", NAMESPACE)
    (rendered,) = [o for o in render(["service-monitor"]) if o["kind"] == "ServiceMonitor"]
    assert monitor["spec"] == rendered["spec"]
    both = targets(fleet.cluster, monitor)
    assert len(both) == 2, "a standby, which is not ready, is a target too"
    # It looks every ten seconds whether there is a certificate that can be verified.
    wait_for(lambda: all(_is_verified(fleet, monitor, target) for target in both), 60)
    assert scrape(fleet.cluster, monitor, both[0], "")[0] == 401
    assert scrape(fleet.cluster, monitor, both[0], prometheus)[0] == 403
    fleet.kubectl("create", "clusterrolebinding", "prometheus-eidos", "--clusterrole=eidos-metrics",
                  "--serviceaccount=default:prometheus")  # fmt: skip
    # A refusal is remembered for three seconds.
    wait_for(lambda: scrape(fleet.cluster, monitor, both[0], prometheus)[0] == 200, 60)
    answers = [scrape(fleet.cluster, monitor, target, prometheus) for target in both]
    assert [status for status, _ in answers] == [200, 200]
    assert sorted(samples(text)["eidos_leading"] for _, text in answers) == [0.0, 1.0]
    assert sorted(samples(text)["eidos_links"] for _, text in answers) == [0.0, 1.0]


def _is_verified(fleet: Fleet, monitor: dict[str, Any], target: tuple[str, int]) -> bool:
    try:
        scrape(fleet.cluster, monitor, target, "")
    except ssl.SSLCertVerificationError:
        return False
    return True


def test_what_an_overlay_set_goes_with_it(fleet: Fleet) -> None:
    """And an upgrade keeps the overlays that were chosen."""
    done = fleet.eidos("upgrade")
    assert done.returncode == 0, done.stderr
    assert fleet.get("deployment", "eidos-aggregator", "-n", NAMESPACE)["spec"]["replicas"] == 2
    assert "2 of 2 agents ready" in _install(fleet)
    assert fleet.get("deployment", "eidos-aggregator", "-n", NAMESPACE)["spec"]["replicas"] == 1
    agent = fleet.get("daemonset", "eidos-agent", "-n", NAMESPACE)["spec"]["template"]["spec"]
    assert fleet.get("servicemonitors", "-n", NAMESPACE)["items"] == []
    assert "nodeSelector" not in agent
    assert agent["hostNetwork"] is True


def test_what_is_not_ours_stays(fleet: Fleet) -> None:
    """A registry's Secret, a snapshot of somebody's, which bears our labels too, and something we know nothing of."""
    training = {"apiVersion": "example.com/v1", "kind": "Training", "spec": {"steps": 1}}
    training |= {"metadata": {"name": "first", "namespace": NAMESPACE}}
    fleet.kubectl("create", "-f", "-", stdin=json.dumps(training))
    fleet.kubectl("create", "secret", "generic", "regcred", "-n", NAMESPACE, "--from-literal=a=b")
    fleet.kubectl("create", "configmap", "mine", "-n", NAMESPACE, "--from-literal=format=yaml")
    labels = ("app.kubernetes.io/name=eidos", "app.kubernetes.io/component=snapshot")
    fleet.kubectl("label", "configmap", "mine", "-n", NAMESPACE, *labels)
    removed = fleet.eidos("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert f"Note: namespace {NAMESPACE} stays, because configmaps mine is in it" in removed.stderr
    left = fleet.kubectl("get", "all,configmaps,secrets,serviceaccounts,roles,leases", "-n", NAMESPACE, "-o", "name")
    assert set(left.split()) == {
        "configmap/kube-root-ca.crt",
        "configmap/mine",
        "secret/regcred",
        "serviceaccount/default",
    }
    fleet.kubectl("delete", "configmap/mine", "secret/regcred", "-n", NAMESPACE)
    removed = fleet.eidos("uninstall", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert f"Note: namespace {NAMESPACE} stays, because trainings first is in it" in removed.stderr
    fleet.kubectl("delete", "namespace", NAMESPACE, "--timeout=100s")
