"""What is known of an installation that is coming up, and what that means. Pure: fed by watches, asked while waiting.

The words are the cluster's own, see common/kube/podstate.py.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from common.kube.podstate import GRACE, Cause, PodState, clean, condition, starting, unscheduled
from common.kube.types import ApiService, ContainerStatus, DaemonSet, Deployment, Event, Node, Pod
from installer.settings import COMPONENT

CONTAINER: Final = "eidos"
CRASH_GRACE: Final = 15.0
"""Seconds a crash is given: what a container needs may come up a moment after it."""
_CRASHING: Final = "CrashLoopBackOff"
# What the DaemonSet controller counts versions of the pod's template by (k8s.io/api/apps/v1).
_GENERATION: Final = "deprecated.daemonset.template.generation"
_GENERATION_LABEL: Final = "pod-template-generation"
_HINTS: Final = {
    Cause.SCHEDULING: "Make room on a node, or tolerate its taints.",
    Cause.IMAGE: "Check the image, --image-pull-secret, and that the nodes reach the registry.",
}
_OF_ONE_POD: Final = re.compile(r'^Error creating: |pods "[^"]*" is forbidden: ')
_QUOTA: Final = "Raise the namespace's quota, or choose another --namespace."
_ADMISSION: Final = "Choose a --namespace that admits such pods, or --overlay restricted."


class Part(StrEnum):
    """The two workloads, by their component label."""

    AGENT = "agent"
    AGGREGATOR = "aggregator"


class Verdict(NamedTuple):
    """What the situation means for one workload now."""

    done: bool
    explanation: str
    """One sentence without its full stop."""
    patience: float | None = None
    """Seconds that this trouble is given to pass by itself; None when there is none."""
    hint: str = ""


class Agents(NamedTuple):
    """How far the agents are, those of the wanted version."""

    desired: int
    ready: int
    troubled: dict[str, list[str]]
    """What keeps agents from coming up, with the nodes it does that on; the most frequent first."""
    starting: list[str]
    """Nodes whose agents are on their way, as far as can be seen."""
    refused: str = ""
    """Why no pods can be made."""
    hint: str = ""
    counted: bool = True
    """Whether the cluster has counted how many there should be."""
    pods: int = 0
    """How many there are, in whatever state and of whatever version."""

    @property
    def done(self) -> bool:
        return self.counted and self.ready >= self.desired and not self.troubled

    @property
    def stuck(self) -> bool:
        """All that are not ready are in trouble, and no more are to come."""
        return bool(self.refused) or (bool(self.troubled) and not self.starting and self.pods >= self.desired)


@dataclass(slots=True)
class Situation:
    """Everything seen so far."""

    deployment: Deployment | None = None
    daemon_set: DaemonSet | None = None
    api_service: ApiService | None = None
    pods: dict[str, Pod] = field(default_factory=dict)
    """By UID."""
    events: dict[str, dict[str, Event]] = field(default_factory=dict)
    """By the UID of what they are about, then their own: thousands of pods each look for theirs, again and again."""
    generations: dict[Part, int] = field(default_factory=dict)
    """Of the workloads as they were applied: what watches bring may be older for a moment."""
    lost_nodes: set[str] = field(default_factory=set)
    """Nodes that the cluster says are not ready."""

    def take_event(self, event: Event, gone: bool = False) -> None:
        """An event came, changed or went."""
        about = event.involved_object.uid
        if not gone:
            self.events.setdefault(about, {})[event.metadata.uid] = event
        elif about in self.events:
            self.events[about].pop(event.metadata.uid, None)
            if not self.events[about]:
                del self.events[about]

    def is_current(self, part: Part, workload: Deployment | DaemonSet) -> bool:
        """Whether its controller has seen what was applied."""
        applied = max(workload.metadata.generation, self.generations.get(part, 0))
        return workload.status.observed_generation >= applied

    def of(self, part: Part) -> list[Pod]:
        """A workload's pods, the newest first."""
        found = (p for p in self.pods.values() if p.metadata.labels.get(COMPONENT) == part.value)
        live = (pod for pod in found if not pod.metadata.deletion_timestamp)
        return sorted(live, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name), reverse=True)

    def refusal(self, kinds: Iterable[str]) -> Event | None:
        """The latest event that says why a controller of these kinds cannot make pods."""
        every = (event for about in self.events.values() for event in about.values())
        chosen = (e for e in every if e.reason == "FailedCreate" and e.involved_object.kind in kinds)
        return max(chosen, key=_when, default=None)

    def event(self, pod: Pod, *reasons: str) -> Event | None:
        """The latest event about the pod with one of these reasons."""
        chosen = (e for e in self.events.get(pod.metadata.uid, {}).values() if e.reason in reasons)
        return max(chosen, key=_when, default=None)


def judge_aggregator(situation: Situation) -> Verdict:
    """Done when one of the wanted version leads, and none of another is left."""
    wanted = situation.deployment
    if wanted is None:
        return Verdict(False, "there is no Deployment yet")
    status = wanted.status
    current = situation.is_current(Part.AGGREGATOR, wanted)
    if current and status.replicas == status.updated_replicas >= wanted.spec.replicas and status.ready_replicas:
        return Verdict(True, "an aggregator leads")
    pods = situation.of(Part.AGGREGATOR)
    if not pods:
        refused = situation.refusal(("ReplicaSet", "Deployment"))
        if refused is not None:
            why, hint = _refusal(refused)
            return Verdict(False, f"its pod cannot be created: {why}", GRACE, hint)
        return Verdict(False, "there is no pod yet")
    if status.replicas > status.updated_replicas:
        return Verdict(False, "the aggregator of before makes room")
    states = [pod_state(situation, pod) for pod in pods]
    worst = max(states, key=lambda state: (state.hopeless, state.passing))
    return Verdict(False, worst.explanation, _patience(worst), _HINTS.get(worst.cause, ""))


