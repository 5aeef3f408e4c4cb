"""Each way a run fails is explained in a sentence with the cluster's own words, long before its time is over."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.jobmode import CHECKOUT, GPU_NODE, Jobs

pytestmark = pytest.mark.cluster


def _fails(
    jobs: Jobs, namespace: str, *arguments: str, kubeconfig: Path | None = None, image: str | None = None
) -> tuple[int, str]:
    """Exit status and what was said; the run gave up long before its time, and left no Job behind."""
    done = jobs.eidos(*("--namespace", namespace, "--timeout", "90s"), *arguments, kubeconfig=kubeconfig, image=image)
    assert done.returncode != 0, done.stdout
    assert done.stdout == ""
    assert "out of time" not in done.stderr
    assert "left behind" not in done.stderr
    assert jobs.kubectl("get", "jobs", "-n", namespace, "-o", "name") == ""
    assert jobs.names("configmaps", namespace) == {"kube-root-ca.crt"}
    return done.returncode, done.stderr


def test_no_node_matches(jobs: Jobs, namespace: str) -> None:
    status, said = _fails(jobs, namespace, "--node-selector", "no-such=label")
    assert status == 4
    assert "the pod cannot be scheduled: 0/2 nodes are available: 2 node(s) didn't match" in said
    assert "--node-selector" in said


def test_a_taint_is_not_tolerated(jobs: Jobs, namespace: str) -> None:
    _, said = _fails(jobs, namespace, *GPU_NODE, "--toleration", "other:NoSchedule")
    assert "untolerated taint" in said
    assert "--toleration" in said


def test_the_image_cannot_be_pulled(jobs: Jobs, namespace: str) -> None:
    status, said = _fails(jobs, namespace, image="registry.example/none:1")
    assert status == 4
    assert "the image registry.example/none:1 cannot be pulled on node" in said
    assert "--image-pull-secret" in said


def test_the_image_is_not_there_and_never_pulled(jobs: Jobs, namespace: str) -> None:
    _, said = _fails(jobs, namespace, "--image-pull-policy", "Never", image="registry.example/none:1")
    assert "ErrImageNeverPull" in said


def test_a_user_who_may_do_nothing_hears_what_is_missing(jobs: Jobs, namespace: str) -> None:
    before = jobs.everything(namespace)
    status, said = _fails(jobs, namespace, kubeconfig=jobs.cluster.user_kubeconfig("mallory"))
    assert status == 4
    clauses = said.split("; nor ")
    assert [c for c in clauses if re.search(rf"\bcreate .*\bjobs\.batch\b.* in namespace {namespace}", c)], said
    assert [c for c in clauses if re.search(rf"\bwatch .*\bpods\b.* in namespace {namespace}", c)], said
    assert "Nothing was created" in said
    assert jobs.everything(namespace) == before


def test_a_user_who_may_not_grant_what_the_role_grants(jobs: Jobs, namespace: str) -> None:
    """RBAC lets nobody grant what they do not have, which no access review tells."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "may-make-roles", "labels": {"app.kubernetes.io/name": "eidos"}},
        "rules": [
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["get", "create", "patch"]},
            {"apiGroups": ["", "batch"], "resources": ["jobs", "configmaps", "serviceaccounts"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["pods", "namespaces"], "verbs": ["list", "watch"]},
        ],
    }
    jobs.kubectl("apply", "-f", "-", stdin=json.dumps(role))
    binding = ("clusterrolebinding", "may-make-roles")
    jobs.kubectl("create", *binding, "--clusterrole=may-make-roles", "--user=carol")
    jobs.kubectl("label", *binding, "app.kubernetes.io/name=eidos")
    before = jobs.everything(namespace)
    _, said = _fails(jobs, namespace, kubeconfig=jobs.cluster.user_kubeconfig("carol"))
    assert "attempting to grant RBAC permissions not currently held" in said
    assert "Nothing was created" in said
    assert jobs.everything(namespace) == before


def test_pod_security_refuses_privileges(jobs: Jobs, namespace: str) -> None:
    jobs.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=baseline")
    status, said = _fails(jobs, namespace)
    assert status == 4
    assert 'violates PodSecurity "baseline' in said
    assert "--no-privileged" in said


