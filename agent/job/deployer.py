"""The Deployer: one run of the snapshot Job, step by step."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Final

from agent.job import objects, rbac
from agent.job.cleanup import remove
from agent.job.config import RUN_ANNOTATION, CleanupOptions, Config
from agent.job.follow import Follower, wait_deleted
from agent.job.names import Names, choose
from agent.job.permissions import Permission, PermissionCheck, check, refuse_missing
from agent.job.rbac import Action, TakenError, Wanted
from agent.job.situation import Stage, Verdict
from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.logs import logs
from common.kube.types import Job

_MOST_TRIES: Final = 3
_DELETE_SECONDS: Final = 60.0
_TAIL: Final = 10
"""Lines of the log shown when the Job failed."""


class Deployer:
    """Deploys the Job with all it needs, waits, fetches the snapshot, cleans up.

    Every method raises ClusterError with the cluster's own words. Use one Deployer for one run.
    """

    def __init__(self, kube: Kube, config: Config, on_note: Callable[[str], None] = lambda note: None) -> None:
        """`on_note` hears what the user should know although nothing is wrong."""
        self.config = config
        self.names: Names = choose(config)
        self._kube = kube
        self._note = on_note
        self._wanted: list[Wanted] = []
        self._job_uid = ""
        self._follower: Follower | None = None
        self._stack = AsyncExitStack()

    # ---- before ----

    async def check_permissions(self) -> list[PermissionCheck]:
        """Whether the user may do all that this run needs. Raises CLUSTER_FORBIDDEN naming what is missing."""
        await self._plan()
        return await self._check_planned()

    async def _plan(self) -> None:
        """Look at what is there, and step aside where another run has the names."""
        for _ in range(_MOST_TRIES):
            self._wanted = rbac.wanted(self.config, self.names)
            try:
                await rbac.look(self._kube, self._wanted, self.names.run)
                return
            except TakenError as taken:
                self.names = self.names.aside(rbac=True)
                self._note(f"{taken} belongs to another run; this one uses {self.names.account}")
        raise ClusterError(Code.CLUSTER_CONFLICT, "other runs keep taking the names this run needs")

    async def _check_planned(self) -> list[PermissionCheck]:
        here = self.config.namespace
        needed = [
            *(Permission(verb, "jobs", "batch", here) for verb in ("get", "list", "watch", "create", "delete")),
            *(Permission(verb, "pods", "", here) for verb in ("list", "watch")),
            Permission("get", "configmaps", "", self.names.output_namespace),
            *(item.permission(item.action.value) for item in self._wanted if self._must(item)),
        ]
        checks = await check(self._kube, needed)
        refuse_missing(checks)
        return checks

    @staticmethod
    def _must(item: Wanted) -> bool:
        """A missing label on a namespace stops nobody."""
        return item.action is Action.CREATE or (item.action is Action.PATCH and item.resource != "namespaces")

    # ---- deploying ----

    async def deploy(self) -> None:
        """Create or mend the RBAC objects and create the Job anew; nothing is created if a permission is missing."""
        await self.check_permissions()
        await self.ensure_rbac()
        await self.ensure_job()

    async def ensure_rbac(self) -> None:
        """Bring namespace, ServiceAccount, Role, ClusterRole and their bindings to what the Job needs."""
        for _ in range(_MOST_TRIES):
            namespace, *others = self._wanted
            try:
                await rbac.ensure(self._kube, namespace, self.names.run)
                await self._ensure_all(others)
                return
            except TakenError as taken:
                self.names = self.names.aside(rbac=True)
                self._note(f"{taken} belongs to another run; this one uses {self.names.account}")
                await self._plan()
        raise ClusterError(Code.CLUSTER_CONFLICT, "other runs keep taking the names this run needs")

    async def _ensure_all(self, items: list[Wanted]) -> None:
        # The ServiceAccount first: whoever creates it owns the names, and others step aside before making more.
        await rbac.ensure(self._kube, items[0], self.names.run)
        await asyncio.gather(*(rbac.ensure(self._kube, item, self.names.run) for item in items[1:]))

    async def ensure_job(self) -> None:
        """Delete a finished Job of that name and create ours. A Job another run is using is left alone."""
        for _ in range(_MOST_TRIES):
            if await self._in_use():
                self.names = self.names.aside(job=True)
                self._note(f"another run is using the Job's name; this one is called {self.names.job}")
            manifest = objects.job(self.config, self.names.job, self.names.account, self.names.output, self.names.run)
            try:
                made = await self._kube.create(path_of("batch/v1", "jobs", self.config.namespace), manifest, Job)
            except KubeError as error:
                if error.reason != "AlreadyExists":
                    raise
                continue
            self._job_uid = made.metadata.uid
            self._follower = Follower(self._kube, self.config.namespace, self.names.job, self._job_uid)
            await self._stack.enter_async_context(self._follower.following())
            return
        raise ClusterError(Code.CLUSTER_CONFLICT, f"the Job {self.names.job} keeps being created by somebody else")

    async def _in_use(self) -> bool:
        """Whether a Job of our name belongs to a living run. One that does not is deleted, and seen to be gone."""
        try:
            there = await self._kube.get(self._job_path, Job)
        except KubeError as error:
            if error.code is Code.CLUSTER_NOT_FOUND:
                return False
            raise
        uid = there.metadata.uid
        finished = any(c.type in ("Complete", "Failed") and c.status == "True" for c in there.status.conditions)
        if RUN_ANNOTATION in there.metadata.annotations and not finished and not there.metadata.deletion_timestamp:
            return True
        try:
            await self._kube.delete(self._job_path, propagation="Foreground", preconditions={"uid": uid})
        except KubeError as error:
            if error.code is Code.CLUSTER_CONFLICT:  # no longer the one we looked at
                return True
            raise
        await wait_deleted(self._kube, self.config.namespace, self.names.job, uid, _DELETE_SECONDS)
        return False

    # ---- waiting ----

    async def wait_for_pod_ready(self, seconds: float) -> Verdict:
        """Wait until the pod runs or has run. Raises as soon as it is clear that it will not, saying why."""
        return await self._following.until(Stage.RUNNING, seconds)

    async def wait_for_completion(self, seconds: float) -> None:
        """Wait until the Job is complete. Raises CLUSTER_FAILED with the last lines of the log if it fails."""
        verdict = await self._following.until(Stage.SUCCEEDED, seconds)
        if verdict.stage is Stage.SUCCEEDED:
            return
        tail = await self._tail()
        raise ClusterError(
            Code.CLUSTER_FAILED, verdict.explanation + (f". Its last words:\n{tail}\n" if tail else ""), verdict.hint
        )

    async def _tail(self) -> str:
        """The end of the log, else what kubelet kept of it; empty when there is none."""
        try:
            text = await self.get_pod_logs(tail=_TAIL)
        except ClusterError:
            text = ""
        pod = self._following.situation.pod
        ended = next((s.state.terminated for s in pod.status.container_statuses), None) if pod else None
        text = text or (ended.message if ended else "")
        return "\n".join(f"  {line}" for line in text.splitlines()[-_TAIL:])

    async def stream_logs(self, write: Callable[[str], None], prefix: str = "") -> None:
        """Hand each line of the pod's log to `write` as it comes, until the pod ends."""
        async for line in self._lines(follow=True):
            write(prefix + line)

    async def get_pod_logs(self, tail: int | None = None) -> str:
        """The pod's log so far, or its last `tail` lines."""
        return "".join([line + "\n" async for line in self._lines(tail=tail)])

    async def _lines(self, follow: bool = False, tail: int | None = None) -> AsyncIterator[str]:
        pod = self._following.situation.pod
        if pod is None:
            return
        reading = logs(
            self._kube,
            self.config.namespace,
            pod.metadata.name,
            container=objects.CONTAINER,
            follow=follow,
            tail=tail,
        )
        async with aclosing(reading) as lines:
            async for line in lines:
                yield line.decode("utf-8", "replace")

    # ---- after ----

    async def get_snapshot(self) -> bytes:
        """The document the Job wrote, whole, however many ConfigMaps it is spread over."""
        from common.kube.configmaps import read_document

        return await read_document(self._kube, self.names.output_namespace, self.names.output_name)

    async def cleanup(self, options: CleanupOptions, kube: Kube | None = None) -> None:
        """Remove what this run made; all at the same time, and all are tried.

        `kube` replaces the connection of this Deployer, whose deadline may have passed. Raises ClusterError naming
        what is left and how to remove it. A namespace, ServiceAccount or ConfigMap that was there before stays.
        """
        await self._stack.aclose()
        if not options.enabled:
            return
        await remove(kube or self._kube, self.config, self.names, self._wanted, self._job_uid, options, self._note)

    @property
    def node(self) -> str:
        """The node the pod is on; empty while it is on none."""
        pod = self._follower.situation.pod if self._follower else None
        return pod.spec.node_name if pod else ""

    @property
    def _following(self) -> Follower:
        if self._follower is None:
            raise ClusterError(Code.CLUSTER_NOT_FOUND, "the Job has not been deployed")
        return self._follower

    @property
    def _job_path(self) -> str:
        return path_of("batch/v1", "jobs", self.config.namespace, self.names.job)
