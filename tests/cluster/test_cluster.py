"""The cluster of the tests is a real one: what the other tests take for granted about it."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.baseimage import build_image
from tests.cluster.cluster import Cluster, KubectlError
from tests.cluster.manifests import Document, container, daemon_set, job, pod, service

pytestmark = pytest.mark.cluster

NODES = ("gpu-1", "cpu-1")
WEB = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"
PRIVILEGED: Document = {
    "securityContext": {"privileged": True},
    "volumeMounts": [{"name": "host", "mountPath": "/host", "mountPropagation": "HostToContainer"}],
}
HOST: Document = {
    "hostNetwork": True,
    "hostPID": True,
    "dnsPolicy": "ClusterFirstWithHostNet",
    "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
}


class Namespace:
    """kubectl in a namespace of the test's own."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl(f"--namespace={self.name}", *arguments, stdin=stdin)

    def apply(self, *documents: Document) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))

    def get(self, kind: str, **labels: str) -> list[Any]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        items: list[Any] = json.loads(self.kubectl("get", kind, "-l", selector, "-o", "json"))["items"]
        return items

    def exec_everywhere(self, app: str, script: str) -> dict[str, str]:
        """What `script` prints in each pod of `app`, by node."""
        return {
            each["spec"]["nodeName"]: self.kubectl("exec", each["metadata"]["name"], "--", "/bin/sh", "-c", script)
            for each in self.get("pods", app=app)
        }


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "")[:60]
    cluster.kubectl("create", "namespace", name)
    yield Namespace(cluster, name)
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_both_nodes_are_ready_with_their_labels_and_taints(cluster: Cluster) -> None:
    assert cluster.ready_nodes() >= set(NODES)
    gpu = json.loads(cluster.kubectl("get", "node", "gpu-1", "-o", "json"))
    cpu = json.loads(cluster.kubectl("get", "node", "cpu-1", "-o", "json"))
    assert gpu["metadata"]["labels"]["nvidia.com/gpu.present"] == "true"
    assert _lasting_taints(gpu) == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert "nvidia.com/gpu.present" not in cpu["metadata"]["labels"]
    assert _lasting_taints(cpu) == []


def _lasting_taints(node: Any) -> list[Any]:
    """Without those the controller manager gives a node for a moment when it joins."""
    taints = node["spec"].get("taints", [])
    return [taint for taint in taints if not taint["key"].startswith("node.kubernetes.io/")]


@pytest.mark.parametrize("node", NODES)
def test_a_job_completes(namespace: Namespace, node: str) -> None:
    namespace.apply(job("hello", node, "echo hello from $(hostname)"))
    namespace.kubectl("wait", "--for=condition=complete", "job/hello", "--timeout=100s")
    assert namespace.kubectl("logs", "job/hello").startswith("hello from hello-")


@pytest.mark.parametrize("node", NODES)
def test_logs_and_exec(namespace: Namespace, node: str) -> None:
    namespace.apply(pod("sleeper", node, "echo started; exec sleep 1000"))
    namespace.kubectl("wait", "--for=condition=ready", "pod/sleeper", "--timeout=100s")
    assert namespace.kubectl("logs", "sleeper") == "started\n"
    assert namespace.kubectl("exec", "-i", "sleeper", "--", "cat", stdin="through") == "through"
    with pytest.raises(KubectlError, match="exit code 3"):
        namespace.kubectl("exec", "sleeper", "--", "sh", "-c", "exit 3")


def test_an_image_built_from_a_dockerfile_runs(namespace: Namespace, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        "ARG BASE=debian:bookworm-slim\nFROM ${BASE}\nCOPY word /word\nRUN . /etc/os-release; echo $ID > /built\n"
    )
    (tmp_path / "word").write_text("copied\n")
    archive = build_image(dockerfile, "eidos.test/built:1", tmp_path)
    namespace.cluster.load_image(archive)
    namespace.apply(job("built", "cpu-1", "cat /word /built", image="eidos.test/built:1"))
    namespace.kubectl("wait", "--for=condition=complete", "job/built", "--timeout=100s")
    assert namespace.kubectl("logs", "job/built") == "copied\ndebian\n"


