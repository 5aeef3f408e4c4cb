"""Expected nodes: what Node objects and agents' pods say, in words that stay the same while the trouble does."""

import asyncio
from typing import Any

import msgspec
import pytest

from aggregator.cluster.agentpods import AgentPod, best, node_of, state_of
from aggregator.cluster.nodes import ExpectedNodes, NodeObject
from aggregator.ledger import Agent, Expected
from common.topology import TaintId
from tests.aggregator.cluster.conftest import kube_of
from tests.fakes.apiserver import FakeApiServer
from tests.fleet.scene import until

GPU_ONLY = TaintId("gpu", "NoSchedule", "")
LABELS = {"app.kubernetes.io/name": "eidos", "app.kubernetes.io/component": "agent"}


def pod(status: Any = None, node: str = "n1", **metadata: Any) -> dict[str, Any]:
    name = metadata.pop("name", "p")
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "eidos", "labels": LABELS, **metadata},
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running", "containerStatuses": [status]} if status else {"phase": "Pending"},
    }


def container(restarts: int = 0, last: Any = None, **state: Any) -> dict[str, Any]:
    return {"name": "eidos", "restartCount": restarts, "state": state, "lastState": last or {}}


def read(document: dict[str, Any]) -> AgentPod:
    return msgspec.convert(document, AgentPod)


