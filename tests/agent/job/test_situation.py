"""What the states of a Job, its pod and their events mean, in the words a user gets.

Each case: what was seen; the stage, the explanation, and whether it is trouble that may pass or that will not.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.job.situation import Situation, Stage, Verdict, judge
from common.kube.types import Event, Job, Pod
from tests.agent.job.shapes import JOB_UID, event, job, pod, terminated, unscheduled, waiting

NO_NODE = (
    "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, "
    "1 node(s) had untolerated taint {nvidia.com/gpu: present}. preemption: not eligible."
)
PULL = 'rpc error: code = NotFound desc = failed to pull and unpack image "x": not found'
BACK_OFF = 'Back-off pulling image "x"'
QUOTA = 'Error creating: pods "eidos-x7k2p" is forbidden: exceeded quota: one, requested: pods=1, used: pods=1'

Seen = list[Job | Pod | Event]
CASES: dict[str, tuple[Seen, tuple[Stage, str, str]]] = {
    "just created": ([job()], (Stage.CREATED, "the Job has no pod yet", "")),
    "pod refused by admission": (
        [job(active=0), event("FailedCreate", QUOTA, JOB_UID)],
        (Stage.CREATED, f"the pod cannot be created: {QUOTA}", "passing"),
    ),
    "event of another Job": (
        [job(), event("FailedCreate", QUOTA, "somebody else")],
        (Stage.CREATED, "the Job has no pod yet", ""),
    ),
    "waits for the scheduler": (
        [job(), pod(node="", scheduled=("True", "", ""))],
        (Stage.CREATED, "the pod waits for the scheduler", ""),
    ),
    "unschedulable": (
        [job(), unscheduled(NO_NODE)],
        (Stage.CREATED, f"the pod cannot be scheduled: {NO_NODE.rstrip('.')}", "passing"),
    ),
    "a node is being made for it": (
        [job(), unscheduled("0/0 nodes are available."), event("TriggeredScaleUp", "pod triggered scale-up: 0->1")],
        (
            Stage.CREATED,
            "the pod cannot be scheduled: 0/0 nodes are available; "
            "a node is being made: pod triggered scale-up: 0->1",
            "",
        ),
    ),
    "the scheduler itself failed": (
        [job(), unscheduled("running PreFilter plugin: timeout", "SchedulerError")],
        (Stage.CREATED, "the pod cannot be scheduled: running PreFilter plugin: timeout", ""),
    ),
    "held back by a gate": (
        [job(), unscheduled("Scheduling is blocked due to non-empty scheduling gates", "SchedulingGated")],
        (
            Stage.CREATED,
            "the pod is held back from scheduling: Scheduling is blocked due to non-empty scheduling gates",
            "",
        ),
    ),
    "on a node, nothing known": ([job(), pod()], (Stage.SCHEDULED, "the pod starts on node gpu-1", "")),
    "container being made": (
        [job(), waiting("ContainerCreating")],
        (Stage.SCHEDULED, "the pod starts on node gpu-1", ""),
    ),
    "volume cannot be mounted": (
        [job(), waiting("ContainerCreating"), event("FailedMount", 'hostPath type check failed: / is no "File"')],
        (Stage.SCHEDULED, 'the pod does not start on node gpu-1: hostPath type check failed: / is no "File"', ""),
    ),
    "image: first failure": (
        [job(), waiting("ErrImagePull", PULL)],
        (
            Stage.SCHEDULED,
            f"the image ghcr.io/nvidia/eidos:latest cannot be pulled on node gpu-1: ErrImagePull: {PULL}",
            "passing",
        ),
    ),
    "image: backing off, the event knows why": (
        [job(), waiting("ImagePullBackOff", BACK_OFF), event("Failed", f"Failed to pull image: {PULL}")],
        (
            Stage.SCHEDULED,
            "the image ghcr.io/nvidia/eidos:latest cannot be pulled on node gpu-1: ImagePullBackOff: "
            f"Failed to pull image: {PULL}",
            "passing",
        ),
    ),
    "image never to be pulled": (
        [job(), waiting("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never')],
        (
            Stage.SCHEDULED,
            "the container cannot start on node gpu-1: ErrImageNeverPull: "
            'Container image "x" is not present with pull policy of Never',
            "hopeless",
        ),
    ),
    "container cannot be made": (
        [job(), waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")],
        (
            Stage.SCHEDULED,
            "the container cannot start on node gpu-1: CreateContainerConfigError: "
            "container has runAsNonRoot and image will run as root",
            "hopeless",
        ),
    ),
    "running": ([job(), pod("Running", state={"running": {}})], (Stage.RUNNING, "the pod runs on node gpu-1", "")),
    "container ended, the Job has not noticed": (
        [job(), terminated(1, phase="Running")],
        (Stage.RUNNING, "the pod has ended on node gpu-1 with status 1", ""),
    ),
    "pod succeeded": (
        [job(), terminated(0, "Completed", "Succeeded")],
        (Stage.SUCCEEDED, "the pod has succeeded", ""),
    ),
    "Job complete": (
        [job(("Complete", "CompletionsReached", "")), terminated(0, "Completed", "Succeeded")],
        (Stage.SUCCEEDED, "the Job is complete", ""),
    ),
    "pod failed": (
        [job(), terminated(3)],
        (Stage.FAILED, "the snapshot has failed on node gpu-1 with status 3", ""),
    ),
    "out of memory": (
        [job(), terminated(137, "OOMKilled")],
        (Stage.FAILED, "the snapshot has failed on node gpu-1 with status 137 (OOMKilled)", ""),
    ),
    "Job failed for its pod": (
        [job(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")), terminated(1)],
        (Stage.FAILED, "the snapshot has failed on node gpu-1 with status 1", ""),
    ),
    "Job failed, its pod is gone": (
        [job(("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"))],
        (
            Stage.FAILED,
            "the Job has failed: BackoffLimitExceeded: Job has reached the specified backoff limit",
            "",
        ),
    ),
    "Job ran out of time": (
        [job(("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline"))],
        (
            Stage.FAILED,
            "the Job ran into its own deadline: Job was active longer than specified deadline",
            "",
        ),
    ),
    "evicted": (
        [job(), pod("Failed", reason="Evicted", message="The node was low on resource: memory.")],
        (
            Stage.FAILED,
            "the pod has failed on node gpu-1: Evicted: The node was low on resource: memory",
            "",
        ),
    ),
}


def _situation(*seen: Job | Pod | Event) -> Situation:
    situation = Situation(JOB_UID)
    for item in seen:
        if isinstance(item, Job):
            situation.job = item
        elif isinstance(item, Pod):
            situation.pods[item.metadata.uid] = item
        else:
            situation.events[item.metadata.uid] = item
    return situation


@pytest.mark.parametrize("name", CASES)
def test_what_is_seen_means(name: str) -> None:
    seen, expected = CASES[name]
    verdict = judge(_situation(*seen))
    trouble = "hopeless" if verdict.hopeless else "passing" if verdict.passing else ""
    assert (verdict.stage, verdict.explanation, trouble) == expected


def test_trouble_a_user_can_mend_says_how() -> None:
    for seen in (
        [job(), unscheduled(NO_NODE)],
        [job(), waiting("ErrImagePull")],
        CASES["pod refused by admission"][0],
    ):
        assert "--" in judge(_situation(*seen)).hint


def test_a_snapshot_that_is_stored_is_enough_unless_the_job_failed() -> None:
    situation = _situation(job(), pod("Running", state={"running": {}}))
    situation.stored = True
    assert judge(situation) == Verdict(Stage.SUCCEEDED, "the snapshot is stored")
    situation.job = job(("Failed", "BackoffLimitExceeded", "x"))
    assert judge(situation).stage is Stage.FAILED


def test_the_newest_pod_counts() -> None:
    old = pod("Failed", uid="old", reason="Preempted", created="2026-01-03T10:30:00Z")
    new = pod("Running", uid="new", state={"running": {}}, created="2026-01-03T10:30:05Z")
    assert judge(_situation(job(), new, old)).stage is Stage.RUNNING


def test_the_latest_event_counts_whichever_api_wrote_it() -> None:
    seen: Seen = [
        job(),
        event("FailedCreate", "first", JOB_UID, at="2026-01-03T10:30:01Z"),
        event("FailedCreate", "last", JOB_UID, at="x", event_time="2026-01-03T10:30:09.000000Z"),
        event("FailedCreate", "second", JOB_UID, at="2026-01-03T10:30:02Z"),
    ]
    assert judge(_situation(*seen)).explanation == "the pod cannot be created: last"


@given(st.text(max_size=3000))
def test_an_explanation_is_one_printable_line_of_bounded_length(message: str) -> None:
    explanation = judge(_situation(job(), unscheduled(message))).explanation
    assert explanation.isprintable()
    assert len(explanation) < 700
    assert not explanation.endswith(".")
