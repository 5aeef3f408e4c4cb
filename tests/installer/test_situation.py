"""What is made of what watches bring: pure, so every case has a line here."""

from typing import Any

import msgspec
import pytest

from common.kube.types import ApiService, DaemonSet, Deployment, Event, Node, Pod
from installer.situation import Part, Situation, is_lost, judge_agents, judge_aggregator, judge_api

_ROLE = {"agent": "node-1", "aggregator": "cpu-1"}


def pod(role: str, name: str = "", node: str | None = None, **status: Any) -> Pod:
    container = status.pop("container", {})
    ready = status.pop("ready", False)
    version = status.pop("version", "2")
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}, *status.pop("conditions", ())]
    return msgspec.convert(
        {
            "metadata": {
                "name": name or f"eidos-{role}-x",
                "uid": name or role,
                "labels": {"app.kubernetes.io/component": role, "pod-template-generation": version},
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"nodeName": _ROLE[role] if node is None else node},
            "status": {
                "phase": status.pop("phase", "Pending"),
                "conditions": conditions,
                "containerStatuses": [{"name": "eidos", "image": "reg/x:1", **container}],
                **status,
            },
        },
        Pod,
    )


def deployment(replicas: int = 1, updated: int = 1, ready: int = 0, **more: Any) -> Deployment:
    status = {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready}
    return msgspec.convert(
        {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": status | more}, Deployment
    )


def daemon_set(desired: int, observed: int = 1) -> DaemonSet:
    status = {"observedGeneration": observed, "desiredNumberScheduled": desired}
    annotations = {"deprecated.daemonset.template.generation": "2"}
    return msgspec.convert({"metadata": {"generation": 1, "annotations": annotations}, "status": status}, DaemonSet)


def event(reason: str, message: str, about: str, kind: str = "Pod") -> Event:
    return msgspec.convert(
        {
            "metadata": {"uid": reason + about},
            "reason": reason,
            "message": message,
            "involvedObject": {"uid": about, "kind": kind, "name": about},
            "lastTimestamp": "2026-01-01T00:00:00Z",
        },
        Event,
    )


def situation(*pods: Pod, events: tuple[Event, ...] = (), **more: Any) -> Situation:
    found = Situation(**more)
    found.pods = {pod.metadata.uid: pod for pod in pods}
    for each in events:
        found.take_event(each)
    return found


def waiting(reason: str, message: str = "no") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


def test_an_aggregator_leads_when_one_of_the_wanted_version_is_ready() -> None:
    assert judge_aggregator(situation(deployment=deployment(ready=1))).done
    assert not judge_aggregator(situation(deployment=deployment(ready=0))).done
    assert not judge_aggregator(situation()).done
    # Of a standby, which is never ready, none is waited for.
    assert judge_aggregator(situation(deployment=deployment(replicas=2, updated=2, ready=1))).done


def test_one_of_another_version_does_not_count() -> None:
    assert not judge_aggregator(situation(deployment=deployment(ready=1, observedGeneration=0))).done
    both = judge_aggregator(situation(pod("aggregator", ready=True), deployment=deployment(2, 1, ready=1)))
    assert (both.done, both.explanation) == (False, "the aggregator of before makes room")


@pytest.mark.parametrize(
    ("found", "said", "patience"),
    [
        (waiting("ErrImagePull", "not found"), "the image reg/x:1 cannot be pulled: ErrImagePull: not found", 3.0),
        (waiting("InvalidImageName", "bad"), "the container cannot start: InvalidImageName: bad", 0.0),
        (waiting("ContainerCreating"), "the pod starts", None),
        ({"state": {"running": {}}}, "the pod runs and is not ready yet", None),
        (
            {
                **waiting("CrashLoopBackOff"),
                "restartCount": 3,
                "lastState": {"terminated": {"exitCode": 2, "reason": "Error", "message": "one\nno token\n\n"}},
            },
            "the container keeps ending with status 2: no token",
            15.0,
        ),
        (
            {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}},
            "the container keeps ending with status 137 (OOMKilled)",
            15.0,
        ),
    ],
)
def test_what_keeps_an_aggregator_from_leading(found: dict[str, Any], said: str, patience: float | None) -> None:
    verdict = judge_aggregator(situation(pod("aggregator", container=found), deployment=deployment()))
    assert (verdict.done, verdict.explanation, verdict.patience) == (False, said, patience)


def test_a_pod_that_finds_no_node() -> None:
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes"}
    found = pod("aggregator", node="", conditions=[unscheduled])
    verdict = judge_aggregator(situation(found, deployment=deployment()))
    assert verdict.explanation == "the pod cannot be scheduled: 0/2 nodes"
    assert "Make room" in verdict.hint