def ended(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


@pytest.mark.parametrize(
    ("document", "agent", "reason"),
    [
        (pod(container(running={})), Agent.RUNNING, ""),
        (pod(container(3, ended(1), running={})), Agent.RUNNING, ""),
        (pod(), Agent.DOWN, "its agent's pod is starting"),
        (pod(node=""), Agent.DOWN, "its agent's pod cannot be scheduled"),
        (pod(container(waiting={"reason": "ContainerCreating"})), Agent.DOWN, "its agent's pod is starting"),
        (pod(container(waiting={"reason": "ErrImagePull"})), Agent.DOWN, "its agent's image cannot be pulled"),
        (pod(container(waiting={"reason": "ImagePullBackOff"})), Agent.DOWN, "its agent's image cannot be pulled"),
        (
            pod(container(waiting={"reason": "CreateContainerConfigError"})),
            Agent.DOWN,
            "its agent's container cannot start (CreateContainerConfigError)",
        ),
        (
            pod(container(4, ended(2), waiting={"reason": "CrashLoopBackOff"})),
            Agent.DOWN,
            "its agent keeps ending (exit status 2)",
        ),
        (pod(container(4, **ended(2))), Agent.DOWN, "its agent keeps ending (exit status 2)"),
        (
            pod(container(4, ended(137, "OOMKilled"), waiting={"reason": "CrashLoopBackOff"})),
            Agent.DOWN,
            "its agent keeps ending (OOMKilled)",
        ),
        (
            {**pod(), "status": {"phase": "Failed", "reason": "Evicted"}},
            Agent.DOWN,
            "its agent's pod has ended (Evicted)",
        ),
        (
            pod(container(running={}), deletionTimestamp="2026-01-01T00:00:00Z"),
            Agent.DOWN,
            "its agent's pod is being removed",
        ),
    ],
)
def test_what_a_pod_says(document: dict[str, Any], agent: Agent, reason: str) -> None:
    assert state_of(read(document)) == (agent, reason)


def test_a_pod_that_is_on_no_node_yet_is_known_by_what_its_daemon_set_wants() -> None:
    fields = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n7"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [fields]}}
    document = pod(node="")
    document["spec"]["affinity"] = {"nodeAffinity": required}
    assert node_of(read(document)) == "n7"
    assert node_of(read(pod(node=""))) == ""


def test_of_several_pods_the_one_that_runs_counts() -> None:
    going = state_of(read(pod(container(running={}), deletionTimestamp="2026-01-01T00:00:00Z")))
    coming, running = state_of(read(pod())), state_of(read(pod(container(running={}))))
    assert best([going, coming]) == coming
    assert best([going, running, coming]) == running
    assert best([]) == (Agent.DOWN, "no agent's pod is on the node")


def node(name: str, status: str = "True", reason: str = "KubeletReady", **labels: str) -> dict[str, Any]:
    conditions = [
        {"type": "MemoryPressure", "status": "False"},
        {"type": "Ready", "status": status, "reason": reason},
    ]
    return {"metadata": {"name": name, "labels": labels}, "status": {"conditions": conditions}}


async def test_following_a_cluster(api: FakeApiServer) -> None:
    first = node("n1", zone="a")
    first["spec"] = {"providerID": "gce://p/z/n1", "taints": [{"key": "gpu", "effect": "NoSchedule"}]}
    first["status"]["nodeInfo"] = {"kubeletVersion": "v1.36.3"}
    facts = {"source-node": "n1", "provider": "gke", "provider-id": "gce://p/z/n1", "kubelet-version": "v1.36.3"}
    api.add("nodes", first)
    api.add("nodes", node("n2", "False", "KubeletNotReady"))
    api.add("pods", pod(container(running={})), "eidos")
    async with kube_of(api) as kube:
        nodes = ExpectedNodes(kube, "eidos")
        following = asyncio.create_task(nodes.follow())
        await asyncio.wait_for(nodes.synced.wait(), 60)
        none = "no agent's pod is on the node"
        not_ready = "kubelet says that the node is not ready (KubeletNotReady)"
        assert [msgspec.structs.replace(each, uid="") for each in nodes.expected()] == [
            Expected("n1", labels={"zone": "a"}, agent=Agent.RUNNING, taints=(GPU_ONLY,), facts=facts),
            Expected("n2", False, not_ready, {}, Agent.DOWN, none, facts={"source-node": "n2"}),
        ]
        assert nodes.node_of_pod("uid-p") == "n1"
        assert nodes.node_of_pod("uid-q") is None
        before = nodes.expected()
        assert nodes.expected() is before, "made anew only when something changed"
        api.add("nodes", node("n3", "Unknown", "NodeStatusUnknown"))
        await until(lambda: len(nodes.expected()) == 3)
        assert nodes.expected()[2].reason == "kubelet has fallen silent"
        api.remove("pods", "p", "eidos")
        await until(lambda: nodes.expected()[0].agent is Agent.DOWN)
        api.remove("nodes", "n1")
        await until(lambda: [each.node for each in nodes.expected()] == ["n2", "n3"])
        api.store.compact()
        api.add("nodes", node("n0"))
        api.drop_watches()
        await until(lambda: [each.node for each in nodes.expected()] == ["n0", "n2", "n3"])
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def test_another_machine_of_the_same_name_is_told_of() -> None:
    def made(name: str, uid: str, **labels: str) -> NodeObject:
        return msgspec.convert({"metadata": {"name": name, "uid": uid, "labels": labels}}, NodeObject)

    new: list[str] = []
    nodes = ExpectedNodes(None, "eidos")  # type: ignore[arg-type]  # no API server is asked here
    nodes.on_new = new.append
    nodes.set_nodes([made("n1", "a"), made("n2", "b")])
    nodes.set_node(made("n1", "a", zone="z"), gone=False)
    assert new == ["n1", "n2"]
    nodes.set_node(made("n1", "a"), gone=True)
    nodes.set_node(made("n1", "c"), gone=False)
    assert new == ["n1", "n2", "n1"]
    nodes.set_nodes([made("n1", "c"), made("n2", "d")])
    assert new == ["n1", "n2", "n1", "n2"], "nobody saw the old one go"


async def test_only_the_nodes_selected(api: FakeApiServer) -> None:
    api.add("nodes", node("n1", gpu="true"))
    api.add("nodes", node("n2"))
    async with kube_of(api) as kube:
        nodes = ExpectedNodes(kube, "eidos", "gpu=true")
        following = asyncio.create_task(nodes.follow())
        await asyncio.wait_for(nodes.synced.wait(), 60)
        assert [each.node for each in nodes.expected()] == ["n1"]
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_node_that_never_reported(api: FakeApiServer) -> None:
    api.add("nodes", {"metadata": {"name": "n1"}})
    async with kube_of(api) as kube:
        nodes = ExpectedNodes(kube, "eidos")
        following = asyncio.create_task(nodes.follow())
        await asyncio.wait_for(nodes.synced.wait(), 60)
        assert (nodes.expected()[0].ready, nodes.expected()[0].reason) == (False, "kubelet has not reported yet")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
