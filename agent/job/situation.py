"""What is known of a running Job, and what that means. Pure: fed by watches, asked by whoever waits.

The words are the cluster's own: the pod's condition, the container's state, the event (common/kube/podstate.py).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from agent.job.objects import CONTAINER
from common.kube.podstate import Cause, PodState, clean, starting, unscheduled
from common.kube.types import Condition, ContainerState, ContainerStatus, ContainerTerminated, Event, Job, Pod

_OTHER_NODES: Final = "Choose other nodes with --node-selector, or tolerate their taints with --toleration."
_CHECK_IMAGE: Final = "Check --image, --image-pull-secret, and whether the node reaches the registry."
_ADMISSION: Final = (
    "Choose a --namespace that admits such a pod, or change the pod with --no-privileged, --requests or --limits."
)


_HINTS: Final = {Cause.SCHEDULING: _OTHER_NODES, Cause.IMAGE: _CHECK_IMAGE}


class Stage(StrEnum):
    """How far a Job has come."""

    CREATED = "created"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Verdict(NamedTuple):
    """What the situation means now."""

    stage: Stage
    explanation: str
    """One sentence without its full stop."""
    hopeless: bool = False
    """It will not get better by waiting; for SUCCEEDED and FAILED it has no meaning."""
    passing: bool = False
    """Trouble that may pass: hopeless once it has lasted GRACE seconds."""
    hint: str = ""
    """What a user can do about it."""


@dataclass(slots=True)
class Situation:
    """Everything seen so far of one Job."""

    uid: str
    """Of the Job."""
    job: Job | None = None
    pods: dict[str, Pod] = field(default_factory=dict)
    """By UID."""
    events: dict[str, Event] = field(default_factory=dict)
    """By UID."""
    stored: bool = False
    """The snapshot is where the Job was to write it."""

    @property
    def pod(self) -> Pod | None:
        """The newest pod."""
        return max(self.pods.values(), key=lambda pod: pod.metadata.creation_timestamp, default=None)

    @property
    def ended(self) -> ContainerTerminated | None:
        """How our container ended; None while it has not."""
        status = container(self.pod) if self.pod else None
        return status.state.terminated if status else None

    def event(self, *reasons: str) -> Event | None:
        """The latest event about the Job or its pods with one of these reasons."""
        known = {self.uid, *self.pods}
        chosen = [e for e in self.events.values() if e.reason in reasons and e.involved_object.uid in known]
        return max(chosen, key=lambda event: event.last_timestamp or event.event_time or "", default=None)


def judge(situation: Situation) -> Verdict:
    """What the situation means."""
    job, pod = situation.job, situation.pod
    for condition in job.status.conditions if job else ():
        if condition.status == "True" and condition.type in ("Complete", "SuccessCriteriaMet"):
            return Verdict(Stage.SUCCEEDED, "the Job is complete")
        if condition.status == "True" and condition.type in ("Failed", "FailureTarget"):
            return Verdict(Stage.FAILED, _failed(condition, pod))
    if situation.stored:
        return Verdict(Stage.SUCCEEDED, "the snapshot is stored")
    if pod is None:
        refused = situation.event("FailedCreate")
        if refused is not None:
            return Verdict(Stage.CREATED, f"the pod cannot be created: {clean(refused.message)}", passing=True,
                           hint=_ADMISSION)  # fmt: skip
        return Verdict(Stage.CREATED, "the Job has no pod yet")
    if pod.status.phase == "Succeeded":
        return Verdict(Stage.SUCCEEDED, "the pod has succeeded")
    if pod.status.phase == "Failed":
        return Verdict(Stage.FAILED, _pod_failed(pod))
    if not pod.spec.node_name:
        return _verdict(Stage.CREATED, unscheduled(pod, situation.event))
    return _on_node(situation, pod)


def _on_node(situation: Situation, pod: Pod) -> Verdict:
    where = f" on node {pod.spec.node_name}"
    status = container(pod)
    state = status.state if status else ContainerState()
    if state.terminated is not None:
        # The Job's own condition follows at once; until then nothing is decided.
        return Verdict(Stage.RUNNING, f"the pod has ended{where} with status {state.terminated.exit_code}")
    if state.running is not None:
        return Verdict(Stage.RUNNING, f"the pod runs{where}")
    return _verdict(Stage.SCHEDULED, starting(status, situation.event, where))


def _verdict(stage: Stage, state: PodState) -> Verdict:
    return Verdict(stage, state.explanation, state.hopeless, state.passing, _HINTS.get(state.cause, ""))


def _failed(condition: Condition, pod: Pod | None) -> str:
    if condition.reason == "DeadlineExceeded":
        return f"the Job ran into its own deadline: {clean(condition.message)}"
    if pod is not None and pod.status.phase == "Failed":
        return _pod_failed(pod)
    return f"the Job has failed: {condition.reason}: {clean(condition.message)}"


def _pod_failed(pod: Pod) -> str:
    where = f" on node {pod.spec.node_name}" if pod.spec.node_name else ""
    status = container(pod)
    ended = status.state.terminated if status else None
    if ended is None:
        return f"the pod has failed{where}: {pod.status.reason or 'no reason given'}: {clean(pod.status.message)}"
    why = f" ({ended.reason})" if ended.reason not in ("", "Error") else ""
    return f"the snapshot has failed{where} with status {ended.exit_code}{why}"


def container(pod: Pod) -> ContainerStatus | None:
    """The status of our container."""
    return next((status for status in pod.status.container_statuses if status.name == CONTAINER), None)
