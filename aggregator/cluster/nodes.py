"""The expected nodes, as the cluster's Node objects and the agents' pods say. Two watches; nothing is polled."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import aclosing
from sys import intern
from typing import Final

import msgspec

from aggregator.cluster.agentpods import NONE, AgentPod, AgentState, best, node_of, state_of
from aggregator.ledger import Expected
from common.errors import EidosError
from common.kube.call import Params, path_of
from common.kube.client import Kube
from common.kube.facts import node_facts
from common.kube.types import Condition, NodeInfo, NodeSpec
from common.kube.watch import ChangeKind, Reset, watch
from common.topology import TaintId

_log: Final = logging.getLogger(__name__)
_NODES: Final = path_of("v1", "nodes")
_AGENTS: Final = "app.kubernetes.io/name=eidos,app.kubernetes.io/component=agent"
_AGAIN_AFTER: Final = 5.0


class _Status(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    conditions: list[Condition] = []
    node_info: NodeInfo = NodeInfo()


class _Metadata(msgspec.Struct, frozen=True, gc=False):
    name: str = ""
    uid: str = ""
    labels: dict[str, str] = {}


class NodeObject(msgspec.Struct, frozen=True, gc=False):
    """core/v1 Node, the part that matters here."""

    metadata: _Metadata = _Metadata()
    spec: NodeSpec = NodeSpec()
    status: _Status = _Status()


class ExpectedNodes:
    """Which nodes there should be. `follow` it; `expected` is what is known now."""

    def __init__(self, kube: Kube, namespace: str, selector: str = "") -> None:
        """`selector` is a label selector of nodes; agents' pods are those of `namespace`."""
        self.synced = asyncio.Event()
        """Set when both nodes and pods have been read once."""
        self.on_new: Callable[[str], object] = lambda _: None
        """Hears the name of each Node object that was made: another machine may have had the name before."""
        self._kube = kube
        self._pods_path = path_of("v1", "pods", namespace)
        self._selector: Params = {"labelSelector": selector} if selector else {}
        self._nodes: dict[str, Expected] = {}
        self._pods: dict[str, tuple[str, AgentState]] = {}
        """By UID: the node, and how the agent is."""
        self._expected: list[Expected] | None = None
        self._unread = {"nodes", "pods"}

    def expected(self) -> list[Expected]:
        """All expected nodes, by name."""
        if self._expected is None:
            states = defaultdict(list)
            for node, state in self._pods.values():
                states[node].append(state)
            self._expected = [
                _with_agent(self._nodes[name], best(states[name]) if name in states else NONE)
                for name in sorted(self._nodes)
            ]
        return self._expected

    def node_of_pod(self, uid: str) -> str | None:
        """The node of an agent's pod."""
        return self._pods[uid][0] if uid in self._pods else None

    async def follow(self) -> None:
        """Keep up with the cluster, for ever."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._follow_nodes())
            both.create_task(self._follow_pods())

    async def _follow_nodes(self) -> None:
        while True:
            try:
                async with aclosing(watch(self._kube, _NODES, NodeObject, self._selector)) as changes:
                    async for change in changes:
                        if isinstance(change, Reset):
                            self.set_nodes(change.items)
                        else:
                            self.set_node(change.item, gone=change.kind is ChangeKind.DELETED)
            except EidosError as error:
                _log.error("nodes not watched", extra={"detail": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)

    async def _follow_pods(self) -> None:
        params = {"labelSelector": _AGENTS}
        while True:
            try:
                async with aclosing(watch(self._kube, self._pods_path, AgentPod, params)) as changes:
                    async for change in changes:
                        if isinstance(change, Reset):
                            self.set_pods(change.items)
                        else:
                            self.set_pod(change.item, gone=change.kind is ChangeKind.DELETED)
            except EidosError as error:
                _log.error("agents' pods not watched", extra={"detail": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)

    # ---- what the watches say

    def set_nodes(self, items: Iterable[NodeObject]) -> None:
        """These are all nodes."""
        before, self._nodes = self._nodes, {item.metadata.name: _expected(item) for item in items}
        for name, node in self._nodes.items():
            self._tell_new(before.get(name), node)
        self._read("nodes")

    def set_node(self, item: NodeObject, *, gone: bool) -> None:
        """One node has changed."""
        name, before = item.metadata.name, self._nodes.get(item.metadata.name)
        if gone:
            self._nodes.pop(name, None)
        elif (now := _expected(item)) != before:
            self._nodes[name] = now
            self._tell_new(before, now)
        else:
            return  # a heartbeat
        self._expected = None

    def set_pods(self, items: Iterable[AgentPod]) -> None:
        """These are all agents' pods."""
        self._pods = {item.metadata.uid: (node_of(item), state_of(item)) for item in items}
        self._read("pods")

    def set_pod(self, item: AgentPod, *, gone: bool) -> None:
        """One pod has changed."""
        if gone:
            self._pods.pop(item.metadata.uid, None)
        else:
            self._pods[item.metadata.uid] = node_of(item), state_of(item)
        self._expected = None

    def _tell_new(self, before: Expected | None, now: Expected) -> None:
        if before is None or before.uid != now.uid:
            self.on_new(now.node)

    def _read(self, what: str) -> None:
        self._expected = None
        self._unread.discard(what)
        if not self._unread:
            self.synced.set()


def _expected(node: NodeObject) -> Expected:
    name, status = node.metadata.name, node.status
    facts = node_facts(name, node.spec.provider_id, status.node_info)
    ready, reason = _readiness(next((one for one in status.conditions if one.type == "Ready"), None))
    return Expected(
        name,
        ready,
        reason,
        node.metadata.labels,
        taints=tuple(TaintId(taint.key, taint.effect, taint.value) for taint in node.spec.taints),
        # Thousands of nodes say the same.
        uid=node.metadata.uid,
        facts={key: intern(str(value)) for key, value in facts.items()},
    )


def _readiness(condition: Condition | None) -> tuple[bool, str]:
    if condition is None:
        return False, "kubelet has not reported yet"
    if condition.status == "True":
        return True, ""
    if condition.status == "Unknown":
        return False, "kubelet has fallen silent"
    return False, f"kubelet says that the node is not ready ({condition.reason})"


def _with_agent(node: Expected, state: AgentState) -> Expected:
    return msgspec.structs.replace(node, agent=state.agent, agent_reason=state.reason)
