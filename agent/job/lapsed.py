"""Which runs have ended without cleaning up, as those that were killed: their names are free again."""

from datetime import UTC, datetime
from typing import Final

from agent.job.config import LABELS, RUN_ANNOTATION
from common.errors import Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.types import Job

JOBS_OF_RUNS: Final = f"app.kubernetes.io/name={LABELS['app.kubernetes.io/name']}"
"""The label selector of their Jobs."""
_SETTLING: Final = 300.0
"""Seconds in which a run that lives has made its Job; more than it ever takes, since clocks differ."""


def settled(created: str) -> bool:
    """Whether an object with that creation timestamp is so old that a run that lives has made its Job."""
    return (datetime.now(UTC) - datetime.fromisoformat(created)).total_seconds() > _SETTLING


def finished(job: Job) -> bool:
    """Whether a Job has ended, well or not."""
    return any(c.type in ("Complete", "Failed") and c.status == "True" for c in job.status.conditions)


async def living(kube: Kube) -> set[str] | None:
    """The runs whose Jobs have not finished, in any namespace; None for whoever may not look there."""
    try:
        jobs, _ = await kube.list(path_of("batch/v1", "jobs"), Job, {"labelSelector": JOBS_OF_RUNS})
    except KubeError as error:
        if error.code is not Code.CLUSTER_FORBIDDEN:
            raise
        return None
    return {job.metadata.annotations.get(RUN_ANNOTATION, "") for job in jobs if not finished(job)}
