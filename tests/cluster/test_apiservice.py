"""The fleet in the cluster's own API, with the real kube-apiserver and the real kubectl."""

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.formats import load_snapshot
from tests.cluster.apiservice import APISERVICE, GROUP, NAMESPACE, InApi, ca_bundle, in_api
from tests.cluster.binaries import binaries_directory
from tests.cluster.cluster import Cluster
from tests.cluster.pki import Pair
from tests.cluster.replicas import wait_for

pytestmark = pytest.mark.cluster

NODES, AGENTS = 40, 30


@pytest.fixture(scope="module")
def fleet(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InApi]:
    with in_api(cluster, tmp_path_factory.mktemp("in-api"), NODES, AGENTS) as api:
        api.take()
        yield api


@pytest.fixture(scope="module")
def viewer(fleet: InApi) -> Iterator[Path]:
    """A user whom the role `view` is bound to in the whole cluster, and nothing else."""
    yield from _bound(fleet, "viewer", "view")


@pytest.fixture(scope="module")
def operator(fleet: InApi) -> Iterator[Path]:
    """The same for `admin`."""
    yield from _bound(fleet, "operator", "admin")


def _bound(fleet: InApi, user: str, role: str) -> Iterator[Path]:
    kubectl, binding = fleet.cluster.kubectl, f"in-api-{user}"
    kubectl("create", "clusterrolebinding", binding, f"--clusterrole={role}", f"--user={user}")
    yield fleet.cluster.token_kubeconfig(user)
    kubectl("delete", "clusterrolebinding", binding)


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.splitlines()]


def test_kubectl_prints_a_table(fleet: InApi, viewer: Path) -> None:
    header, *lines = rows(fleet.good("get", "nodesnapshots", kubeconfig=viewer))
    assert header == ["NODE", "STATE", "GROUP", "GPUS", "DRIVER", "KERNEL", "AGE"]
    assert len(lines) == NODES
    assert lines[0][:6] == ["gpu-00000", "ok", "0", "8", "570.86.15", "6.8.0-55-generic"]
    assert lines[-1][1:] == ["no-agent", "<none>", "<none>", "<none>", "<none>", "<unknown>"]
    wide = fleet.good("get", "nsnap", "gpu-00000", "-o", "wide", kubeconfig=viewer)
    assert "NVIDIA H100 80GB HBM3" in wide
    assert "CONNECTED" in wide


def test_labels_fields_and_pages(fleet: InApi, viewer: Path) -> None:
    chosen = fleet.good(
        "get", "nsnap", "-o", "name", "-l", "topology.kubernetes.io/zone in (zone-1)", kubeconfig=viewer
    )
    names = [line.partition("/")[2] for line in chosen.split()]
    assert names == [f"gpu-{number:05}" for number in range(NODES) if number % 3 == 1]
    by_field = fleet.good("get", "nsnap", "-o", "name", "--field-selector", "status.state!=ok", kubeconfig=viewer)
    assert len(by_field.split()) == NODES - AGENTS
    paged = fleet.good("get", "nsnap", "-o", "name", "--chunk-size=7", kubeconfig=viewer)
    assert len(paged.split()) == NODES
    shown = fleet.good("get", "nsnap", "gpu-00001", "--show-labels", "--no-headers", kubeconfig=viewer)
    assert "topology.kubernetes.io/zone=zone-1" in shown


def test_sorting_and_label_columns(fleet: InApi, viewer: Path) -> None:
    by_kernel = rows(fleet.good("get", "nsnap", "--sort-by=.status.kernel", "--no-headers", kubeconfig=viewer))
    kernels = [row[5] for row in by_kernel if row[5] != "<none>"]
    assert kernels == sorted(kernels)
    assert len(kernels) == AGENTS
    zones = rows(fleet.good("get", "nsnap", "gpu-00001", "-L", "topology.kubernetes.io/zone", kubeconfig=viewer))
    assert (zones[0][-1], zones[1][-1]) == ("ZONE", "zone-1")
    assert "gpu-00001" in fleet.good("describe", "nsnap", "gpu-00001", kubeconfig=viewer)


