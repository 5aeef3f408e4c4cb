"""The objects a Job needs around it: what is there, what must change, what this run may delete again."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agent.job import objects
from agent.job.config import LABELS, MANAGED_BY, RUN_ANNOTATION, Config, belongs
from agent.job.lapsed import living, settled
from agent.job.names import Names
from agent.job.objects import Manifest
from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.permissions import Permission
from common.kube.together import together
from common.kube.types import Metadata

_MOST_TRIES: Final = 10
"""Of changing a binding that runs in many namespaces change at the same time."""


class Action(StrEnum):
    """What has to be done with an object."""

    KEEP = "keep"
    CREATE = "create"
    PATCH = "patch"
    REPLACE = "replace"
    """Delete what a run has left that was killed, and create it anew."""


class TakenError(Exception):
    """The RBAC objects of that name belong to somebody else, or to another run, which deletes them when it ends."""


@dataclass(slots=True)
class Wanted:
    """One object as it should be, and how it was found."""

    resource: str
    manifest: Manifest
    action: Action = Action.KEEP
    tried: bool = False
    """This run has asked for it to be created; the answer may never have come."""
    made: bool = False
    """By this run."""
    ours: bool = False
    """Made by Eidos, in this run or an earlier one; others' are never deleted."""
    temporary: bool = False
    """A namespace that a run made for a while."""
    uid: str = ""
    since: str = ""
    """When what is there was created."""
    change: Manifest = field(default_factory=dict)
    """The merge patch that mends it."""

    @property
    def api_version(self) -> str:
        return str(self.manifest["apiVersion"])

    @property
    def namespace(self) -> str:
        return str(self.manifest["metadata"].get("namespace", ""))

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def path(self) -> str:
        return path_of(self.api_version, self.resource, self.namespace, self.name)

    @property
    def collection(self) -> str:
        return path_of(self.api_version, self.resource, self.namespace)

    def permission(self, verb: str) -> Permission:
        group = self.api_version.partition("/")[0] if "/" in self.api_version else ""
        return Permission(verb, self.resource, group, self.namespace)

    def __str__(self) -> str:
        return f"{self.manifest['kind']} {self.namespace + '/' if self.namespace else ''}{self.name}"


def wanted(config: Config, names: Names) -> list[Wanted]:
    """All objects but the Job, the namespace first."""
    run = names.run if names.own_rbac else ""
    account, where = names.account, config.namespace
    return [
        Wanted("namespaces", objects.namespace(where, names.run if config.cleanup_rbac else "")),
        Wanted("serviceaccounts", objects.service_account(account, where, run)),
        Wanted("roles", objects.role(account, names.output_namespace, run)),
        Wanted("rolebindings", objects.role_binding(account, names.output_namespace, account, where, run)),
        Wanted("clusterroles", objects.cluster_role(account, run)),
        Wanted("clusterrolebindings", objects.cluster_role_binding(account, account, where, run)),
    ]


async def look(kube: Kube, items: list[Wanted], run: str) -> None:
    """Find out how each object stands.

    Raises TakenError when another run's temporary ones have these names, or somebody else's that would have to be
    changed; ClusterError for a namespace that is going.
    """
    owners = await together(_look(kube, item, run) for item in items)
    marked = [(item, owner) for item, owner in zip(items, owners, strict=True) if owner]
    alive = await living(kube) if marked else None
    for item, owner in marked:
        if alive is None or owner in alive or not item.ours or not settled(item.since):
            raise _taken(item)
        item.action = Action.REPLACE


def _taken(item: Wanted) -> TakenError:
    return TakenError(f"{item} belongs to another run")


async def _look_again(kube: Kube, item: Wanted, run: str) -> None:
    if await _look(kube, item, run):
        raise _taken(item)


async def _look(kube: Kube, item: Wanted, run: str) -> str:
    """Find out how it stands; the other run whose mark it bears, if it bears one."""
    try:
        there: Manifest = await kube.get(item.path, dict[str, Any])
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            item.action = Action.CREATE
        elif error.code is not Code.CLUSTER_FORBIDDEN:
            raise
        # Whoever may not look may still be allowed to use what an administrator made; the Job will tell.
        return ""
    metadata = there["metadata"]
    owner = str(metadata.get("annotations", {}).get(RUN_ANNOTATION, ""))
    item.uid, item.since = metadata["uid"], metadata["creationTimestamp"]
    labels = metadata.get("labels", {})
    item.ours = labels.get(MANAGED_BY) == LABELS[MANAGED_BY]
    if item.resource == "namespaces":
        _judge_namespace(item, metadata, owner)
        return ""
    item.ours = item.ours and belongs(labels)
    if owner not in ("", run):
        return owner
    if item.manifest.get("roleRef") != there.get("roleRef"):
        raise TakenError(f"{item} is for another role")  # which cannot be changed in a binding
    item.change = _change(item.manifest, there)
    if item.change and not belongs(labels):
        raise TakenError(f"{item} was not made by Eidos and is left alone")
    item.action = Action.PATCH if item.change else Action.KEEP
    return ""


