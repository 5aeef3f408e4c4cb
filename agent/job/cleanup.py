"""Removes what a run made, all at once, and says what is left if it cannot."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agent.job.config import LABELS, CleanupOptions, Config
from agent.job.names import Names
from agent.job.rbac import Action, Wanted, adopt
from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.types import Job

_SELECTOR: Final = f"app.kubernetes.io/name={LABELS['app.kubernetes.io/name']}"


async def remove(
    kube: Kube,
    config: Config,
    names: Names,
    wanted: list[Wanted],
    job_uid: str,
    options: CleanupOptions,
    note: Callable[[str], None],
) -> None:
    """Delete the Job, the run's own ConfigMap and, if asked for, the RBAC objects Eidos made.

    Raises ClusterError (the first failure's code) naming everything that could not be deleted.
    """
    failures: list[tuple[str, str, KubeError]] = []

    async def attempt(what: str, command: str, action: Awaitable[object]) -> None:
        try:
            await action
        except KubeError as error:
            if error.code is not Code.CLUSTER_CONFLICT:  # somebody else's has taken its place, and stays
                failures.append((what, command, error))

    where = f"-n {config.namespace}"
    job = Wanted("jobs", {"apiVersion": "batch/v1", "kind": "Job",
                          "metadata": {"name": names.job, "namespace": config.namespace}}, uid=job_uid)  # fmt: skip
    # What was interrupted while it was being created may be there all the same.
    unsure = [item for item in (job, *wanted) if not item.uid and (item is job or item.action is Action.CREATE)]
    await asyncio.gather(
        *(attempt(str(item), f"kubectl get {item.resource}", adopt(kube, item, names.run)) for item in unsure)
    )
    first: list[Awaitable[None]] = []
    if job.uid:
        deletion = kube.delete(job.path, preconditions={"uid": job.uid})
        first.append(attempt(str(job), f"kubectl delete job {names.job} {where}", deletion))
    if names.own_output:
        first.append(
            attempt(
                f"ConfigMap {names.output_name}",
                f"kubectl delete configmap {names.output_name} {where}",
                _delete_output(kube, names),
            )
        )
    mine = [item for item in wanted if item.ours and (options.rbac or names.own_rbac)]
    shared = bool(mine) and not names.own_rbac
    if not shared:
        first.extend(_deletions(kube, mine, names, attempt))
    await asyncio.gather(*first)
    if shared:
        # Objects of an earlier run may serve another one now. Ours is gone from the list by now.
        await _remove_shared(kube, config, names, mine, job_uid, attempt, note)
    if failures:
        raise _left(failures)


async def _remove_shared(
    kube: Kube,
    config: Config,
    names: Names,
    mine: list[Wanted],
    job_uid: str,
    attempt: Callable[[str, str, Awaitable[object]], Awaitable[None]],
    note: Callable[[str], None],
) -> None:
    path = path_of("batch/v1", "jobs", config.namespace)
    try:
        jobs, _ = await kube.list(path, Job, {"labelSelector": _SELECTOR})
    except KubeError:
        jobs = []
    busy = [job.metadata.name for job in jobs if job.metadata.uid != job_uid and job.status.active]
    if busy:
        note(f"the RBAC objects stay, because Job {busy[0]} is using them")
        return
    await asyncio.gather(*_deletions(kube, mine, names, attempt))


def _deletions(
    kube: Kube,
    items: list[Wanted],
    names: Names,
    attempt: Callable[[str, str, Awaitable[object]], Awaitable[None]],
) -> list[Awaitable[None]]:
    """Each object by its UID: what somebody else has made in its place since stays."""
    deletions = []
    for item in items:
        if item.resource == "namespaces" and item.name == names.output_namespace and not names.own_output:
            continue  # it holds the snapshot the user asked for
        where = f" -n {item.namespace}" if item.namespace else ""
        command = f"kubectl delete {item.resource} {item.name}{where}"
        deletions.append(attempt(str(item), command, kube.delete(item.path, preconditions={"uid": item.uid})))
    return deletions


async def _delete_output(kube: Kube, names: Names) -> None:
    from common.kube.configmaps import delete_document

    await delete_document(kube, names.output_namespace, names.output_name)


def _left(failures: list[tuple[str, str, KubeError]]) -> ClusterError:
    left = ", ".join(what for what, _, _ in failures)
    commands = "; ".join(command for _, command, _ in failures)
    code = failures[0][2].code if failures else Code.CLUSTER_FAILED
    return ClusterError(code, f"left behind: {left}, because {failures[0][2].message}", f"Remove with: {commands}.")