def test_one_node_as_yaml_and_all_as_json(fleet: InApi, viewer: Path, tmp_path: Path) -> None:
    item = yaml.safe_load(fleet.good("get", "nodesnapshot", "gpu-00003", "-o", "yaml", kubeconfig=viewer))
    assert (item["apiVersion"], item["kind"]) == ("fleet.eidos.nvidia.com/v1alpha1", "NodeSnapshot")
    snapshot = load_snapshot(json.dumps(item["snapshot"]).encode(), "the object")
    assert snapshot.metadata.source_node == "gpu-00003"
    facts = snapshot.facts()
    assert facts["OS", "sysctl", "/proc/sys/kernel/osrelease"] == item["status"]["kernel"]
    listed = json.loads(fleet.good("get", "nodesnapshots", "-o", "json", kubeconfig=viewer))
    assert len(listed["items"]) == NODES
    assert not any("snapshot" in each for each in listed["items"])
    whole = json.loads(fleet.good("get", "--raw", f"{GROUP}/nodesnapshots?include=snapshot", kubeconfig=viewer))
    assert whole["items"][3]["snapshot"] == item["snapshot"]


def test_explain(fleet: InApi, viewer: Path) -> None:
    assert "One node of the fleet" in fleet.good("explain", "nodesnapshots", kubeconfig=viewer)
    assert "gpuModel" in fleet.good("explain", "nodesnapshots.status", kubeconfig=viewer)
    assert "selector\t<string>" in fleet.good("explain", "fleetsnapshots.spec", kubeconfig=viewer)
    resources = rows(fleet.good("api-resources", "--api-group=fleet.eidos.nvidia.com", kubeconfig=viewer))
    assert ["nodesnapshots", "nsnap", "fleet.eidos.nvidia.com/v1alpha1", "false", "NodeSnapshot"] in resources


def test_watching_shows_a_run_as_it_ends(fleet: InApi, viewer: Path) -> None:
    program = [
        str(binaries_directory() / "kubectl"),
        f"--kubeconfig={viewer}",
        "get",
        "fsnap",
        "--watch",
        "-o",
        "name",
    ]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline().startswith("fleetsnapshot.")
            made = "apiVersion: fleet.eidos.nvidia.com/v1alpha1\nkind: FleetSnapshot\nmetadata: {name: seen}\n"
            fleet.good("create", "-f", "-", stdin=made)
            while "seen" not in (line := watching.stdout.readline()):
                assert line, "the watch ended"
        finally:
            watching.terminate()


def test_creating_a_fleetsnapshot_starts_a_run(fleet: InApi, operator: Path, viewer: Path) -> None:
    made = "apiVersion: fleet.eidos.nvidia.com/v1alpha1\nkind: FleetSnapshot\n"
    spec = 'spec: {selector: "topology.kubernetes.io/zone=zone-0", sections: [GPU, OS], seconds: 20}\n'
    named = f"{made}metadata: {{name: before-upgrade}}\n{spec}"
    assert "created (server dry run)" in fleet.good(
        "create", "--dry-run=server", "-f", "-", stdin=named, kubeconfig=operator
    )
    assert fleet.kubectl("get", "fsnap", "before-upgrade", kubeconfig=viewer).returncode == 1
    assert "before-upgrade created" in fleet.good("create", "-f", "-", stdin=named, kubeconfig=operator)
    fleet.good("wait", "--for=jsonpath={.status.phase}=Done", "fsnap/before-upgrade", kubeconfig=viewer)
    item = json.loads(fleet.good("get", "fsnap", "before-upgrade", "-o", "json", kubeconfig=viewer))
    assert item["spec"] == yaml.safe_load(spec)["spec"]
    assert item["status"]["expected"] == len(range(0, NODES, 3))
    document = json.loads(fleet.good("get", "--raw", item["status"]["document"], kubeconfig=viewer))
    assert document["summary"]["expected"] == item["status"]["expected"]
    again = fleet.kubectl("create", "-f", "-", stdin=named, kubeconfig=operator)
    assert "AlreadyExists" in again.stderr
    misspelt = f"{made}metadata: {{name: x}}\nspec: {{selectr: a}}"
    wrong = fleet.kubectl("create", "-f", "-", stdin=misspelt, kubeconfig=operator)
    assert 'unknown field "spec.selectr"' in wrong.stderr


PATHS = ("nodesnapshots", "nodesnapshots/gpu-00000", "nodesnapshots?watch=true", "fleetsnapshots", "fleets/eidos",
         "fleets/eidos/api/v1/nodes", "fleets/eidos/api/v1/snapshot", "fleets/eidos/api/v1/query?expression=true",
         "fleets/eidos/api/v1/facts/GPU.smi.driver")  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_who_has_no_right_sees_nothing(fleet: InApi, path: str) -> None:
    refused = fleet.kubectl("get", "--raw", f"{GROUP}/{path}", kubeconfig=fleet.cluster.token_kubeconfig("nobody"))
    assert refused.returncode == 1
    assert "Forbidden" in refused.stderr
    assert 'User "nobody" cannot' in refused.stderr


