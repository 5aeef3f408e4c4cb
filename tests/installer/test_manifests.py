"""What manifests/fleet must keep to, whatever else changes: checked on what kustomize makes of every overlay."""

from collections.abc import Iterator
from typing import Any

import pytest

from installer.rendering import overlays
from tests.installer.kubectl import FLEET, Manifest, by_name, kustomize

_ALL = ["base", *overlays()]
_PRIVILEGED = [name for name in _ALL if name != "restricted"]


@pytest.fixture(scope="module", params=_ALL)
def rendered(request: pytest.FixtureRequest) -> list[Manifest]:
    name = request.param
    return kustomize(FLEET / "base" if name == "base" else FLEET / "overlays" / name)


def _one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def _pod(objects: list[Manifest], kind: str, name: str) -> Manifest:
    pod: Manifest = _one(objects, kind, name)["spec"]["template"]["spec"]
    return pod


def _agent(objects: list[Manifest]) -> Manifest:
    return _pod(objects, "DaemonSet", "eidos-agent")


def _containers(objects: list[Manifest]) -> Iterator[Manifest]:
    for o in objects:
        if o["kind"] in ("DaemonSet", "Deployment"):
            yield from o["spec"]["template"]["spec"]["containers"]


def test_every_object_is_labelled_as_ours_and_where_it_belongs(rendered: list[Manifest]) -> None:
    for (kind, namespace, name), o in by_name(rendered).items():
        assert o["metadata"]["labels"]["app.kubernetes.io/name"] == "eidos", name
        assert o["metadata"]["labels"]["app.kubernetes.io/part-of"] == "eidos", name
        assert namespace in ("", "eidos") or (kind, namespace) == ("RoleBinding", "kube-system")


def test_the_agent_opens_no_port_but_loopback_health(rendered: list[Manifest]) -> None:
    (container,) = _agent(rendered)["containers"]
    assert "ports" not in container
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container[name]
        if "httpGet" in probe:
            assert probe["httpGet"]["host"] == "127.0.0.1"
            assert str(probe["httpGet"]["port"]) == _environment(container)["EIDOS_HEALTH_PORT"]
        else:
            assert "/dev/tcp/127.0.0.1/8445" in probe["exec"]["command"][-1]
    assert _one(rendered, "NetworkPolicy", "eidos-agent")["spec"]["policyTypes"] == ["Ingress"]
    assert "ingress" not in _one(rendered, "NetworkPolicy", "eidos-agent")["spec"]


def test_nothing_of_the_host_is_mounted_for_writing(rendered: list[Manifest]) -> None:
    for kind, name in (("DaemonSet", "eidos-agent"), ("Deployment", "eidos-aggregator")):
        pod = _pod(rendered, kind, name)
        from_host = {volume["name"] for volume in pod["volumes"] if "hostPath" in volume}
        assert not from_host or name == "eidos-agent"
        for mount in pod["containers"][0]["volumeMounts"]:
            assert mount.get("readOnly") or mount["name"] == "scratch"
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in _containers(rendered))


def test_the_agent_has_no_right_and_no_token_for_the_api_server(rendered: list[Manifest]) -> None:
    for o in rendered:
        for subject in o.get("subjects", ()):
            assert subject["name"] != "eidos-agent", o["metadata"]["name"]
    assert _agent(rendered)["automountServiceAccountToken"] is False
    assert _one(rendered, "ServiceAccount", "eidos-agent")["automountServiceAccountToken"] is False
    sources = [s for v in _agent(rendered)["volumes"] if "projected" in v for s in v["projected"]["sources"]]
    tokens = [source["serviceAccountToken"] for source in sources if "serviceAccountToken" in source]
    assert [token["audience"] for token in tokens] == ["eidos-aggregator"]


def test_no_role_has_a_wildcard_or_may_read_secrets_at_large(rendered: list[Manifest]) -> None:
    for o in rendered:
        if o["kind"] not in ("Role", "ClusterRole"):
            continue
        for rule in o.get("rules") or ():
            assert "*" not in [*rule.get("verbs", ()), *rule.get("apiGroups", ()), *rule.get("resources", ())]
            if "secrets" in rule.get("resources", ()):
                assert o["kind"] == "Role"
                assert rule.get("resourceNames") or rule["verbs"] == ["create"]
            # What would lead to anything else.
            assert not {"bind", "escalate", "impersonate"} & set(rule["verbs"])
            assert not {"pods/exec", "serviceaccounts/token", "nodes/proxy"} & set(rule.get("resources", ()))