def test_a_quota_refuses_the_pod(jobs: Jobs, namespace: str) -> None:
    jobs.quota(namespace, "pods=0")
    _, said = _fails(jobs, namespace)
    assert "exceeded quota: none" in said


def test_a_quota_refuses_the_job_itself(jobs: Jobs, namespace: str) -> None:
    jobs.quota(namespace, "count/jobs.batch=0")
    _, said = _fails(jobs, namespace)
    assert "exceeded quota: none" in said


def test_a_namespace_that_is_going(jobs: Jobs) -> None:
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "finalizers": ["eidos.test/held"]},
    }
    name = "going"
    jobs.kubectl("create", "namespace", name)
    jobs.kubectl("apply", "-n", name, "-f", "-", stdin=json.dumps(held))
    jobs.kubectl("delete", "namespace", name, "--wait=false")
    try:
        done = jobs.eidos("--namespace", name)
    finally:
        jobs.kubectl(
            "patch", "configmap", "held", "-n", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
        )
    assert done.returncode == 4
    assert f"namespace {name} is being deleted" in done.stderr


def test_a_container_that_fails_shows_its_last_words(jobs: Jobs, namespace: str, slow_image: str) -> None:
    status, said = _fails(jobs, namespace, "--systemd-units", "crash", image=slow_image)
    assert status == 4
    assert "the snapshot has failed on node" in said
    assert "with status 7" in said
    assert "  line 12\n" in said
    assert "line 2\n" not in said  # the last ten are shown


@contextmanager
def _gpus(jobs: Jobs, node: str, count: int) -> Iterator[None]:
    """What a device plugin makes of a node."""

    def say(operation: dict[str, str]) -> None:
        # kubelet would take the capacity over as allocatable at its next report, in up to ten seconds.
        places = [f"/status/{which}/nvidia.com~1gpu" for which in ("capacity", "allocatable")]
        patch = json.dumps([{**operation, "path": place} for place in places])
        jobs.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", patch)

    say({"op": "add", "value": str(count)})
    try:
        yield
    finally:
        say({"op": "remove"})


def test_no_node_offers_a_gpu(jobs: Jobs, namespace: str) -> None:
    _, said = _fails(jobs, namespace, "--require-gpu")
    assert "Insufficient nvidia.com/gpu" in said


def test_a_node_that_promised_a_gpu_and_has_none(jobs: Jobs, namespace: str) -> None:
    with _gpus(jobs, "cpu-1", 1):
        status, said = _fails(jobs, namespace, "--require-gpu")
    assert status == 3
    assert "a GPU is required, but on node cpu-1 there is none to read" in said


def test_a_gpu_that_is_required_and_there(jobs: Jobs, namespace: str) -> None:
    with _gpus(jobs, "gpu-1", 8):
        done = jobs.eidos("--namespace", namespace, "--require-gpu")
    assert done.returncode == 0, done.stderr
    assert "gpu-count: 8" in done.stdout


def test_what_the_job_asks_for_makes_no_sense(jobs: Jobs, namespace: str) -> None:
    before = jobs.everything(namespace)
    status, said = _fails(jobs, namespace, "--requests", "cpu=2", "--limits", "cpu=1")
    assert status == 4
    assert "must be less than or equal to cpu limit" in said
    assert jobs.everything(namespace) == before


def test_a_runtime_class_that_is_not_there(jobs: Jobs, namespace: str) -> None:
    _, said = _fails(jobs, namespace, "--runtime-class", "no-such-class")
    assert 'RuntimeClass "no-such-class" not found' in said


def test_out_of_time_says_what_was_waited_for(jobs: Jobs, namespace: str, slow_image: str) -> None:
    done = jobs.eidos("--namespace", namespace, "--timeout", "20s", image=slow_image)
    assert done.returncode in (4, 5)  # the Job's own deadline may come first
    assert "the pod runs on node" in done.stderr or "the Job ran into its own deadline" in done.stderr
    assert jobs.kubectl("get", "jobs", "-n", namespace, "-o", "name") == ""


def test_the_table_of_failures_is_documented() -> None:
    """docs/job-mode.md explains the sentences that are tested here."""
    text = (CHECKOUT / "docs/job-mode.md").read_text()
    sentences = (
        "the pod cannot be scheduled",
        "cannot be pulled on node",
        "you may not",
        "the pod cannot be created",
    )
    assert [sentence for sentence in sentences if sentence not in text] == []
