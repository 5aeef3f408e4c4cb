"""What a run says is left: what it knows to be there, apart from what may be there, and nothing else."""

import asyncio

import pytest

from agent.job.config import Config
from agent.job.workflow import Phase, run
from common.errors import ClusterError
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from tests.agent.job.conftest import target
from tests.agent.job.fake import JobApi
from tests.agent.job.test_workflow import DONE, RUNNING, Heard, Played
from tests.fakes.apiserver import Asked, Fault

_CONFIG = Config(seconds=30)
_JOBS = "/apis/batch/v1/namespaces/gpu-operator/jobs"


async def _fails(api: JobApi, config: Config = _CONFIG) -> ClusterError:
    with pytest.raises(ClusterError) as raised:
        await run(target(api), config, Heard())
    return raised.value


async def test_a_lost_answer_makes_no_second_job(api: JobApi) -> None:
    """The Job was made, which a look finds out; the run goes on with it."""
    played, heard = Played(api, DONE), Heard()
    api.faults.append(Fault("late", f"POST {_JOBS}"))
    await run(target(api), _CONFIG, heard)
    assert len(played.jobs) == 1
    assert heard.notes == []
    assert api.names("jobs") == []


async def test_nobody_there(api: JobApi) -> None:
    heard = Heard()
    nowhere = Target(server="http://127.0.0.1:1", credentials=FixedCredentials(Credential()))
    with pytest.raises(ClusterError, match="cannot be reached") as raised:
        await run(nowhere, Config(seconds=1), heard)
    assert "left behind" not in str(raised.value)
    assert heard.phases == [Phase.PERMISSIONS, Phase.CLEANUP]


async def test_lost_before_the_job_was_asked_for(api: JobApi) -> None:
    """The RBAC objects are there, and meant to stay."""
    api.faults.append(Fault("drop", _JOBS, times=1000))
    error = await _fails(api, Config(seconds=1))
    assert "left behind" not in str(error)
    assert api.asked("delete", "jobs") == []


async def test_refused(api: JobApi) -> None:
    """What the API server has said no to is not there, also where nobody can look."""

    def then_out_of_sight(asked: Asked) -> None:
        if asked.verb == "create" and asked.plural == "jobs":
            api.forbidden |= {("get", "jobs"), ("get", "configmaps"), ("create", "jobs")}

    api.before = then_out_of_sight
    assert "left behind" not in str(await _fails(api))


async def test_nobody_knows(api: JobApi) -> None:
    """The answer was lost, and whether the Job was made cannot be found out any more."""

    def then_out_of_sight(asked: Asked) -> None:
        if asked.verb == "create" and asked.plural == "jobs":
            api.forbidden |= {("get", "jobs"), ("get", "configmaps")}

    api.before = then_out_of_sight
    api.faults.append(Fault("drop", f"POST {_JOBS}", times=1000))
    said = str(await _fails(api, Config(seconds=3)))
    assert "Also perhaps left behind: Job gpu-operator/eidos, ConfigMap gpu-operator/eidos-snapshot-" in said
    assert "kubectl delete jobs eidos -n gpu-operator --ignore-not-found; kubectl delete configmap" in said


async def test_what_is_known_comes_first(api: JobApi) -> None:
    """The Job is there; whether it has stored anything by now is not known."""
    Played(api, stores=False)
    api.forbidden |= {("delete", "jobs"), ("get", "configmaps")}
    said = str(await _fails(api, Config(seconds=3)))
    assert "Also left behind: Job gpu-operator/eidos and perhaps ConfigMap gpu-operator/eidos-snapshot-" in said


class _HeardCleaning(Heard):
    def __init__(self) -> None:
        super().__init__()
        self.cleaning = asyncio.Event()

    def phase(self, phase: Phase) -> None:
        super().phase(phase)
        if phase is Phase.CLEANUP:
            self.cleaning.set()


@pytest.mark.parametrize("cleanup_rbac", [False, True])
async def test_a_cleanup_that_is_cut_short_names_all_it_was_removing(api: JobApi, cleanup_rbac: bool) -> None:
    Played(api, RUNNING, stores=False)
    heard = _HeardCleaning()
    before = asyncio.all_tasks()
    running = asyncio.create_task(run(target(api), Config(seconds=30, cleanup_rbac=cleanup_rbac), heard))
    await heard.running.wait()
    running.cancel()
    await heard.cleaning.wait()
    for task in asyncio.all_tasks() - before:  # as a second Ctrl-C does
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (note,) = heard.notes
    assert note.startswith("the cleanup was cut short; perhaps left behind: Job gpu-operator/eidos, ConfigMap ")
    assert "Remove with: kubectl delete jobs eidos -n gpu-operator --ignore-not-found; kubectl delete config" in note
    assert ("kubectl delete clusterrolebindings eidos --ignore-not-found" in note) == cleanup_rbac
    assert ("kubectl delete namespaces gpu-operator --ignore-not-found" in note) == cleanup_rbac