def test_a_pod_that_may_not_be_made() -> None:
    said = '(combined from similar events): Error creating: pods "a-1" is forbidden: exceeded quota: none.'
    refused = event("FailedCreate", said, "eidos-aggregator-1", "ReplicaSet")
    verdict = judge_aggregator(situation(events=(refused,), deployment=deployment(0, 0)))
    assert verdict.explanation == "its pod cannot be created: exceeded quota: none", (
        "the same whatever the pod's name"
    )
    assert verdict.hint.startswith("Raise the namespace's quota")
    assert verdict.patience is not None
    agents = judge_agents(
        situation(events=(event("FailedCreate", "no.", "eidos-agent", "DaemonSet"),), daemon_set=daemon_set(2))
    )
    assert agents.refused == "their pods cannot be created: no"
    assert "--overlay restricted" in agents.hint


def test_agents_are_done_when_all_are_ready_and_of_the_wanted_version() -> None:
    new = [pod("agent", name, name, ready=True) for name in ("a", "b")]
    old = pod("agent", "c", "c", ready=True, version="1")
    assert judge_agents(situation(*new, daemon_set=daemon_set(2))).done
    assert not judge_agents(situation(*new, daemon_set=daemon_set(3))).done
    assert not judge_agents(situation(*new, old, daemon_set=daemon_set(3))).done
    assert not judge_agents(situation(*new, daemon_set=daemon_set(2, observed=0))).done
    assert not judge_agents(situation()).done
    # No node is selected: there is nothing to wait for.
    assert judge_agents(situation(daemon_set=daemon_set(0))).done


def test_what_was_there_before_it_was_applied_does_not_count() -> None:
    """A watch may bring the new version later than the answer to applying it."""
    before = situation(pod("agent", ready=True), daemon_set=daemon_set(1), deployment=deployment(ready=1))
    assert judge_agents(before).done
    assert judge_aggregator(before).done
    before.generations = {Part.AGENT: 2, Part.AGGREGATOR: 2}
    assert not judge_agents(before).done
    assert not judge_aggregator(before).done


def test_an_upgrade_that_no_agent_gets_through_is_stuck_with_none_ready() -> None:
    """The old ones that are left are ready, and do not count."""
    new = pod("agent", "a", "n1", container=waiting("ErrImagePull", "not found"))
    old = pod("agent", "b", "n2", ready=True, version="1")
    agents = judge_agents(situation(new, old, daemon_set=daemon_set(2)))
    assert (agents.ready, agents.stuck) == (0, True)


def test_agents_that_are_still_to_come_are_waited_for() -> None:
    """A controller makes thousands of pods one after the other; the first may be in trouble by then."""
    new = pod("agent", "a", "n1", container=waiting("ErrImagePull", "not found"))
    assert not judge_agents(situation(new, daemon_set=daemon_set(1000))).stuck
    assert judge_agents(situation(new, daemon_set=daemon_set(1))).stuck


def test_troubled_agents_are_grouped_by_what_keeps_them() -> None:
    found = situation(
        pod("agent", "a", "n1", ready=True),
        pod("agent", "b", "n2", container=waiting("ErrImagePull", "not found")),
        pod("agent", "c", "n3", container=waiting("ErrImagePull", "not found")),
        pod("agent", "d", "n4", container={"state": {"running": {}}}),
        pod("agent", "e", "n5", container={"state": {"running": {}}}),
        daemon_set=daemon_set(5),
        lost_nodes={"n4"},
    )
    agents = judge_agents(found)
    assert (agents.desired, agents.ready) == (5, 1)
    assert agents.troubled == {
        "the image reg/x:1 cannot be pulled: ErrImagePull: not found": ["n2", "n3"],
        "the node is not ready": ["n4"],
    }
    assert agents.starting == ["n5"]


def test_a_mount_that_fails_is_not_trouble_yet() -> None:
    """The certificate that agents mount comes a moment later."""
    slow = event("FailedMount", 'configmap "eidos-ca" not found', "a")
    found = situation(pod("agent", "a", container={}), events=(slow,), daemon_set=daemon_set(1))
    assert judge_agents(found).starting == ["node-1"]


def test_the_api_is_there_when_kube_apiserver_says_so() -> None:
    def service(status: str, reason: str = "", message: str = "") -> ApiService:
        found = {"type": "Available", "status": status, "reason": reason, "message": message}
        return msgspec.convert({"status": {"conditions": [found]}}, ApiService)

    assert judge_api(situation(api_service=service("True"))).done
    failing = judge_api(situation(api_service=service("False", "FailedDiscoveryCheck", "x509: unknown.")))
    assert failing.explanation == "kube-apiserver does not reach the aggregator: FailedDiscoveryCheck: x509: unknown"
    assert not judge_api(situation()).done


def test_lost_nodes_are_those_not_known_to_be_ready() -> None:
    def node(status: str) -> Node:
        return msgspec.convert({"status": {"conditions": [{"type": "Ready", "status": status}]}}, Node)

    assert [is_lost(node(status)) for status in ("True", "False", "Unknown")] == [False, True, True]