@pytest.mark.parametrize("path", ["nodesnapshots", "fleets/eidos/api/v1/nodes"])
def test_who_may_view_may_not_start_runs(fleet: InApi, viewer: Path, path: str) -> None:
    fleet.good("get", "--raw", f"{GROUP}/{path}", kubeconfig=viewer)
    for target in ("fleetsnapshots", "fleets/eidos/api/v1/runs"):
        refused = fleet.kubectl("create", "--raw", f"{GROUP}/{target}", "-f", "-", stdin="{}", kubeconfig=viewer)
        assert "Forbidden" in refused.stderr
        assert "cannot create" in refused.stderr


# ---- eidos fleet, with a kubeconfig and nothing else


def test_eidos_fleet_needs_a_kubeconfig_only(fleet: InApi, viewer: Path, operator: Path) -> None:
    nodes = fleet.eidos("nodes", "--state", "no-agent", "--format", "json", kubeconfig=viewer)
    assert len(json.loads(nodes.stdout)["items"]) == NODES - AGENTS, nodes.stderr
    taken = fleet.eidos("snapshot", "--nodes", "gpu-[00000-00004]", "--format", "json", kubeconfig=operator)
    assert json.loads(taken.stdout)["summary"]["states"] == {"ok": 5}, taken.stderr
    query = fleet.eidos("query", 'GPU.smi.driver == "570.86.15"', "--format", "json", kubeconfig=viewer)
    assert query.returncode == 0, query.stderr
    # Viewing is enough for a long one too: it travels as GET, since to kube-apiserver a POST is always `create`.
    long = " || ".join(['GPU.smi.driver == "570.86.15"'] * 120)
    same = fleet.eidos("query", long, "--format", "json", kubeconfig=viewer)
    assert json.loads(same.stdout)["items"] == json.loads(query.stdout)["items"], same.stderr
    one = fleet.eidos("node", "gpu-00003", kubeconfig=viewer)
    assert load_snapshot(one.stdout.encode(), "the answer").metadata.source_node == "gpu-00003"


def test_eidos_fleet_says_who_lacks_which_right(fleet: InApi, viewer: Path) -> None:
    refused = fleet.eidos("snapshot", kubeconfig=viewer)
    assert refused.returncode == 4
    assert 'User "viewer" cannot create resource "fleets/api"' in refused.stderr
    refused = fleet.eidos("nodes", kubeconfig=fleet.cluster.token_kubeconfig("nobody"))
    assert refused.returncode == 4
    assert 'User "nobody" cannot get resource "fleets/api"' in refused.stderr


# ---- asked directly, without kube-apiserver in between


