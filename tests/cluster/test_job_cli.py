"""`eidos snapshot --deploy-agent` on a real cluster: what it brings, what it leaves, and many at once."""

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from common.formats import load_snapshot
from tests.cluster.furnish import hold_nvml, let_nvml_answer
from tests.cluster.jobmode import GPU_NODE, Jobs, good
from tests.cluster.watched import Watched

pytestmark = pytest.mark.cluster

MEASUREMENTS = {"K8s", "GPU", "OS", "SystemD", "NodeTopology"}


def test_one_command(jobs: Jobs, namespace: str) -> None:
    before = jobs.everything(namespace)
    assert good(jobs.eidos("--namespace", namespace, *GPU_NODE, "--output", "snap.yaml")) == ""
    document = load_snapshot((jobs.folder / "snap.yaml").read_bytes(), "snap.yaml")
    assert document.metadata.source_node == "gpu-1"
    assert {m.type.value for m in document.measurements} == MEASUREMENTS
    made = jobs.everything(namespace) - before
    # Kept for the next run; nothing of this one.
    assert {name.rpartition("/")[2] for name in made if "jobs" not in name} == {"eidos"}
    assert [name for name in made if "/jobs/" in name or "/configmaps/" in name] == []
    labels = jobs.get("namespace", namespace)["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "eidos"


def test_a_second_run_finds_all_it_needs(jobs: Jobs, namespace: str) -> None:
    one, two = (good(jobs.eidos("--namespace", namespace, *GPU_NODE)) for _ in range(2))
    assert one.replace(_timestamp(one), "") == two.replace(_timestamp(two), "")


def _timestamp(text: str) -> str:
    found = re.search(r"timestamp: .*", text)
    assert found
    return found[0]


@pytest.mark.parametrize(
    ("flags", "beginning"),
    [(("--format", "json"), "{"), (("--format", "table"), "Snapshot of gpu-1"), (("-o", "/dev/stdout"), "kind:")],
)
def test_formats(jobs: Jobs, namespace: str, flags: tuple[str, ...], beginning: str) -> None:
    assert good(jobs.eidos("--namespace", namespace, *GPU_NODE, *flags)).startswith(beginning)


def test_a_template(jobs: Jobs, namespace: str) -> None:
    (jobs.folder / "report.j2").write_text("node {{ metadata['source-node'] }}\n")
    assert good(jobs.eidos("--namespace", namespace, *GPU_NODE, "--template", "report.j2")) == "node gpu-1\n"


def test_a_configmap_stays_and_is_replaced(jobs: Jobs, namespace: str) -> None:
    output = f"cm://{namespace}/eidos-snapshot"
    for node in ("gpu-1", "cpu-1"):
        where = ("--node-selector", f"kubernetes.io/hostname={node}")
        assert good(jobs.eidos("--namespace", namespace, *where, "-o", output)) == ""
        assert load_snapshot(jobs.stored("eidos-snapshot", namespace), output).metadata.source_node == node
    assert jobs.names("configmaps", namespace) == {"kube-root-ca.crt", "eidos-snapshot"}


def test_a_configmap_in_another_namespace(jobs: Jobs, namespace: str) -> None:
    with jobs.namespace("elsewhere") as other:
        good(jobs.eidos("--namespace", namespace, *GPU_NODE, "-o", f"cm://{other}/state"))
        assert load_snapshot(jobs.stored("state", other), "state").metadata.source_node == "gpu-1"


def test_a_foreign_configmap_is_left_alone_before_anything_is_made(jobs: Jobs, namespace: str) -> None:
    jobs.kubectl("create", "configmap", "settings", "--from-literal=a=b", "-n", namespace)
    before = jobs.everything(namespace)
    done = jobs.eidos("--namespace", namespace, *GPU_NODE, "-o", f"cm://{namespace}/settings")
    assert done.returncode == 2
    assert "is left alone" in done.stderr
    assert jobs.everything(namespace) == before
    assert jobs.get("configmap", "settings", "-n", namespace)["data"] == {"a": "b"}


def test_cleaning_up_leaves_what_was_there(jobs: Jobs) -> None:
    """The namespace, which is made for the run, included."""
    before = jobs.everything()
    good(jobs.eidos("--namespace", "for-a-while", "--cleanup-rbac", *GPU_NODE, "-o", "snap.yaml"))
    jobs.kubectl("wait", "--for=delete", "namespace/for-a-while", "--timeout=100s")
    assert jobs.everything() == before


def test_cleaning_up_never_deletes_what_others_made(jobs: Jobs, namespace: str) -> None:
    jobs.kubectl("create", "serviceaccount", "eidos", "-n", namespace)
    jobs.kubectl("create", "configmap", "eidos-snapshot", "--from-literal=mine=1", "-n", namespace)
    before = jobs.everything(namespace)
    good(jobs.eidos("--namespace", namespace, "--cleanup-rbac", *GPU_NODE, "-o", "snap.yaml"))
    assert jobs.everything(namespace) == before
    assert jobs.get("configmap", "eidos-snapshot", "-n", namespace)["data"] == {"mine": "1"}


def test_what_others_made_is_never_changed(jobs: Jobs, namespace: str) -> None:
    """A ClusterRole and a Job that only have the names asked for."""
    labelled = "app.kubernetes.io/name=eidos"  # so that forget() removes it
    jobs.kubectl("create", "clusterrole", "theirs", "--verb=get", "--resource=secrets")
    jobs.kubectl("label", "clusterrole", "theirs", labelled)
    jobs.kubectl("create", "job", "theirs", "--image=registry.example/none:1", "-n", namespace)
    before = (
        jobs.get("clusterrole", "theirs")["rules"],
        jobs.get("job", "theirs", "-n", namespace)["metadata"]["uid"],
    )
    done = jobs.eidos("--namespace", namespace, "--job-name", "theirs")
    assert done.returncode == 4
    assert f"Job {namespace}/theirs was not made by Eidos" in done.stderr
    done = jobs.eidos("--namespace", namespace, "--service-account-name", "theirs", *GPU_NODE, "-o", "snap.yaml")
    good(done)
    assert "ClusterRole theirs was not made by Eidos and is left alone; this run uses theirs-" in done.stderr
    after = (
        jobs.get("clusterrole", "theirs")["rules"],
        jobs.get("job", "theirs", "-n", namespace)["metadata"]["uid"],
    )
    assert after == before


def test_an_administrator_of_the_namespace_only(jobs: Jobs, namespace: str) -> None:
    """What belongs to no namespace is there; Role and RoleBinding they make themselves, in that order."""
    good(jobs.eidos("--namespace", namespace, *GPU_NODE, "-o", "snap.yaml"))
    jobs.kubectl("delete", "role,rolebinding", "eidos", "-n", namespace)
    jobs.kubectl("create", "rolebinding", "nina", "--clusterrole=admin", "--user=nina", "-n", namespace)
    nina = jobs.cluster.user_kubeconfig("nina")
    good(jobs.eidos("--namespace", namespace, *GPU_NODE, "-o", "snap.yaml", kubeconfig=nina))


def test_a_namespace_that_somebody_began_to_use_stays(jobs: Jobs) -> None:
    """Made by one run for a while; when the next such run ends, somebody else has put something there."""
    name = "shared"
    jobs.kubectl("create", "namespace", name)
    try:
        jobs.kubectl("annotate", "namespace", name, "eidos.nvidia.com/run=earlier")
        jobs.kubectl("create", "deployment", "theirs", "--image=registry.example/none:1", "--replicas=0", "-n", name)
        done = jobs.eidos("--namespace", name, "--cleanup-rbac", "--unique-name", *GPU_NODE, "-o", "snap.yaml")
        assert f"namespace {name} stays, because deployments theirs is in it" in done.stderr
        assert jobs.names("deployments", name) == {"theirs"}
    finally:
        jobs.kubectl("delete", "namespace", name, "--timeout=100s")
        jobs.forget()


def test_no_cleanup_leaves_everything(jobs: Jobs, namespace: str) -> None:
    good(jobs.eidos("--namespace", namespace, "--no-cleanup", *GPU_NODE, "-o", "snap.yaml"))
    assert jobs.names("jobs", namespace) == {"eidos"}
    (stored,) = jobs.names("configmaps", namespace) - {"kube-root-ca.crt"}
    # It is the Job's: deleting the one deletes the other.
    jobs.kubectl("delete", "job", "eidos", "-n", namespace)
    jobs.kubectl("wait", "--for=delete", f"configmap/{stored}", "-n", namespace, "--timeout=100s")


def test_a_finished_job_of_that_name_is_replaced(jobs: Jobs, namespace: str) -> None:
    good(jobs.eidos("--namespace", namespace, "--no-cleanup", *GPU_NODE, "-o", "snap.yaml"))
    jobs.complete("eidos", namespace)
    uid = jobs.get("job", "eidos", "-n", namespace)["metadata"]["uid"]
    good(jobs.eidos("--namespace", namespace, "--no-cleanup", *GPU_NODE, "-o", "snap.yaml"))
    assert jobs.get("job", "eidos", "-n", namespace)["metadata"]["uid"] != uid


def test_restricted_where_nothing_else_is_admitted(jobs: Jobs, namespace: str) -> None:
    jobs.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    done = jobs.eidos("--namespace", namespace, "--no-privileged", "-o", "snap.yaml")
    good(done)
    assert "OS.release failed (permission_denied): /etc/os-release cannot be seen" in done.stderr


def test_a_runtime_class(jobs: Jobs, namespace: str) -> None:
    runtime = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "nvidia"},
        "handler": "nvidia",
    }
    jobs.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(runtime))
    try:
        flags = ("--runtime-class", "nvidia", "--no-cleanup", "-o", "snap.yaml")
        good(jobs.eidos("--namespace", namespace, *GPU_NODE, *flags))
        (pod,) = jobs.get("pods", "-n", namespace)["items"]
        assert pod["spec"]["runtimeClassName"] == "nvidia"
    finally:
        jobs.kubectl("delete", "runtimeclass", "nvidia")


