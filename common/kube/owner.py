"""Whose a written ConfigMap is: the Job that wrote it, so that Kubernetes deletes one with the other."""

from collections.abc import Mapping
from typing import Final

OWNER_NAME: Final = "EIDOS_OUTPUT_JOB"
OWNER_UID: Final = "EIDOS_OUTPUT_JOB_UID"

OwnerFields = dict[str, str]


def job_owner(environment: Mapping[str, str]) -> OwnerFields | None:
    """The owner reference (meta/v1 OwnerReference) that the Job's pod was given; None when it was given none."""
    name, uid = environment.get(OWNER_NAME), environment.get(OWNER_UID)
    return {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid} if name and uid else None
