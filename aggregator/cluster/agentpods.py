"""What the pods of agents say about nodes: whether an agent runs, and why not. Pure.

Reasons are the same text for as long as the trouble is the same, whatever kubelet is doing about it just then.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from aggregator.ledger import Agent
from common.kube.types import ContainerState, ContainerStatus, ObjectMeta, PodStatus

_IMAGE: Final = frozenset(("ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable"))
_STARTING: Final = frozenset(("", "ContainerCreating", "PodInitializing"))
_NODE_NAME: Final = "metadata.name"


class _Requirement(msgspec.Struct, frozen=True, gc=False):
    key: str = ""
    values: list[str] = []


class _Term(msgspec.Struct, frozen=True, rename="camel", gc=False):
    match_fields: list[_Requirement] = []


class _Required(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_selector_terms: list[_Term] = []


class _NodeAffinity(msgspec.Struct, frozen=True, rename="camel", gc=False):
    required: _Required = msgspec.field(default=_Required(), name="requiredDuringSchedulingIgnoredDuringExecution")


class _Affinity(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_affinity: _NodeAffinity = _NodeAffinity()


class _Spec(msgspec.Struct, frozen=True, rename="camel", gc=False):
    node_name: str = ""
    affinity: _Affinity = _Affinity()


class AgentPod(msgspec.Struct, frozen=True, gc=False):
    """core/v1 Pod, the part that matters here."""

    metadata: ObjectMeta = ObjectMeta()
    spec: _Spec = _Spec()
    status: PodStatus = PodStatus()


class AgentState(NamedTuple):
    """How an agent is."""

    agent: Agent
    reason: str = ""


NONE: Final = AgentState(Agent.DOWN, "no agent's pod is on the node")
GOING: Final = AgentState(Agent.DOWN, "its agent's pod is being removed")


def node_of(pod: AgentPod) -> str:
    """The node that a pod is on, or that its DaemonSet made it for; empty when neither is known."""
    if pod.spec.node_name:
        return pod.spec.node_name
    for term in pod.spec.affinity.node_affinity.required.node_selector_terms:
        for requirement in term.match_fields:
            if requirement.key == _NODE_NAME and len(requirement.values) == 1:
                return requirement.values[0]
    return ""


def state_of(pod: AgentPod) -> AgentState:
    """How the agent in a pod is."""
    if pod.metadata.deletion_timestamp:
        return GOING
    if pod.status.phase in ("Failed", "Succeeded"):
        why = f" ({pod.status.reason})" if pod.status.reason else ""
        return AgentState(Agent.DOWN, f"its agent's pod has ended{why}")
    if not pod.spec.node_name:
        return AgentState(Agent.DOWN, "its agent's pod cannot be scheduled")
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses):
        if why := _trouble(status):
            return AgentState(Agent.DOWN, why)
    if any(status.state.running is not None for status in pod.status.container_statuses):
        return AgentState(Agent.RUNNING)
    return AgentState(Agent.DOWN, "its agent's pod is starting")


def best(states: Iterable[AgentState]) -> AgentState:
    """Of several pods on a node, as while one replaces another, the one that says most for the node."""
    return min(states, key=lambda state: (state.agent is not Agent.RUNNING, state == GOING), default=NONE)


def _trouble(status: ContainerStatus) -> str:
    """Why a container does not run; empty where it does, or is just starting."""
    waiting = status.state.waiting.reason if status.state.waiting else ""
    if waiting in _IMAGE:
        return "its agent's image cannot be pulled"
    if waiting == "CrashLoopBackOff" or (status.restart_count and status.state.running is None):
        return f"its agent keeps ending{_ending(status.state, status.last_state)}"
    return "" if waiting in _STARTING else f"its agent's container cannot start ({waiting})"


def _ending(*states: ContainerState) -> str:
    ended = next((state.terminated for state in states if state.terminated is not None), None)
    if ended is None:
        return ""
    return (
        f" ({ended.reason})"
        if ended.reason not in ("", "Error", "Completed")
        else f" (exit status {ended.exit_code})"
    )