@pytest.mark.parametrize(
    "flags", [(), ("--unique-name",), ("--cleanup-rbac",)], ids=["same-name", "unique", "cleanup"]
)
def test_ten_at_once(jobs: Jobs, flags: tuple[str, ...]) -> None:
    """Ten snapshots, no collision, nothing left; the namespace is made by whoever comes first."""
    before = jobs.everything()
    common = ("--namespace", "crowd", "--timeout", "240s", *GPU_NODE, *flags)
    try:
        running = [jobs.start(*common, "-o", f"snap-{number}.yaml") for number in range(10)]
        ended = [(process.communicate(timeout=250), process.returncode) for process in running]
        assert [(said, status) for (_, said), status in ended if status != 0] == []
        nodes = [
            load_snapshot((jobs.folder / f"snap-{n}.yaml").read_bytes(), "").metadata.source_node for n in range(10)
        ]
        assert nodes == ["gpu-1"] * 10
        if "--cleanup-rbac" in flags:
            jobs.kubectl("wait", "--for=delete", "namespace/crowd", "--timeout=100s")
            assert jobs.everything() == before
        else:
            assert jobs.names("jobs", "crowd") == set()
            assert jobs.names("configmaps", "crowd") == {"kube-root-ca.crt"}
    finally:
        jobs.kubectl("delete", "namespace", "crowd", "--ignore-not-found", "--timeout=100s")
        jobs.forget()
    assert jobs.everything() == before


