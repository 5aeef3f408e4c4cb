"""The Deployer: one run of the snapshot Job, step by step."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Final

from agent.job import objects, rbac
from agent.job.cleanup import Removal
from agent.job.config import RUN_ANNOTATION, CleanupOptions, Config, belongs
from agent.job.follow import Followed, Follower, wait_deleted
from agent.job.lapsed import finished
from agent.job.leftovers import may_be_left
from agent.job.names import Names, choose
from agent.job.rbac import Action, TakenError, Wanted
from agent.job.situation import Stage, Verdict
from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.logs import logs
from common.kube.permissions import Permission, PermissionCheck, check, refuse_missing
from common.kube.together import together
from common.kube.types import ConfigMap, ContainerTerminated, Job

_MOST_TRIES: Final = 3
_DELETE_SECONDS: Final = 60.0
_ASK: Final = "Nothing was created. Ask a cluster administrator for these, or to apply manifests/job/1-deps.yaml."
_TAIL: Final = 10
"""Lines of the log shown when the Job failed."""
_NO_GPU: Final = ClusterError(Code.GPU_REQUIRED, "").exit_status
"""What `eidos snapshot --require-gpu` ends with where there is none."""


class Deployer:
    """Deploys the Job with all it needs, waits, fetches the snapshot, cleans up.

    Every method raises ClusterError with the cluster's own words. Use one Deployer for one run.
    """

    def __init__(
        self,
        kube: Kube,
        config: Config,
        on_note: Callable[[str], None] = lambda note: None,
        on_change: Callable[[str], None] = lambda explanation: None,
    ) -> None:
        """`on_note` hears what the user should know although nothing is wrong, `on_change` how the pod gets on."""
        self.config = config
        self._on_change = on_change
        self.names: Names = choose(config)
        self._kube = kube
        self._note = on_note
        self._wanted: list[Wanted] = []
        self._outgrown: list[Wanted] = []
        """Made under names that turned out to be taken."""
        self._touched = False
        self._job: Wanted | None = None
        """Once its creation has been asked for."""
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
                self._note(f"{taken}; this run uses {self.names.account}")
        raise ClusterError(Code.CLUSTER_CONFLICT, "others keep taking the names this run needs")

    async def _check_planned(self) -> list[PermissionCheck]:
        here, there = self.config.namespace, self.names.output_namespace
        needed = [
            *(Permission(verb, "jobs", "batch", here) for verb in ("get", "list", "watch", "create", "delete")),
            *(Permission(verb, "pods", "", here) for verb in ("list", "watch")),
            *(Permission(verb, "configmaps", "", there) for verb in self._output_verbs()),
            *(item.permission(verb) for item in self._wanted for verb in self._verbs(item)),
        ]
        checks = await check(self._kube, needed)
        refuse_missing(checks, _ASK)
        rehearsals = (rbac.rehearse(self._kube, self._wanted), self._rehearse_job())
        await together((*rehearsals, self._check_job(), self._check_output()))
        return checks

    def _output_verbs(self) -> tuple[str, ...]:
        return ("get", "delete") if self.names.own_output else ("get",)

    def _verbs(self, item: Wanted) -> tuple[str, ...]:
        """What this run does with an object, and will have to do when it ends."""
        if item.action is Action.REPLACE or (item.action is Action.CREATE and self.names.own_rbac):
            return ("create", "delete")
        if item.action is Action.PATCH and item.resource == "namespaces":
            return ()  # a missing label on a namespace stops nobody
        return () if item.action is Action.KEEP else (item.action.value,)

    async def _rehearse_job(self) -> None:
        """A dry run finds what is wrong with the Job itself while nothing is there to clean up yet."""
        if self._wanted[0].action is Action.CREATE:
            return
        try:
            await self._kube.create(self._jobs_path, self._manifest(), Job, {"dryRun": "All"})
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _check_job(self) -> None:
        """Somebody else's Job of that name is never deleted, so the run need not begin."""
        await self._job_there()

    async def _check_output(self) -> None:
        """Somebody else's ConfigMap of that name is never overwritten, so the run need not begin."""
        if self.names.own_output:
            return
        from common.kube.configmaps import configmap_path, foreign, is_ours

        namespace, name = self.names.output_namespace, self.names.output_name
        try:
            there = await self._kube.get(configmap_path(namespace, name), ConfigMap)
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                raise
            return
        if not is_ours(there):
            raise foreign(namespace, name)

    # ---- deploying ----

    async def deploy(self) -> None:
        """Create or mend the RBAC objects and create the Job anew; nothing is created if a permission is missing."""
        await self.check_permissions()
        await self.ensure_rbac()
        await self.ensure_job()

    async def ensure_rbac(self) -> None:
        """Bring namespace, ServiceAccount, Role, ClusterRole and their bindings to what the Job needs."""
        self._touched = True
        for _ in range(_MOST_TRIES):
            namespace, *others = self._wanted
            try:
                await rbac.ensure(self._kube, namespace, self.names.run)
                await self._ensure_all(others)
                return
            except TakenError as taken:
                if self.names.own_rbac:
                    self._outgrown += [item for item in others if item.made]
                self.names = self.names.aside(rbac=True)
                self._note(f"{taken}; this run uses {self.names.account}")
                await self._plan()
        raise ClusterError(Code.CLUSTER_CONFLICT, "others keep taking the names this run needs")

    async def _ensure_all(self, items: list[Wanted]) -> None:
        # The ServiceAccount first: whoever creates it owns the names, and others step aside before making more.
        await rbac.ensure(self._kube, items[0], self.names.run)
        # Then the roles: the API server lets only cluster administrators bind a role that is not there.
        for bindings in (False, True):
            some = [item for item in items[1:] if ("subjects" in item.manifest) is bindings]
            await together(rbac.ensure(self._kube, item, self.names.run) for item in some)

    async def ensure_job(self) -> None:
        """Delete a finished Job of that name and create ours. A Job another run is using is left alone."""
        for _ in range(_MOST_TRIES):
            if await self._in_use():
                self.names = self.names.aside(job=True)
                self._note(f"another run is using the Job's name; this one is called {self.names.job}")
            if not await self._create_job():
                continue
            followed = Followed(self.config.namespace, self.names.job, self._job_uid, self._awaited_output())
            self._follower = Follower(self._kube, followed, self._on_change)
            await self._stack.enter_async_context(self._follower.following())
            return
        raise ClusterError(Code.CLUSTER_CONFLICT, f"the Job {self.names.job} keeps being created by somebody else")

    async def _create_job(self) -> bool:
        """False where there is another Job of that name."""
        self._job = Wanted("jobs", self._manifest(), Action.CREATE, tried=True)
        try:
            self._job.uid = (await self._kube.create(self._jobs_path, self._job.manifest, Job)).metadata.uid
        except KubeError as error:
            if error.reason == "AlreadyExists":
                self._job = None
                return False
            self._job.tried = not rbac.refused(error)
            if rbac.refused(error):
                raise
            # The answer was lost; the Job may have been made.
            await rbac.adopt(self._kube, self._job, self.names.run)
            if not self._job.uid:
                raise
        return True

    def _awaited_output(self) -> tuple[str, str] | None:
        """The run's own ConfigMap, whose coming saves waiting for the pod's end to be noticed (a second or two).

        Not where the Job has still to judge what it stored, nor where others may write it.
        """
        own = self.names.own_output and not self.config.require_gpu
        return (self.names.output_namespace, self.names.output_name) if own else None

    async def _in_use(self) -> bool:
        """Whether a Job of our name is still wanted. One that has finished is deleted, and seen to be gone."""
        there = await self._job_there()
        if there is None:
            return False
        uid = there.metadata.uid
        if not finished(there) and not there.metadata.deletion_timestamp:
            return True
        try:
            await self._kube.delete(self._job_path, propagation="Foreground", preconditions={"uid": uid})
        except KubeError as error:
            if error.code is Code.CLUSTER_CONFLICT:  # no longer the one we looked at
                return True
            raise
        await wait_deleted(self._kube, self.config.namespace, self.names.job, uid, _DELETE_SECONDS)
        return False

    async def _job_there(self) -> Job | None:
        """The Job of our name. Raises CLUSTER_CONFLICT for one that is somebody else's."""
        try:
            there = await self._kube.get(self._job_path, Job)
        except KubeError as error:
            if error.code is Code.CLUSTER_NOT_FOUND:
                return None
            raise
        if belongs(there.metadata.labels) or RUN_ANNOTATION in there.metadata.annotations:
            return there
        raise ClusterError(
            Code.CLUSTER_CONFLICT,
            f"Job {self.config.namespace}/{self.names.job} was not made by Eidos and is left alone",
            "Choose another --job-name, or --unique-name; one that is done with may be deleted by hand.",
        )

    # ---- waiting ----

    async def wait_for_pod_ready(self, seconds: float, given: float | None = None) -> Verdict:
        """Wait until the pod runs or has run. Raises as soon as it is clear that it will not, saying why.

        `seconds` may be what is left of those `given`, which are the ones to name when they are over.
        """
        return await self._following.until(Stage.RUNNING, seconds, given)

    async def wait_for_completion(self, seconds: float, given: float | None = None) -> None:
        """Wait until the Job is complete; times as above.

        Raises ClusterError with the last lines of the log if it fails: GPU_REQUIRED when that is why, else
        CLUSTER_FAILED.
        """
        verdict = await self._following.until(Stage.SUCCEEDED, seconds, given)
        if verdict.stage is Stage.SUCCEEDED:
            return
        ended = self._following.situation.ended
        no_gpu = self.config.require_gpu and ended is not None and ended.exit_code == _NO_GPU
        tail = await self._tail(ended)
        raise ClusterError(
            Code.GPU_REQUIRED if no_gpu else Code.CLUSTER_FAILED,
            verdict.explanation + (f". Its last words:\n{tail}\n" if tail else ""),
            verdict.hint,
        )

    async def _tail(self, ended: ContainerTerminated | None) -> str:
        """The end of the log, else what kubelet kept of it; empty when there is none."""
        try:
            text = await self.get_pod_logs(tail=_TAIL)
        except ClusterError:
            text = ""
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
        if options.enabled and self._touched:
            wanted = [*self._wanted, *self._outgrown]
            removal = Removal(kube or self._kube, self.config, self.names, wanted, self._note)
            stored = self._follower is not None and self._follower.verdict.stage is Stage.SUCCEEDED
            await removal.run(self._job, stored, options)

    def may_be_left(self, options: CleanupOptions) -> str:
        """What may be there still after a cleanup that was cut short, and how to remove it; or nothing."""
        if not (options.enabled and self._touched):
            return ""
        return may_be_left(self.names, [*self._wanted, *self._outgrown], self._job, options)

    @property
    def node(self) -> str:
        """The node the pod is on; empty while it is on none."""
        pod = self._follower.situation.pod if self._follower else None
        return pod.spec.node_name if pod else ""

    @property
    def _job_uid(self) -> str:
        return self._job.uid if self._job else ""

    @property
    def _following(self) -> Follower:
        if self._follower is None:
            raise ClusterError(Code.CLUSTER_NOT_FOUND, "the Job has not been deployed")
        return self._follower

    def _manifest(self) -> objects.Manifest:
        return objects.job(self.config, self.names.job, self.names.account, self.names.output, self.names.run)

    @property
    def _jobs_path(self) -> str:
        return path_of("batch/v1", "jobs", self.config.namespace)

    @property
    def _job_path(self) -> str:
        return path_of("batch/v1", "jobs", self.config.namespace, self.names.job)
