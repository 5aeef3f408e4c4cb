"""Follows one Job by watch: the Job, its pods and what is said about them. Nothing is polled."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Final, TypeVar

from agent.job.situation import GRACE, Situation, Stage, Verdict, judge
from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.types import Event, Job, Metadata, Pod
from common.kube.watch import ChangeKind, Reset, watch

_T = TypeVar("_T", Job, Pod, Event)
_ORDER: Final = list(Stage)


class Follower:
    """Keeps a Situation up to date and tells whoever waits that it has changed."""

    def __init__(self, kube: Kube, namespace: str, name: str, uid: str) -> None:
        self.situation = Situation(uid)
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._uid = uid
        self._changed = asyncio.Event()
        self._trouble: ClusterError | None = None

    @property
    def verdict(self) -> Verdict:
        return judge(self.situation)

    @asynccontextmanager
    async def following(self) -> AsyncIterator["Follower"]:
        """Watch while the block runs."""
        tasks = [
            asyncio.create_task(self._watch(path_of("batch/v1", "jobs", self._namespace), Job, self._take_job,
                                            {"fieldSelector": f"metadata.name={self._name}"})),
            asyncio.create_task(self._watch(path_of("v1", "pods", self._namespace), Pod, self._take_pod,
                                            {"labelSelector": f"batch.kubernetes.io/controller-uid={self._uid}"})),
            asyncio.create_task(self._watch(path_of("v1", "events", self._namespace), Event, self._take_event, {})),
        ]  # fmt: skip
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def until(self, stage: Stage, seconds: float) -> Verdict:
        """Wait until the Job has come as far as `stage` or has ended.

        Raises ClusterError as soon as it is clear that it will not: CLUSTER_FAILED with the cluster's own words for
        what cannot get better, DEADLINE with the last that was seen when the time is over.
        """
        deadline = time.monotonic() + seconds
        troubled_since: float | None = None
        while True:
            self._changed.clear()
            if self._trouble is not None:
                raise self._trouble
            verdict = self.verdict
            now = time.monotonic()
            if verdict.stage is Stage.FAILED or _ORDER.index(verdict.stage) >= _ORDER.index(stage):
                return verdict
            troubled_since = (troubled_since or now) if verdict.passing else None
            if verdict.hopeless or (troubled_since is not None and now - troubled_since >= GRACE):
                raise ClusterError(Code.CLUSTER_FAILED, verdict.explanation, verdict.hint)
            if now >= deadline:
                raise ClusterError(Code.DEADLINE, f"out of time after {seconds:g} s: {verdict.explanation}")
            wake = deadline if troubled_since is None else min(deadline, troubled_since + GRACE)
            try:
                async with asyncio.timeout(max(0.0, wake - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _watch(
        self, path: str, kind: type[_T], take: Callable[[_T, bool], None], params: dict[str, str]
    ) -> None:
        try:
            async with aclosing(watch(self._kube, path, kind, params)) as changes:
                async for change in changes:
                    if isinstance(change, Reset):
                        for item in change.items:
                            take(item, False)
                    else:
                        take(change.item, change.kind is ChangeKind.DELETED)
                    self._changed.set()
        except KubeError as error:
            # Events only explain; without the right to read them the rest goes on.
            if kind is Event and error.code is Code.CLUSTER_FORBIDDEN:
                return
            self._trouble = error
            self._changed.set()

    def _take_job(self, job: Job, gone: bool) -> None:
        if job.metadata.uid != self._uid:
            return
        self.situation.job = job
        if gone and judge(self.situation).stage not in (Stage.SUCCEEDED, Stage.FAILED):
            self._trouble = ClusterError(
                Code.CLUSTER_FAILED, f"somebody deleted Job {self._namespace}/{self._name} while it ran"
            )

    def _take_pod(self, pod: Pod, gone: bool) -> None:
        # A pod that is gone keeps its last state: it may be the one that says why the Job failed.
        self.situation.pods[pod.metadata.uid] = pod

    def _take_event(self, event: Event, gone: bool) -> None:
        # By name here, since an event may come before the pod it is about; the Situation goes by UID.
        if not gone and event.involved_object.name.startswith(self._name):
            self.situation.events[event.metadata.uid] = event


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