def test_several_contexts_and_namespaces(jobs: Jobs, contexts: Path) -> None:
    """Side by side, each with its own output; one ClusterRoleBinding serves all namespaces."""
    flags = ("--context", "staging", "--context", "prod-us-east", "--namespace", "east", "--namespace", "west")
    try:
        done = jobs.eidos(*flags, *GPU_NODE, "-o", "{context}.{namespace}.yaml", kubeconfig=contexts)
        good(done)
        written = {path.name for path in jobs.folder.glob("*.yaml")}
        assert written == {f"{c}.{n}.yaml" for c in ("staging", "prod-us-east") for n in ("east", "west")}
        # Before the table come notes: the two contexts are one cluster, so that the runs meet.
        lines = done.stderr.splitlines()[-5:]
        assert lines[0].split() == ["CONTEXT", "NAMESPACE", "NODE", "RESULT", "SECONDS", "OUTPUT"]
        assert [line.split()[:4] for line in lines[1:]] == [
            [c, n, "gpu-1", "ok"] for c in ("staging", "prod-us-east") for n in ("east", "west")
        ]
        for path in jobs.folder.glob("*.yaml"):
            collected = load_snapshot(path.read_bytes(), path.name).collection
            assert [entry for entry in collected if entry.code] == []
        subjects = jobs.get("clusterrolebinding", "eidos")["subjects"]
        assert {subject["namespace"] for subject in subjects} == {"east", "west"}
    finally:
        jobs.kubectl("delete", "namespace", "east", "west", "--ignore-not-found", "--timeout=100s")
        jobs.forget()


