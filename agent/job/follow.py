"""Follows one Job by watch: the Job, its pods and what is said about them. Nothing is polled."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, NamedTuple

from agent.job.objects import JOB_UID_LABEL
from agent.job.situation import Situation, Stage, Verdict, judge
from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.configmaps import SHARDS
from common.kube.podstate import GRACE
from common.kube.types import ConfigMap, Event, Job, Metadata, Pod
from common.kube.watch import ChangeKind, Reset, watch
from common.kube.watching import Watching

_ORDER: Final = list(Stage)


class Followed(NamedTuple):
    """What is followed: a Job, and the ConfigMap that only this Job writes, if there is one."""

    namespace: str
    name: str
    uid: str
    output: tuple[str, str] | None = None
    """Namespace and name; when it is there, whole, the Job has done what it is for."""


class Follower:
    """Keeps a Situation up to date and tells whoever waits that it has changed."""

    def __init__(
        self, kube: Kube, followed: Followed, on_change: Callable[[str], None] = lambda explanation: None
    ) -> None:
        """`on_change` hears each new explanation of how the Job is getting on."""
        self.situation = Situation(followed.uid)
        self._followed = followed
        self._on_change = on_change
        self._explanation = ""
        self._watching = Watching(kube)
        self._trouble: ClusterError | None = None

    @property
    def verdict(self) -> Verdict:
        return judge(self.situation)

    @asynccontextmanager
    async def following(self) -> AsyncIterator["Follower"]:
        """Watch while the block runs."""
        namespace, name, uid, output = self._followed
        by_name, by_job = {"fieldSelector": f"metadata.name={name}"}, {"labelSelector": f"{JOB_UID_LABEL}={uid}"}
        # Events only explain, and the output only comes sooner; without the right to watch them the rest goes on.
        self._watching.add(path_of("batch/v1", "jobs", namespace), Job, self._take_job, by_name)
        self._watching.add(path_of("v1", "pods", namespace), Pod, self._take_pod, by_job)
        self._watching.add(path_of("v1", "events", namespace), Event, self._take_event, needed=False)
        if output is not None:
            path, selector = path_of("v1", "configmaps", output[0]), {"fieldSelector": f"metadata.name={output[1]}"}
            self._watching.add(path, ConfigMap, self._take_output, selector, needed=False)
        async with self._watching.running():
            yield self

    async def until(self, stage: Stage, seconds: float, given: float | None = None) -> Verdict:
        """Wait until the Job has come as far as `stage` or has ended. `seconds` may be what is left of those `given`.

        Raises ClusterError as soon as it is clear that it will not: CLUSTER_FAILED with the cluster's own words for
        what cannot get better, DEADLINE with the last that was seen when the time is over.
        """
        deadline = time.monotonic() + seconds
        troubled_since: float | None = None
        while True:
            self._watching.changed.clear()
            verdict = self.verdict
            now = time.monotonic()
            self._tell(verdict)
            if (trouble := self._trouble or self._watching.trouble) is not None:
                raise self._out_of_time(given or seconds) if trouble.code is Code.DEADLINE else trouble
            if verdict.stage is Stage.FAILED or _ORDER.index(verdict.stage) >= _ORDER.index(stage):
                return verdict
            troubled_since = (troubled_since or now) if verdict.passing else None
            if verdict.hopeless or (troubled_since is not None and now - troubled_since >= GRACE):
                raise ClusterError(Code.CLUSTER_FAILED, verdict.explanation, verdict.hint)
            if now >= deadline:
                raise self._out_of_time(given or seconds)
            wake = deadline if troubled_since is None else min(deadline, troubled_since + GRACE)
            await self._watching.wait(wake - now)

    def _tell(self, verdict: Verdict) -> None:
        if verdict.explanation != self._explanation:
            self._explanation = verdict.explanation
            self._on_change(verdict.explanation)

    def _out_of_time(self, seconds: float) -> ClusterError:
        """Never a bare timeout: the last that was seen says why."""
        verdict = self.verdict
        trouble = self._watching.trouble
        why = trouble.__cause__ if trouble else None  # such as a connection lost since then
        lost = f"; then {why.message}" if isinstance(why, ClusterError) else ""
        return ClusterError(
            Code.DEADLINE, f"out of time after {seconds:.3g} s: {verdict.explanation}{lost}", verdict.hint
        )

    def _take_job(self, job: Job, gone: bool) -> None:
        if job.metadata.uid != self._followed.uid:
            return
        self.situation.job = job
        if gone and judge(self.situation).stage not in (Stage.SUCCEEDED, Stage.FAILED):
            self._trouble = ClusterError(
                Code.CLUSTER_FAILED,
                f"somebody deleted Job {self._followed.namespace}/{self._followed.name} while it ran",
            )

    def _take_pod(self, pod: Pod, gone: bool) -> None:
        # A pod that is gone keeps its last state: it may be the one that says why the Job failed.
        self.situation.pods[pod.metadata.uid] = pod

    def _take_event(self, event: Event, gone: bool) -> None:
        # By name here, since an event may come before the pod it is about; the Situation goes by UID.
        if not gone and event.involved_object.name.startswith(self._followed.name):
            self.situation.events[event.metadata.uid] = event

    def _take_output(self, output: ConfigMap, gone: bool) -> None:
        # One in shards is still being tended by its writer after it stands: that Job is waited for.
        self.situation.stored = not gone and "format" in output.data and SHARDS not in output.data


async def wait_deleted(kube: Kube, namespace: str, name: str, uid: str, seconds: float) -> None:
    """Return once the Job with that UID is gone, seen by watch. Raises ClusterError (DEADLINE)."""
    path = path_of("batch/v1", "jobs", namespace)
    try:
        async with asyncio.timeout(seconds):
            async with aclosing(watch(kube, path, Metadata, {"fieldSelector": f"metadata.name={name}"})) as changes:
                async for change in changes:
                    if isinstance(change, Reset):
                        if all(item.metadata.uid != uid for item in change.items):
                            return
                    elif change.kind is ChangeKind.DELETED and change.item.metadata.uid == uid:
                        return
    except TimeoutError:
        raise ClusterError(
            Code.DEADLINE,
            f"the Job {namespace}/{name} of an earlier run is not gone after {seconds:g} s",
            f"See what holds it: kubectl get job {name} -n {namespace} -o yaml.",
        ) from None