def _judge_namespace(item: Wanted, metadata: Manifest, owner: str) -> None:
    if metadata.get("deletionTimestamp"):
        raise ClusterError(
            Code.CLUSTER_CONFLICT,
            f"namespace {item.name} is being deleted, and nothing can be created in it",
            "Wait until it is gone, or choose another --namespace.",
        )
    item.temporary = bool(owner)
    item.change = {} if item.ours else {"metadata": {"labels": {MANAGED_BY: LABELS[MANAGED_BY]}}}
    item.action = Action.PATCH if item.change else Action.KEEP


def _change(want: Manifest, there: Manifest) -> Manifest:
    """What mends a role or binding: rules become exactly ours, subjects come to include ours.

    A ClusterRoleBinding serves the runs in every namespace, each with a ServiceAccount of its own.
    """
    change: Manifest = {}
    if "rules" in want and there.get("rules") != want["rules"]:
        change["rules"] = want["rules"]
    subjects = there.get("subjects") or []
    missing = [subject for subject in want.get("subjects", ()) if subject not in subjects]
    if missing:
        # A list is replaced as a whole: only that of the version that was read.
        change["subjects"] = subjects + missing
        change["metadata"] = {"resourceVersion": there["metadata"]["resourceVersion"]}
    return change


async def rehearse(kube: Kube, items: list[Wanted]) -> None:
    """Let the API server say, by dry runs, what no access review tells: whether we may grant what the roles grant."""
    roles = [item for item in items if item.resource == "clusterroles"]
    if items[0].action is not Action.CREATE:  # in a namespace that is not there nothing can be rehearsed
        roles += [item for item in items if item.resource == "roles"]
    dry = {"dryRun": "All"}
    calls = [kube.create(item.collection, item.manifest, Metadata, dry) for item in roles if item.action == "create"]
    calls += [kube.patch(item.path, item.change, Metadata, dry) for item in roles if item.action == "patch"]
    try:
        await together(calls)
    except KubeError as error:
        if error.code is Code.CLUSTER_FORBIDDEN:
            raise ClusterError(error.code, error.message, f"Nothing was created. {error.hint}") from error
        if error.code not in (Code.CLUSTER_CONFLICT, Code.CLUSTER_NOT_FOUND):  # another run does it just now
            raise


async def ensure(kube: Kube, item: Wanted, run: str) -> None:
    """Create or mend one object. Raises TakenError when another run was faster."""
    if item.action is Action.REPLACE:
        await _clear(kube, item)
    if item.action is Action.CREATE:
        item.tried = True
        try:
            made = await kube.create(item.collection, item.manifest, Metadata)
        except KubeError as error:
            item.tried = not refused(error)
            if error.reason != "AlreadyExists":
                raise
            await _look_again(kube, item, run)
        else:
            item.made = item.ours = True
            item.uid, item.temporary = made.metadata.uid, RUN_ANNOTATION in made.metadata.annotations
            return
    for _ in range(_MOST_TRIES):
        if item.action is not Action.PATCH:
            return
        try:
            await kube.patch(item.path, item.change, Metadata)
        except KubeError as error:
            if item.resource == "namespaces" and error.code is Code.CLUSTER_FORBIDDEN:
                return  # a label is not worth refusing the snapshot
            if error.code is not Code.CLUSTER_CONFLICT:
                raise
            await asyncio.sleep(kube.pause(1, error))
            await _look_again(kube, item, run)
        else:
            return
    raise ClusterError(Code.CLUSTER_CONFLICT, f"others keep changing {item} at the same time", "Try again.")


async def _clear(kube: Kube, item: Wanted) -> None:
    """By its UID: of several that take it over at the same time one creates it, and the others find that one's."""
    try:
        await kube.delete(item.path, preconditions={"uid": item.uid})
    except KubeError as error:
        if error.code is not Code.CLUSTER_CONFLICT:
            raise
    item.action, item.uid, item.ours = Action.CREATE, "", False


def refused(error: KubeError) -> bool:
    """Whether the API server has said no; otherwise what was asked for may have been done."""
    return 400 <= error.status < 500


async def adopt(kube: Kube, item: Wanted, run: str) -> None:
    """Find out whether an interrupted creation did happen; the run's own annotation proves it."""
    try:
        there = await kube.get(item.path, Metadata)
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            return
        raise
    if there.metadata.annotations.get(RUN_ANNOTATION) == run:
        item.made = item.ours = True
        item.uid, item.temporary = there.metadata.uid, True


async def withdraw(kube: Kube, item: Wanted) -> bool:
    """Delete an object that may serve others, or only take our subjects out of it; whether it was deleted."""
    for _ in range(_MOST_TRIES):
        try:
            there: Manifest = await kube.get(item.path, dict[str, Any])
        except KubeError as error:
            if error.code is Code.CLUSTER_NOT_FOUND:
                return True
            raise
        others = [s for s in there.get("subjects") or () if s not in item.manifest.get("subjects", ())]
        version = {"resourceVersion": there["metadata"]["resourceVersion"]}
        try:
            if others:
                await kube.patch(item.path, {"subjects": others, "metadata": version}, Metadata)
                return False
            await kube.delete(item.path, preconditions={"uid": item.uid, **version})
        except KubeError as error:
            if error.code is not Code.CLUSTER_CONFLICT:
                raise
        else:
            return True
    return False