def test_everything_has_requests_and_limits(rendered: list[Manifest]) -> None:
    for container in _containers(rendered):
        for kind in ("requests", "limits"):
            assert set(container["resources"][kind]) == {"cpu", "memory"}


def test_the_aggregator_has_no_privileges(rendered: list[Manifest]) -> None:
    pod = _pod(rendered, "Deployment", "eidos-aggregator")
    _assert_restricted(pod)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    (container,) = pod["containers"]
    assert {port["containerPort"] for port in container["ports"]} == {8443, 8444}
    opened = _one(rendered, "NetworkPolicy", "eidos-aggregator")["spec"]["ingress"]
    assert [port["port"] for rule in opened for port in rule["ports"]] == [8443, 8444]
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[name]["httpGet"]["scheme"] == "HTTPS"


def test_agents_go_everywhere_and_a_tenth_at_a_time(rendered: list[Manifest]) -> None:
    spec = _one(rendered, "DaemonSet", "eidos-agent")["spec"]
    assert spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == "10%"
    assert _agent(rendered)["tolerations"] == [{"operator": "Exists"}]
    priority = _one(rendered, "PriorityClass", _agent(rendered)["priorityClassName"])
    assert priority["preemptionPolicy"] == "Never"


def test_the_services_lead_to_the_aggregator(rendered: list[Manifest]) -> None:
    labels = _one(rendered, "Deployment", "eidos-aggregator")["spec"]["template"]["metadata"]["labels"]
    named = {p["name"]: p["containerPort"] for p in next(iter(_aggregator_ports(rendered)))}
    wanted = {"eidos-link": (8443, 8443), "eidos-api": (443, 8444)}
    for name, (port, target) in wanted.items():
        spec = _one(rendered, "Service", name)["spec"]
        assert spec["selector"].items() <= labels.items()
        assert [(p["port"], named[p["targetPort"]]) for p in spec["ports"]] == [(port, target)]


def _aggregator_ports(objects: list[Manifest]) -> Iterator[list[Any]]:
    for container in _pod(objects, "Deployment", "eidos-aggregator")["containers"]:
        yield container["ports"]


def test_an_eviction_waits_for_a_leader(rendered: list[Manifest]) -> None:
    """With one ready replica of two, anything but zero would keep its node from ever being drained."""
    assert _one(rendered, "PodDisruptionBudget", "eidos-aggregator")["spec"]["minAvailable"] == 0
    strategy = _one(rendered, "Deployment", "eidos-aggregator")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": "100%"}


@pytest.mark.parametrize("name", _PRIVILEGED)
def test_the_agent_sees_the_hosts_namespaces(name: str) -> None:
    pod = _agent(kustomize(FLEET / "base" if name == "base" else FLEET / "overlays" / name))
    assert [pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")] == [True, True, True]
    assert pod["containers"][0]["securityContext"]["privileged"]


def test_an_aggregator_is_told_to_end_while_it_starts(rendered: list[Manifest]) -> None:
    """As process 1 of its container it would not be, before it has a handler (pid_namespaces(7))."""
    assert _pod(rendered, "Deployment", "eidos-aggregator")["shareProcessNamespace"] is True


def test_talos_mounts_no_path_of_systemd_and_no_secrets_of_the_machine() -> None:
    volumes = _agent(kustomize(FLEET / "overlays/talos"))["volumes"]
    paths = {volume["hostPath"]["path"] for volume in volumes if "hostPath" in volume}
    assert paths == {"/etc", "/usr", "/dev"}


def test_restricted_agents_fit_the_restricted_standard() -> None:
    objects = kustomize(FLEET / "overlays/restricted")
    pod = _agent(objects)
    _assert_restricted(pod)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]
    labels = _one(objects, "Namespace", "eidos")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_high_availability_is_two_aggregators_apart() -> None:
    deployment = _one(kustomize(FLEET / "overlays/ha"), "Deployment", "eidos-aggregator")
    assert deployment["spec"]["replicas"] == 2
    terms = deployment["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = terms["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"


def _assert_restricted(pod: Manifest) -> None:
    """Pod Security Standards, profile restricted."""
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context.get("privileged")


def _environment(container: Manifest) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}
