"""Jobs, pods and events as a real cluster shows them, cut down to what is read."""

from typing import Any

import msgspec

from common.kube.types import Event, Job, Pod

JOB_UID = "11111111-0000-4000-8000-000000000000"
POD_UID = "22222222-0000-4000-8000-000000000000"
IMAGE = "ghcr.io/nvidia/eidos:latest"


def job(*conditions: tuple[str, str, str], active: int = 1) -> Job:
    """`conditions` are (type, reason, message) of those that are true."""
    status = {
        "conditions": [
            {"type": kind, "status": "True", "reason": reason, "message": message}
            for kind, reason, message in conditions
        ],
        "active": active,
    }
    return msgspec.convert({"metadata": {"name": "eidos", "uid": JOB_UID}, "status": status}, Job)


def pod(
    phase: str = "Pending",
    node: str = "gpu-1",
    state: dict[str, Any] | None = None,
    scheduled: tuple[str, str, str] = ("True", "", ""),
    uid: str = POD_UID,
    created: str = "2026-01-03T10:30:00Z",
    reason: str = "",
    message: str = "",
) -> Pod:
    """`state` is the container's, `scheduled` the status, reason and message of the PodScheduled condition."""
    statuses = [] if state is None else [{"name": "eidos", "image": IMAGE, "state": state}]
    status, why, words = scheduled
    shape = {
        "metadata": {"name": "eidos-x7k2p", "uid": uid, "creationTimestamp": created},
        "spec": {"nodeName": node},
        "status": {
            "phase": phase,
            "reason": reason,
            "message": message,
            "conditions": [{"type": "PodScheduled", "status": status, "reason": why, "message": words}],
            "containerStatuses": statuses,
        },
    }
    return msgspec.convert(shape, Pod)


def unscheduled(message: str, reason: str = "Unschedulable") -> Pod:
    return pod(node="", scheduled=("False", reason, message))


def waiting(reason: str, message: str = "") -> Pod:
    return pod(state={"waiting": {"reason": reason, "message": message}})


def terminated(code: int, reason: str = "Error", phase: str = "Failed", message: str = "") -> Pod:
    return pod(phase, state={"terminated": {"exitCode": code, "reason": reason, "message": message}})


def event(
    reason: str, message: str, uid: str = POD_UID, at: str = "2026-01-03T10:30:01Z", event_time: str | None = None
) -> Event:
    """`event_time` is what the newer events API fills in instead of `lastTimestamp`."""
    about = {"uid": uid, "name": "eidos-x7k2p"}
    shape = {
        "metadata": {"name": f"eidos.{reason}.{at}", "uid": f"{reason}-{at}"},
        "involvedObject": about,
        "reason": reason,
        "message": message,
        "lastTimestamp": None if event_time else at,
        "eventTime": event_time,
    }
    return msgspec.convert(shape, Event)