def judge_agents(situation: Situation) -> Agents:
    """How many of the agents there should be are ready, and why the others are not."""
    wanted = situation.daemon_set
    if wanted is None or not situation.is_current(Part.AGENT, wanted):
        return Agents(0, 0, {}, [], counted=False)
    pods = situation.of(Part.AGENT)
    ready = 0
    troubled: dict[str, list[str]] = {}
    on_their_way: list[str] = []
    hint = ""
    for pod in pods:
        if is_ready(pod):
            ready += _is_current(pod, wanted)
            continue
        state = pod_state(situation, pod)
        if pod.spec.node_name in situation.lost_nodes:
            troubled.setdefault("the node is not ready", []).append(pod.spec.node_name)
        elif state.hopeless or state.passing:
            hint = hint or _HINTS.get(state.cause, "")
            troubled.setdefault(state.explanation, []).append(node_of(pod))
        else:
            on_their_way.append(node_of(pod))
    event = situation.refusal(("DaemonSet",)) if not pods else None
    refused, refusal_hint = _refusal(event) if event else ("", "")
    # Pods may be there before the status that counts them.
    desired = max(wanted.status.desired_number_scheduled, len({pod.spec.node_name for pod in pods} - {""}))
    return Agents(
        desired,
        ready,
        {why: sorted(nodes) for why, nodes in sorted(troubled.items(), key=lambda item: (-len(item[1]), item[0]))},
        sorted(on_their_way),
        f"their pods cannot be created: {refused}" if refused else "",
        refusal_hint or hint,
        pods=len(pods),
    )


def _refusal(event: Event) -> tuple[str, str]:
    """Why pods cannot be made, in words that are the same for every pod, and what to do."""
    said = _OF_ONE_POD.sub("", clean(event.message).removeprefix("(combined from similar events): "))
    return said, _QUOTA if "exceeded quota" in said else _ADMISSION


def _is_current(pod: Pod, wanted: DaemonSet) -> bool:
    """Whether the pod is of the version that is wanted now, rather than of the one before an upgrade."""
    generation = wanted.metadata.annotations.get(_GENERATION)
    return generation is None or pod.metadata.labels.get(_GENERATION_LABEL) == generation


def judge_api(situation: Situation) -> Verdict:
    """Done when kube-apiserver says that it reaches the aggregator."""
    service = situation.api_service
    for found in service.status.conditions if service else ():
        if found.type == "Available":
            if found.status == "True":
                return Verdict(True, "the cluster's API serves the fleet")
            said = f"{found.reason}: {clean(found.message)}" if found.reason else clean(found.message)
            return Verdict(False, f"kube-apiserver does not reach the aggregator: {said}")
    return Verdict(False, "kube-apiserver has not looked at the aggregator yet")


def pod_state(situation: Situation, pod: Pod) -> PodState:
    """How a pod that is not ready is getting on."""
    if not pod.spec.node_name:
        return unscheduled(pod, lambda *reasons: situation.event(pod, *reasons))
    status = next((status for status in pod.status.container_statuses if status.name == CONTAINER), None)
    if pod.status.phase == "Failed":
        return PodState(f"the pod has failed: {pod.status.reason or 'no reason given'}: {clean(pod.status.message)}",
                        Cause.START, passing=True)  # fmt: skip
    if status is not None and (crashed := _crashed(status)):
        return PodState(crashed, Cause.START, passing=True)
    if status is not None and status.state.running is not None:
        return PodState("the pod runs and is not ready yet")
    return starting(status, lambda *reasons: situation.event(pod, *reasons))


def _crashed(status: ContainerStatus) -> str:
    """What a container that keeps ending says last; empty for one that does not."""
    ended = status.state.terminated or status.last_state.terminated
    waiting = status.state.waiting
    if ended is None or (status.state.running is not None and status.restart_count < 2):
        return ""
    if waiting is not None and waiting.reason not in (_CRASHING, ""):
        return ""
    why = f" ({ended.reason})" if ended.reason not in ("", "Error", "Completed") else ""
    lines = [line for line in ended.message.splitlines() if line.strip()]
    last = f": {clean(lines[-1])}" if lines else ""
    return f"the container keeps ending with status {ended.exit_code}{why}{last}"


def _patience(state: PodState) -> float | None:
    if state.hopeless:
        return 0.0
    if state.passing:
        return CRASH_GRACE if state.cause is Cause.START else GRACE
    return None


def is_ready(pod: Pod) -> bool:
    """Whether the pod's own condition says so."""
    ready = condition(pod, "Ready")
    return ready is not None and ready.status == "True"


def node_of(pod: Pod) -> str:
    """The node a pod is on, or is meant for and cannot be put on."""
    return pod.spec.node_name or pod.metadata.name


def is_lost(node: Node) -> bool:
    """Whether the cluster says that the node is not ready."""
    return any(found.type == "Ready" and found.status != "True" for found in node.status.conditions)


def _when(event: Event) -> str:
    return event.last_timestamp or event.event_time or ""