def test_one_of_several_fails(jobs: Jobs, namespace: str, contexts: Path) -> None:
    flags = ("--context", "staging", "--namespace", namespace, "--namespace", "strict", "-o", "{namespace}.yaml")
    with jobs.namespace("strict", "pod-security.kubernetes.io/enforce=baseline"):
        done = jobs.eidos(*flags, *GPU_NODE, kubeconfig=contexts)
    assert done.returncode == 4
    assert (jobs.folder / f"{namespace}.yaml").exists()
    assert not (jobs.folder / "strict.yaml").exists()
    assert re.search(rf"staging +{namespace} +gpu-1 +ok", done.stderr)
    assert re.search(r"staging +strict +failed .*violates PodSecurity", done.stderr)


def test_the_log_is_streamed(jobs: Jobs, namespace: str) -> None:
    hold_nvml(jobs.cluster)
    run = Watched(jobs.start("--namespace", namespace, "--debug", *GPU_NODE, "-o", "snap.yaml"))
    run.wait_for("the pod runs on node gpu-1")
    run.wait_for(": log: systemd: ok in ")
    let_nvml_answer(jobs.cluster)
    assert run.end() == 0, run.said
    phases = re.findall(r"^\S+: (permissions|rbac|job|pod|collect|retrieve|cleanup)$", run.said, re.MULTILINE)
    assert phases == ["permissions", "rbac", "job", "pod", "collect", "retrieve", "cleanup"]
    assert "snapshot of gpu-1 written to snap.yaml" in run.said


def test_nothing_is_said_without_a_terminal(jobs: Jobs, namespace: str) -> None:
    done = jobs.eidos("--namespace", namespace, *GPU_NODE, "-o", "snap.yaml")
    assert (good(done), done.stderr) == ("", "")


def test_progress_on_a_terminal(jobs: Jobs, namespace: str) -> None:
    hold_nvml(jobs.cluster)
    ours, theirs = pty.openpty()
    environment = {**jobs.environment(), "TERM": "xterm-256color", "COLUMNS": "120"}
    command = jobs.command("--namespace", namespace, *GPU_NODE, "-o", "snap.yaml")
    process = subprocess.Popen(command, env=environment, cwd=jobs.folder, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
            if b"the pod runs on node gpu-1" in shown:
                let_nvml_answer(jobs.cluster)
    except OSError:  # the other end is closed: EIO
        pass
    os.close(ours)
    assert process.wait(timeout=30) == 0, shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"\bpod +[\d.]+ s", text)
    assert re.search(r"\bcollect +[\d.]+ s +the pod runs on node gpu-1", text)
    assert re.search(r"snapshot of gpu-1 written to snap.yaml \(permissions [\d.]+ s, ", text)