def test_daemon_sets_and_services_reach_across_nodes(namespace: Namespace) -> None:
    """An ordinary and a privileged DaemonSet on every node; each pod reaches all pods behind the Service."""
    namespace.apply(
        daemon_set("web", WEB, {"readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1}}),
        daemon_set("privileged", "exec sleep 1000", PRIVILEGED, **HOST),
        service("web", 80, 8080),
    )
    for name in ("web", "privileged"):
        namespace.kubectl("rollout", "status", f"daemonset/{name}", "--timeout=100s")
    address = namespace.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    servers = {each["metadata"]["name"] for each in namespace.get("pods", app="web")}
    urls = (address, f"web.{namespace.name}.svc.cluster.local", f"web.{namespace.name}")
    # kube-proxy and DNS hear of a ready pod a moment after the API server.
    known = "; ".join(f"until timeout 10 wget -qO- http://{url} > /tmp/known; do sleep 0.1; done" for url in urls)
    asked = "; ".join([known, *(f"timeout 10 wget -qO- http://{url}" for url in urls for _ in range(5))])
    for app in ("web", "privileged"):
        answers = namespace.exec_everywhere(app, asked)
        assert set(answers) == set(NODES)
        for answer in answers.values():
            assert len(answer.split()) == 15
            assert set(answer.split()) <= servers
    # From outside, through a node, and straight to a pod as the aggregation layer does.
    port, _ = namespace.cluster.forward(address, 80, via="cpu-1")
    assert _http_get(port) in servers
    for each in namespace.get("pods", app="web"):
        port, _ = namespace.cluster.forward(each["status"]["podIP"], 8080)
        assert _http_get(port) == each["metadata"]["name"]


def _http_get(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


def test_a_privileged_pod_sees_its_own_node(namespace: Namespace, tmp_path: Path) -> None:
    """Through hostPath `/`: systemd where there is one, and what a test put there; the other node has neither."""
    (tmp_path / "lib").write_bytes(b"a library")
    library = "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1"
    namespace.cluster.nodes["gpu-1"].put(tmp_path / "lib", library)
    namespace.apply(daemon_set("privileged", "exec sleep 1000", PRIVILEGED, **HOST))
    namespace.kubectl("rollout", "status", "daemonset/privileged", "--timeout=100s")
    script = f"""
        cat /host/etc/hostname; tr '\\0' ' ' < /proc/1/cmdline | cut -d' ' -f1; echo
        for it in /host/run/systemd/private /host/run/dbus/system_bus_socket; do [ -S $it ] && echo socket; done
        cat /host{library} 2> /dev/null
        true
    """
    answers = {node: answer.split() for node, answer in namespace.exec_everywhere("privileged", script).items()}
    assert answers == {
        "gpu-1": ["gpu-1", "/lib/systemd/systemd", "socket", "socket", "a", "library"],
        "cpu-1": ["cpu-1", "/opt/eidos/bin/pause"],
    }


def test_systemd_on_the_gpu_node_answers_on_its_bus(cluster: Cluster) -> None:
    gpu = cluster.nodes["gpu-1"].machine
    shown = gpu.run(["systemctl", "show", "containerd.service", "-p", "ActiveState,LimitNOFILE"])
    assert shown.split() == ["LimitNOFILE=65536", "ActiveState=active"]
    name = "org.freedesktop.systemd1"
    version = gpu.run(["busctl", "get-property", name, "/org/freedesktop/systemd1", f"{name}.Manager", "Version"])
    assert version.startswith('s "252')


def test_admission_is_that_of_a_real_cluster(namespace: Namespace) -> None:
    """PodSecurity, ResourceQuota and RBAC refuse."""
    namespace.kubectl("create", "quota", "one", "--hard=pods=1")
    namespace.kubectl("wait", "--for=jsonpath={.status.hard}", "quota/one", "--timeout=100s")
    namespace.apply(pod("first", "cpu-1", "exec sleep 1000"))
    with pytest.raises(KubectlError, match="exceeded quota"):
        namespace.apply(pod("second", "cpu-1", "true"))
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        namespace.apply(pod("third", "cpu-1", "true", containers=[container("true", **PRIVILEGED)], **HOST))


def test_tokens_can_be_verified_and_apis_added(cluster: Cluster) -> None:
    """The issuer publishes its keys, and an aggregated API server finds what it must believe."""
    keys = json.loads(cluster.kubectl("get", "--raw", "/openid/v1/jwks"))["keys"]
    assert [key["alg"] for key in keys] == ["RS256"]
    front = json.loads(
        cluster.kubectl("get", "-n", "kube-system", "cm", "extension-apiserver-authentication", "-o", "json")
    )["data"]
    assert json.loads(front["requestheader-allowed-names"]) == ["front-proxy-client"]
    assert front["requestheader-client-ca-file"] == cluster.pki.front_proxy_ca.certificate.read_text()


def test_limited_users(namespace: Namespace) -> None:
    """A ServiceAccount's token, a certificate and a static token each act as who they say, and only so far."""
    cluster = namespace.cluster
    namespace.kubectl("create", "serviceaccount", "reader")
    namespace.kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    namespace.kubectl(
        "create",
        "rolebinding",
        "reader",
        "--role=reader",
        f"--serviceaccount={namespace.name}:reader",
        "--user=alice",
    )
    account = cluster.service_account_kubeconfig(namespace.name, "reader")
    certified = cluster.user_kubeconfig("alice", ["team"], namespace.name)
    known = cluster.token_kubeconfig("nobody")

    def may(kubeconfig: Path, verb: str, resource: str) -> bool:
        try:
            answer = namespace.kubectl(f"--kubeconfig={kubeconfig}", "auth", "can-i", verb, resource)
        except KubectlError:
            return False
        return answer.strip() == "yes"

    assert [may(each, "list", "configmaps") for each in (account, certified, known)] == [True, True, False]
    assert [may(each, "create", "configmaps") for each in (account, certified, known)] == [False, False, False]
    asked = [
        cluster.kubectl(f"--kubeconfig={each}", "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        for each in (account, certified, known)
    ]
    assert asked == [f"system:serviceaccount:{namespace.name}:reader", "alice", "nobody"]


def test_a_killed_kubelet_comes_back(namespace: Namespace) -> None:
    node = namespace.cluster.nodes["cpu-1"]
    node.kill("kubelet")
    node.spawn_kubelet()
    namespace.apply(job("after", "cpu-1", "true"))
    namespace.kubectl("wait", "--for=condition=complete", "job/after", "--timeout=100s")
    namespace.cluster.wait_nodes_ready(60)  # which it is not for a moment, when kubelet begins


def test_a_hundred_fake_nodes(cluster: Cluster) -> None:
    names = cluster.kwok(100)
    try:
        assert cluster.ready_nodes() == {*names, *NODES}
        one = json.loads(cluster.kubectl("get", "node", names[-1], "-o", "json"))
        assert len(one["metadata"]["name"]) == 63
        assert len(one["metadata"]["labels"]) == 30
    finally:
        cluster.remove_kwok()
    assert cluster.ready_nodes() == set(NODES)