def ask(fleet: InApi, path: str, certificate: Pair | None = None, **headers: str) -> tuple[int, Any]:
    """Status and answer of the aggregator itself."""
    context = ssl.create_default_context(cafile=str(fleet.directory / "ca.crt"))
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
    connection = HTTPSConnection("127.0.0.1", fleet.direct_port, context=context, timeout=30)
    try:
        connection.request("GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


DIRECT = (f"{GROUP}/nodesnapshots", f"{GROUP}/fleets/eidos/api/v1/nodes", "/v1/nodes", "/v1/snapshot", "/metrics",
          "/apis", "/openapi/v3", "/nowhere")  # fmt: skip


@pytest.mark.parametrize("path", DIRECT)
def test_strangers_get_401_everywhere(fleet: InApi, path: str) -> None:
    assert ask(fleet, path)[0] == 401
    forged: Any = {"X_Remote_User": "admin", "X_Remote_Group": "system:masters"}
    assert ask(fleet, path, **forged)[0] == 401
    other = fleet.cluster.pki.issue("kubernetes-admin", "front-proxy-client", ("system:masters",))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(fleet, path, other, **forged)  # a certificate of another authority, though of the right name
    wrong_name = fleet.cluster.pki.issue("not-it", "somebody", authority=fleet.cluster.pki.front_proxy_ca)
    assert ask(fleet, path, wrong_name, **forged)[0] == 401


@pytest.mark.parametrize("path", [path for path in DIRECT if path not in ("/apis", "/openapi/v3")])
def test_a_user_without_rights_gets_403_everywhere(fleet: InApi, path: str) -> None:
    status, told = ask(fleet, path, Authorization="Bearer eidos-test-nobody")
    assert status == 403, told
    assert told.get("reason", "Forbidden") == "Forbidden"
    assert told.get("type", "urn:eidos:problem:fleet_forbidden") == "urn:eidos:problem:fleet_forbidden"


def test_a_users_own_token_opens_what_its_rights_open(fleet: InApi, viewer: Path) -> None:
    status, nodes = ask(fleet, "/v1/nodes", Authorization="Bearer eidos-test-viewer")
    assert (status, len(nodes["items"])) == (200, NODES)
    status, listed = ask(fleet, f"{GROUP}/nodesnapshots?limit=1", Authorization="Bearer eidos-test-viewer")
    assert (status, listed["items"][0]["metadata"]["name"]) == (200, "gpu-00000")
    assert ask(fleet, "/metrics", Authorization="Bearer eidos-test-viewer")[0] == 403


def test_behind_the_front_proxys_certificate_users_are_believed(fleet: InApi) -> None:
    front = fleet.cluster.pki.issue("our-front", "front-proxy-client", authority=fleet.cluster.pki.front_proxy_ca)
    assert ask(fleet, f"{GROUP}/nodesnapshots?limit=1", front, X_Remote_User="anybody")[0] == 200
    assert ask(fleet, f"{GROUP}/nodesnapshots?limit=1", front)[0] == 401
    # What kube-apiserver does not pass on, it has not judged.
    assert ask(fleet, "/metrics", front, X_Remote_User="anybody")[0] == 403


def test_an_agents_token_opens_nothing(fleet: InApi) -> None:
    kubectl, account = fleet.cluster.kubectl, f"--namespace={NAMESPACE}"
    kubectl("create", "serviceaccount", "agent-like", account)
    binding = ("clusterrolebinding", "in-api-agent-like")
    kubectl("create", *binding, "--clusterrole=view", f"--serviceaccount={NAMESPACE}:agent-like")
    try:
        token = kubectl("create", "token", "agent-like", account, "--audience=eidos-aggregator").strip()
        for path in DIRECT:
            assert ask(fleet, path, Authorization=f"Bearer {token}")[0] == 401
        # The same account's token for the API server shows that it is the audience which decides.
        token = kubectl("create", "token", "agent-like", account).strip()
        wait_for(lambda: ask(fleet, "/v1/nodes", Authorization=f"Bearer {token}")[0] == 200, 60)
    finally:
        kubectl("delete", *binding)


def test_a_new_authority_reaches_kube_apiserver(fleet: InApi, viewer: Path) -> None:
    before = ca_bundle(fleet.cluster)
    told = fleet.aggregator.command("rotate")
    assert told == {"written": True, "authorities": 2}
    assert ca_bundle(fleet.cluster).startswith(before)
    fleet.cluster.kubectl("wait", "--for=condition=Available", f"apiservice/{APISERVICE}", "--timeout=100s")
    fleet.good("get", "nodesnapshots", "gpu-00000", kubeconfig=viewer)


# ---- without


def test_eidos_fleet_says_why_it_cannot_be_asked(cluster: Cluster, tmp_path: Path) -> None:
    with in_api(cluster, tmp_path, 3, 1) as api:
        assert api.eidos("nodes").returncode == 0
        cluster.kubectl("delete", "endpointslice", "eidos-api-by-hand", f"--namespace={NAMESPACE}")
        cluster.kubectl("wait", "--for=condition=Available=false", f"apiservice/{APISERVICE}", "--timeout=100s")
        refused = api.eidos("nodes")
        assert refused.returncode == 4
        assert "cannot be reached by the API server: EndpointsNotFound: " in refused.stderr
    absent = api.eidos("nodes")
    assert absent.returncode == 4
    assert "there is no fleet in the cluster of context" in absent.stderr


# ---- five thousand


@pytest.mark.timeout(400)
def test_five_thousand_nodes(cluster: Cluster, tmp_path: Path, record_property: Any) -> None:
    with in_api(cluster, tmp_path, 5000, 1000) as api:
        api.take()
        seconds, printed = [], 0
        for _ in range(20):
            begun = time.monotonic()
            printed = len(api.good("get", "nodesnapshots"))
            seconds.append(time.monotonic() - begun)
        sent = len(api.good("get", "--raw", f"{GROUP}/nodesnapshots"))
        memory = api.aggregator.status()
        whole = len(api.good("get", "--raw", f"{GROUP}/nodesnapshots?include=snapshot&limit=400"))
        figures = {
            "with_snapshots": whole,
            "grown": api.aggregator.status()["peak"] - memory["peak"],
            "p50": sorted(seconds)[9],
            "p95": sorted(seconds)[18],
            "printed": printed,
            "list": sent,
            "rss": memory["rss"],
            "peak": memory["peak"],
            "cpu_ms": memory["cpu"],
        }
        print(json.dumps(figures))
        for name, value in figures.items():
            record_property(name, value)
        assert printed > 5000 * 50
        assert memory["peak"] < 400 << 20
        assert figures["grown"] < max(32 << 20, whole / 2), "written as it is made"
