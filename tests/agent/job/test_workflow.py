"""A whole run against a cluster whose pods the test plays: what is told, what comes of it, what is left."""

import asyncio
from typing import Any

import pytest

from agent.job.config import RUN_ANNOTATION, CleanupOptions, Config
from agent.job.deployer import Deployer
from agent.job.workflow import Observer, Phase, Report, run
from common.errors import ClusterError, Code
from common.kube.client import Kube
from tests.agent.job.conftest import target
from tests.agent.job.fake import JobApi
from tests.agent.job.shapes import IMAGE
from tests.fakes.apiserver import Asked

SNAPSHOT = "kind: Snapshot\n"
DONE = {"phase": "Succeeded"}
RUNNING = {"phase": "Running", "containerStatuses": [{"name": "eidos", "state": {"running": {}}}]}
KEPT = {"namespaces", "serviceaccounts", "roles", "rolebindings", "clusterroles", "clusterrolebindings"}


class Played:
    """What the Job controller, the scheduler, the kubelet and the agent do with each Job."""

    def __init__(self, api: JobApi, *statuses: dict[str, Any], stores: bool = True) -> None:
        self.jobs: list[Any] = []
        self._api = api
        self._statuses = statuses
        self._stores = stores
        api.on_job = self.play

    def play(self, job: Any) -> None:
        self.jobs.append(job)
        meta, pod = job["metadata"], job["spec"]["template"]["spec"]
        if self._stores:
            reference = pod["containers"][0]["args"][2].removeprefix("cm://")
            namespace, _, name = reference.partition("/")
            data = {"snapshot.yaml": SNAPSHOT, "format": "yaml", "timestamp": "2026-01-03T10:30:00Z"}
            self._api.add("configmaps", {"metadata": {"name": name}, "data": data}, namespace)
        if not self._statuses:
            return
        name = f"{meta['name']}-x7k2p"
        labels = job["spec"]["template"]["metadata"]["labels"] | {"batch.kubernetes.io/controller-uid": meta["uid"]}
        if name in self._api.names("pods"):  # of the Job before, which Kubernetes would have removed
            self._api.remove("pods", name, meta["namespace"])
        self._api.logs.setdefault(name, ["2026-01-03T10:30:00Z said by the pod", "(end)"])
        body = {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": "gpu-1"}, "status": RUNNING}
        self._api.add("pods", body, meta["namespace"])
        resource = next(r for r in self._api.resources if r.plural == "pods")
        for status in self._statuses:
            self._api.store.merge(resource, (meta["namespace"], name), {"status": status})


class Heard(Observer):
    """Remembers what a run told."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self.details: list[str] = []
        self.notes: list[str] = []
        self.lines: list[str] = []
        self.running = asyncio.Event()

    def phase(self, phase: Phase) -> None:
        self.phases.append(phase)

    def detail(self, text: str) -> None:
        self.details.append(text)
        if "the pod runs" in text:
            self.running.set()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def log(self, line: str) -> None:
        self.lines.append(line)


def _failed(code: int, message: str = "") -> dict[str, Any]:
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": message}}
    return {"phase": "Failed", "containerStatuses": [{"name": "eidos", "image": IMAGE, "state": state}]}


async def _run(api: JobApi, config: Config | None = None, heard: Heard | None = None, **more: Any) -> Report:
    return await run(target(api), config or Config(seconds=30), heard or Heard(), **more)


async def test_a_run_brings_the_snapshot_and_keeps_the_rbac_objects(api: JobApi) -> None:
    played, heard = Played(api, DONE), Heard()
    report = await _run(api, Config(seconds=30, debug=True), heard)
    assert (report.snapshot, report.node) == (SNAPSHOT.encode(), "gpu-1")
    assert heard.phases == list(Phase)
    assert heard.lines == ["said by the pod"]
    assert heard.notes == []
    assert list(report.seconds) == list(Phase)
    assert len(played.jobs) == 1
    assert {plural for plural, _ in api.everything()} - {"pods"} == KEPT


async def test_keep_leaves_all(api: JobApi) -> None:
    Played(api, DONE)
    await _run(api, keep=True)
    assert len(api.names("jobs")) == len(api.names("configmaps")) == 1


async def test_an_output_that_was_asked_for_stays(api: JobApi) -> None:
    Played(api, DONE)
    api.add("namespaces", {"metadata": {"name": "gpu-operator"}})
    report = await _run(api, Config(seconds=30, output="cm://gpu-operator/eidos-snapshot"))
    assert report.output == "cm://gpu-operator/eidos-snapshot"
    assert api.names("configmaps") == ["eidos-snapshot"]


async def test_cleanup_removes_the_rbac_objects_and_the_namespace(api: JobApi) -> None:
    Played(api, DONE)
    await _run(api, Config(seconds=30, cleanup_rbac=True))
    # The pod goes with its Job, which is for Kubernetes to do.
    assert {plural for plural, _ in api.everything()} == {"pods"}


@pytest.mark.parametrize("aggregated", [True, False])
@pytest.mark.parametrize("kind", ["configmaps", "deployments", "roles", "leases", "widgets"])
async def test_a_namespace_stays_whatever_others_put_there(api: JobApi, kind: str, aggregated: bool) -> None:
    """Made for this run; what came meanwhile is asked for by the resources the API server says it has."""
    api.aggregated_discovery = aggregated
    played, heard = Played(api, DONE), Heard()

    def on_job(job: Any) -> None:
        played.play(job)
        api.add(kind, {"metadata": {"name": "theirs"}}, "gpu-operator")

    api.on_job = on_job
    await _run(api, Config(seconds=30, cleanup_rbac=True), heard)
    assert heard.notes == [f"namespace gpu-operator stays, because {kind} theirs is in it"]
    assert api.names("namespaces") == ["gpu-operator"]


async def test_what_is_kept_nowhere_holds_no_namespace(api: JobApi) -> None:
    """The metrics of a pod go with it, and events say only what was."""
    Played(api, DONE)
    api.add("podmetrics", {"metadata": {"name": "eidos-x7k2p"}}, "gpu-operator")
    api.add("events", {"metadata": {"name": "eidos-x7k2p.1"}}, "gpu-operator")
    await _run(api, Config(seconds=30, cleanup_rbac=True))
    assert api.names("namespaces") == []


async def test_missing_permissions_are_all_named_before_anything_is_made(api: JobApi) -> None:
    api.denied = {("create", "jobs"), ("watch", "pods"), ("create", "clusterroles")}
    with pytest.raises(ClusterError) as raised:
        await _run(api)
    assert raised.value.code is Code.CLUSTER_FORBIDDEN
    for what in ("create jobs.batch in namespace gpu-operator", "watch pods", "create clusterroles.rbac"):
        assert what in raised.value.message
    assert api.everything() == set()


async def test_only_what_is_needed_is_asked_about(api: JobApi) -> None:
    """An administrator has made the RBAC objects: whoever runs the Job needs no right to make any."""
    Played(api, DONE)
    await _run(api)
    api.reviews.clear()
    api.on_job = lambda job: None
    Played(api, DONE)
    await _run(api)
    assert {review["resource"] for review in api.reviews} == {"jobs", "pods", "configmaps"}


@pytest.mark.parametrize("readable", [True, False], ids=["from-the-log", "from-the-status"])
async def test_a_failure_has_the_last_words(api: JobApi, readable: bool) -> None:
    Played(api, _failed(1, message="kept by the kubelet"), stores=False)
    if not readable:
        api.forbidden.add(("get", "pods"))
    with pytest.raises(ClusterError) as raised:
        await _run(api)
    assert raised.value.message.startswith("the snapshot has failed on node gpu-1 with status 1. Its last words:")
    assert ("said by the pod" if readable else "kept by the kubelet") in raised.value.message
    assert api.names("jobs") == []


async def test_no_gpu_is_another_status(api: JobApi) -> None:
    Played(api, _failed(3))
    with pytest.raises(ClusterError) as raised:
        await _run(api, Config(seconds=30, require_gpu=True))
    assert (raised.value.code, raised.value.exit_status) == (Code.GPU_REQUIRED, 3)


async def test_out_of_time_says_what_was_seen_last(api: JobApi) -> None:
    Played(api, RUNNING, stores=False)
    with pytest.raises(ClusterError, match=r"out of time after 3 s: the pod runs on node gpu-1") as raised:
        await _run(api, Config(seconds=3))
    assert raised.value.code is Code.DEADLINE
    assert api.names("jobs") == []


async def test_a_job_that_somebody_deletes(api: JobApi) -> None:
    Played(api, RUNNING, stores=False)
    heard = Heard()
    task = asyncio.create_task(_run(api, heard=heard))
    await heard.running.wait()
    api.remove("jobs", "eidos", "gpu-operator")
    with pytest.raises(ClusterError, match="somebody deleted Job gpu-operator/eidos while it ran"):
        await task


async def test_a_cancelled_run_cleans_up_first(api: JobApi) -> None:
    Played(api, RUNNING, stores=False)
    heard = Heard()
    task = asyncio.create_task(_run(api, heard=heard))
    await heard.running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert api.names("jobs") == []
    assert heard.phases[-1] is Phase.CLEANUP


async def test_what_cannot_be_removed_is_said_with_how_to(api: JobApi) -> None:
    Played(api, DONE)
    api.forbidden |= {("delete", "jobs"), ("delete", "configmaps")}
    heard = Heard()
    await _run(api, heard=heard)
    (note,) = heard.notes
    assert note.startswith("left behind: Job gpu-operator/eidos, ConfigMap gpu-operator/eidos-snapshot-")
    assert "Remove with: kubectl delete jobs eidos -n gpu-operator; kubectl delete configmap eidos-snapshot-" in note


async def test_events_and_output_may_be_out_of_sight(api: JobApi) -> None:
    api.forbidden |= {("list", "events"), ("list", "configmaps")}
    Played(api, DONE)
    assert (await _run(api)).node == "gpu-1"


_BY_HAND = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "snapshot"}
"""The labels of manifests/job/2-job.yaml."""


@pytest.mark.parametrize("whose", [{"labels": _BY_HAND}, {"annotations": {RUN_ANNOTATION: "theirs"}}])
async def test_a_living_job_is_left_alone(api: JobApi, whose: dict[str, Any]) -> None:
    theirs = {"metadata": {"name": "eidos", **whose}, "status": {"active": 1}}
    uid = api.add("jobs", theirs, "gpu-operator")["metadata"]["uid"]
    Played(api, DONE)
    heard = Heard()
    await _run(api, heard=heard)
    assert api.one("jobs", "eidos")["metadata"]["uid"] == uid
    assert "another run is using the Job's name" in heard.notes[0]


@pytest.mark.parametrize("status", [{"active": 1}, {"conditions": [{"type": "Complete", "status": "True"}]}])
async def test_somebody_elses_job_is_never_deleted(api: JobApi, status: dict[str, Any]) -> None:
    """Finished or not; and nothing is made beside it."""
    theirs = {"metadata": {"name": "db-migrate", "labels": {"app": "db"}}, "status": status}
    api.add("jobs", theirs, "gpu-operator")
    before = api.everything()
    with pytest.raises(ClusterError, match="Job gpu-operator/db-migrate was not made by Eidos") as raised:
        await _run(api, Config(seconds=30, job_name="db-migrate"))
    assert raised.value.code is Code.CLUSTER_CONFLICT
    assert "--job-name" in raised.value.hint
    assert api.everything() == before


@pytest.mark.parametrize("whose", [{"labels": _BY_HAND}, {"annotations": {RUN_ANNOTATION: "theirs"}}])
async def test_a_finished_job_is_replaced(api: JobApi, whose: dict[str, Any]) -> None:
    finished = {"conditions": [{"type": "Complete", "status": "True"}]}
    job = {"metadata": {"name": "eidos", **whose}, "status": finished}
    uid = api.add("jobs", job, "gpu-operator")["metadata"]["uid"]
    Played(api, DONE)
    await _run(api, keep=True)
    assert api.one("jobs", "eidos")["metadata"]["uid"] != uid


async def test_rbac_objects_in_use_stay(api: JobApi, kube: Kube) -> None:
    """They were made by an earlier run, and another Job is running with them."""
    Played(api, DONE)
    await _run(api)
    labels = {"app.kubernetes.io/name": "eidos"}
    api.add("jobs", {"metadata": {"name": "other", "labels": labels}, "status": {"active": 1}}, "gpu-operator")
    Played(api, DONE)
    heard = Heard()
    await _run(api, Config(seconds=30, cleanup_rbac=True), heard)
    assert heard.notes[0] == "the RBAC objects stay, because Job other is using them"
    assert api.names("serviceaccounts") == ["eidos"]


async def test_the_library_step_by_step(api: JobApi, kube: Kube) -> None:
    """As agent/job/__init__.py shows it."""
    Played(api, DONE)
    async with kube:
        deployer = Deployer(kube, Config(node_selector={"nvidia.com/gpu.present": "true"}))
        checks = await deployer.check_permissions()
        assert checks
        assert all(check.allowed for check in checks)
        await deployer.deploy()
        await deployer.wait_for_pod_ready(30)
        await deployer.wait_for_completion(30)
        assert await deployer.get_snapshot() == SNAPSHOT.encode()
        assert await deployer.get_pod_logs() == "said by the pod\n"
        streamed: list[str] = []
        await deployer.stream_logs(streamed.append, prefix="| ")
        assert streamed == ["| said by the pod"]
        await deployer.cleanup(CleanupOptions(enabled=False))
        assert api.names("jobs") == ["eidos"]
        await deployer.cleanup(CleanupOptions(rbac=True))
    assert {plural for plural, _ in api.everything()} == {"pods"}


async def test_steps_out_of_order_are_refused(kube: Kube) -> None:
    async with kube:
        with pytest.raises(ClusterError, match="the Job has not been deployed"):
            await Deployer(kube, Config()).wait_for_completion(1)


async def test_names_that_turn_out_to_be_taken_leave_nothing(api: JobApi) -> None:
    """Another run, in another namespace, makes the ClusterRole between our look and our creation."""
    Played(api, DONE)
    theirs = {"metadata": {"name": "eidos", "annotations": {RUN_ANNOTATION: "theirs"}}}

    def before(asked: Asked) -> None:
        if (asked.verb, asked.plural, asked.query.get("dryRun")) == ("create", "serviceaccounts", None):
            api.before = lambda asked: None
            api.add("clusterroles", theirs)

    api.before = before
    heard = Heard()
    await _run(api, Config(seconds=30, cleanup_rbac=True), heard)
    assert heard.notes[0].startswith("ClusterRole eidos belongs to another run; this run uses eidos-")
    assert api.everything() - {("clusterroles", ("", "eidos"))} == {("pods", ("gpu-operator", "eidos-x7k2p"))}


@pytest.mark.parametrize("cleanup_rbac", [True, False])
async def test_somebody_elses_roles_are_left_alone(api: JobApi, cleanup_rbac: bool) -> None:
    """A ClusterRole that is not ours keeps its rules, whatever it is called."""
    Played(api, DONE)
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    api.add("serviceaccounts", {"metadata": {"name": "gpu-operator"}}, "gpu-operator")
    theirs = api.add("clusterroles", {"metadata": {"name": "gpu-operator"}, "rules": rules})
    heard = Heard()
    config = Config(seconds=30, service_account_name="gpu-operator", cleanup_rbac=cleanup_rbac)
    await _run(api, config, heard)
    assert heard.notes[0].startswith(
        "ClusterRole gpu-operator was not made by Eidos and is left alone; this run uses gpu-operator-"
    )
    assert api.names("serviceaccounts") == ["gpu-operator"]
    assert list(api.store.all("clusterroles")) == [theirs]


async def test_a_role_is_there_before_it_is_bound(api: JobApi) -> None:
    """An administrator of the namespace only may bind no role that the API server cannot look at."""
    Played(api, DONE)
    there: list[tuple[str, bool]] = []

    def before(asked: Asked) -> None:
        if asked.verb == "create" and asked.plural.endswith("bindings"):
            there.append((asked.plural, bool(api.names(asked.plural.removesuffix("bindings") + "s"))))

    api.before = before
    await _run(api)
    assert sorted(there) == [("clusterrolebindings", True), ("rolebindings", True)]
