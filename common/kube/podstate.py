"""What keeps a pod from running, in the cluster's own words. Pure.

What an API promises as a reason code decides; its message only explains.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, NamedTuple

from common.kube.types import Condition, ContainerState, ContainerStatus, Event, Pod

# Reasons of a waiting container that do not pass by themselves (kubelet's images and container packages).
_HOPELESS: Final = frozenset(
    (
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    )
)
_IMAGE_TROUBLE: Final = frozenset(("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"))
_SCALING: Final = frozenset(("TriggeredScaleUp", "Nominated", "NominatedNode"))
"""Events that say a node is being made for the pod: cluster-autoscaler's, Karpenter's."""

GRACE: Final = 3.0
"""Seconds that trouble which may pass, such as a pull that is tried again, is given."""


class Cause(StrEnum):
    """What kind of trouble it is, for whoever adds what to do about it."""

    NONE = ""
    SCHEDULING = "scheduling"
    IMAGE = "image"
    START = "start"


class PodState(NamedTuple):
    """How a pod that does not run is getting on."""

    explanation: str
    """One sentence without its full stop."""
    cause: Cause = Cause.NONE
    hopeless: bool = False
    """It will not get better by waiting."""
    passing: bool = False
    """Trouble that may pass: hopeless once it has lasted GRACE seconds."""


FindEvent = Callable[..., Event | None]
"""Given reasons, the latest event about the pod with one of them."""


def unscheduled(pod: Pod, event: FindEvent) -> PodState:
    """Of a pod that is on no node."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled is None or scheduled.status == "True":
        return PodState("the pod waits for the scheduler")
    if scheduled.reason == "SchedulingGated":
        return PodState(f"the pod is held back from scheduling: {clean(scheduled.message)}")
    said = f"the pod cannot be scheduled: {clean(scheduled.message)}"
    if (scaling := event(*_SCALING)) is not None:
        return PodState(f"{said}; a node is being made: {clean(scaling.message)}")
    return PodState(said, Cause.SCHEDULING, passing=scheduled.reason == "Unschedulable")


def starting(status: ContainerStatus | None, event: FindEvent, where: str = "") -> PodState:
    """Of a pod on a node whose container neither runs nor has ended. `where` is ` on node NAME` or nothing."""
    waiting = (status.state if status else ContainerState()).waiting
    if waiting is not None and waiting.reason in _HOPELESS:
        said = f"the container cannot start{where}: {waiting.reason}: {clean(waiting.message)}"
        return PodState(said, Cause.START, hopeless=True)
    if waiting is not None and waiting.reason in _IMAGE_TROUBLE:
        pull = event("Failed")
        message = waiting.message if waiting.reason == "ErrImagePull" or pull is None else pull.message
        said = (
            f"the image {status.image if status else ''} cannot be pulled{where}: {waiting.reason}: {clean(message)}"
        )
        return PodState(said, Cause.IMAGE, passing=True)
    if (trouble := event("FailedMount", "FailedCreatePodSandBox", "FailedAttachVolume")) is not None:
        return PodState(f"the pod does not start{where}: {clean(trouble.message)}")
    return PodState(f"the pod starts{where}")


def condition(pod: Pod, kind: str) -> Condition | None:
    """A condition of the pod, if it has that one."""
    return next((condition for condition in pod.status.conditions if condition.type == kind), None)


def clean(message: str) -> str:
    """One line of bounded length, without a full stop."""
    line = " ".join("".join(c if c.isprintable() else " " for c in message[:2000]).split()).rstrip(".")
    return line if len(line) <= 600 else line[:599] + "…"
