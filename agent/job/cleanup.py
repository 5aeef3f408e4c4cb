"""Removes what a run made, all at once, and says what is left if it cannot."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from agent.job.config import LABELS, MANAGED_BY, CleanupOptions, Config
from agent.job.lapsed import JOBS_OF_RUNS
from agent.job.names import Names
from agent.job.rbac import Wanted, adopt, withdraw
from common.errors import ClusterError, Code, EidosError
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.namespaces import first_content
from common.kube.types import Job, Metadata


class Failure(NamedTuple):
    """What could not be removed."""

    what: str
    command: str
    """Of kubectl, that removes it."""
    error: EidosError
    known: bool
    """It is there; otherwise it may be there or not."""


class Removal:
    """The cleanup of one run. Whatever fails, the rest is tried too."""

    def __init__(
        self, kube: Kube, config: Config, names: Names, wanted: list[Wanted], note: Callable[[str], None]
    ) -> None:
        """`wanted` is everything but the Job, the namespace first."""
        self._kube = kube
        self._config = config
        self._names = names
        self._wanted = wanted
        self._note = note
        self._failures: list[Failure] = []

    async def run(self, job: Wanted | None, stored: bool, options: CleanupOptions) -> None:
        """Delete the Job, the run's own ConfigMap and, if asked for, the RBAC objects Eidos made.

        `job` is None where none was tried to be created; `stored` says that the snapshot was seen to be there. Raises
        ClusterError (the first failure's code) naming everything that could not be deleted.
        """
        jobs = [job] if job else []
        goes = options.rbac or self._names.own_rbac
        # What was interrupted while it was being created may be there all the same.
        unsure = [item for item in (*jobs, *(self._wanted if goes else ())) if item.tried and not item.uid]
        looked = dict(zip(map(id, unsure), await asyncio.gather(*map(self._look_for, unsure)), strict=True))
        # What we could not even look for is not known to be gone, and neither is what it may have written.
        written = any(item.uid or looked.get(id(item)) is False for item in jobs)
        rbac = [item for item in self._wanted[1:] if item.ours and goes]
        mine, earlier = [i for i in rbac if i.made], [i for i in rbac if not i.made]
        await asyncio.gather(*(self._delete(item) for item in (*jobs, *mine) if item.uid),
                             *([self._delete_output(stored)] if written else []))  # fmt: skip
        if earlier:
            await self._withdraw(earlier, job.uid if job else "")
        namespace = self._wanted[0] if self._wanted else None
        if namespace is not None and options.rbac and (namespace.made or namespace.temporary):
            await self._delete_namespace(namespace)
        if self._failures:
            raise self._left()

    async def _look_for(self, item: Wanted) -> bool:
        return await self._attempt(item, command(item), adopt(self._kube, item, self._names.run), known=False)

    async def _attempt(self, what: object, command: str, action: Awaitable[object], known: bool = True) -> bool:
        """Whether it was done; what went wrong is kept for the end."""
        try:
            await action
        except EidosError as error:
            # On a conflict somebody else's has taken its place, and stays.
            if error.code is not Code.CLUSTER_CONFLICT:
                ending = "" if known else " --ignore-not-found"
                self._failures.append(Failure(str(what), f"kubectl {command}{ending}", error, known))
            return False
        return True

    async def _delete(self, item: Wanted) -> None:
        """By its UID: what somebody else has made in its place since stays."""
        await self._attempt(item, command(item), self._kube.delete(item.path, preconditions={"uid": item.uid}))

    async def _delete_output(self, stored: bool) -> None:
        from common.kube.configmaps import delete_document

        if not self._names.own_output:
            return
        where, name = self._names.output_namespace, self._names.output_name
        await self._attempt(
            f"ConfigMap {where}/{name}",
            f"delete configmap {name} -n {where}",
            delete_document(self._kube, where, name),
            known=stored,
        )

    async def _withdraw(self, items: list[Wanted], job_uid: str) -> None:
        """Objects of an earlier run may serve another one now; ours is not among the Jobs any more."""
        path = path_of("batch/v1", "jobs", self._config.namespace)
        try:
            jobs, _ = await self._kube.list(path, Job, {"labelSelector": JOBS_OF_RUNS})
        except KubeError:
            jobs = []
        busy = [job.metadata.name for job in jobs if job.metadata.uid != job_uid and job.status.active]
        if busy:
            self._note(f"the RBAC objects stay, because Job {busy[0]} is using them")
            return
        bindings = [item for item in items if "subjects" in item.manifest]
        withdrawn: dict[str, bool] = {}

        async def take_out(item: Wanted) -> None:
            withdrawn[item.resource] = await withdraw(self._kube, item)

        await asyncio.gather(*(self._attempt(item, command(item), take_out(item)) for item in bindings))
        # A role goes with its binding, unless that still serves others.
        kept = {binding.removesuffix("bindings") + "s" for binding, gone in withdrawn.items() if not gone}
        rest = [item for item in items if item not in bindings and item.resource not in kept]
        await asyncio.gather(*(self._delete(item) for item in rest))

    async def _delete_namespace(self, namespace: Wanted) -> None:
        """Only while nothing is in it that somebody else made."""
        try:
            there = await self._kube.get(namespace.path, Metadata)
            found = await first_content(self._kube, namespace.name, _goes_anyway)
        except KubeError as error:
            if error.code is not Code.CLUSTER_NOT_FOUND:
                self._failures.append(Failure(str(namespace), f"kubectl {command(namespace)}", error, known=True))
            return
        if found:
            self._note(f"namespace {namespace.name} stays, because {found} is in it")
            return
        unchanged = {"uid": there.metadata.uid, "resourceVersion": there.metadata.resource_version}
        deletion = self._kube.delete(namespace.path, preconditions=unchanged)
        await self._attempt(namespace, command(namespace), deletion)

    def _left(self) -> ClusterError:
        """Only what is known to be there is said to be left; of the rest, that it may be."""
        self._failures.sort(key=lambda f: (not f.known, not f.what.startswith("Job "), f.what))
        error = self._failures[0].error
        left = ", ".join(failure.what for failure in self._failures if failure.known)
        perhaps = ", ".join(failure.what for failure in self._failures if not failure.known)
        told = " and perhaps ".join(part for part in (left, perhaps) if part)
        commands = "; ".join(dict.fromkeys(failure.command for failure in self._failures))
        return ClusterError(
            error.code,
            f"{'' if left else 'perhaps '}left behind: {told}, because {error.message}",
            f"Remove with: {commands}.",
        )


def _goes_anyway(resource: str, item: Metadata) -> bool:
    """A pod of a Job, which goes with it."""
    return resource == "pods" and item.metadata.labels.get(MANAGED_BY) == LABELS[MANAGED_BY]


def command(item: Wanted) -> str:
    """What kubectl is told to remove it."""
    where = f" -n {item.namespace}" if item.namespace else ""
    return f"delete {item.resource} {item.name}{where}"
