"""The objects a Job needs around it: what is there, what must change, what this run may delete again."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from agent.job import objects
from agent.job.config import LABELS, MANAGED_BY, RUN_ANNOTATION, Config
from agent.job.names import Names
from agent.job.objects import Manifest
from agent.job.permissions import Permission
from common.errors import Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.errors import KubeError
from common.kube.types import Metadata

_RBAC: Final = "rbac.authorization.k8s.io"


class Action(StrEnum):
    """What has to be done with an object."""

    KEEP = "keep"
    CREATE = "create"
    PATCH = "patch"


class TakenError(Exception):
    """The RBAC objects of that name belong to another run, which will delete them when it ends."""


@dataclass(slots=True)
class Wanted:
    """One object as it should be, and how it was found."""

    resource: str
    manifest: Manifest
    action: Action = Action.KEEP
    ours: bool = False
    """Made by Eidos, in this run or an earlier one; others' are never deleted."""
    uid: str = ""
    differs: tuple[str, ...] = field(default=())
    """Top-level fields that have to be patched."""

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
        Wanted("namespaces", objects.namespace(where)),
        Wanted("serviceaccounts", objects.service_account(account, where, run)),
        Wanted("roles", objects.role(account, names.output_namespace, run)),
        Wanted("rolebindings", objects.role_binding(account, names.output_namespace, account, where, run)),
        Wanted("clusterroles", objects.cluster_role(account, run)),
        Wanted("clusterrolebindings", objects.cluster_role_binding(account, account, where, run)),
    ]


async def look(kube: Kube, items: list[Wanted], run: str) -> None:
    """Find out how each object stands. Raises TakenError when another run's temporary ones have these names."""
    await asyncio.gather(*(_look(kube, item, run) for item in items))


async def _look(kube: Kube, item: Wanted, run: str) -> None:
    try:
        there: Manifest = await kube.get(item.path, dict[str, Any])
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            item.action = Action.CREATE
        elif error.code is not Code.CLUSTER_FORBIDDEN:
            raise
        # Whoever may not look may still be allowed to use what an administrator made; the Job will tell.
        return
    metadata = there["metadata"]
    owner = metadata.get("annotations", {}).get(RUN_ANNOTATION, "")
    if owner not in ("", run):
        raise TakenError(str(item))
    item.uid = metadata["uid"]
    item.ours = metadata.get("labels", {}).get(MANAGED_BY) == LABELS[MANAGED_BY]
    if item.resource == "namespaces":
        item.action = Action.KEEP if item.ours else Action.PATCH
        item.ours = False  # a namespace that was there may hold anything
        return
    item.differs = tuple(
        name for name in ("rules", "subjects") if name in item.manifest and there.get(name) != item.manifest[name]
    )
    if item.manifest.get("roleRef") != there.get("roleRef"):
        raise TakenError(str(item))  # a binding's role cannot be changed, and this one is for something else
    item.action = Action.PATCH if item.differs else Action.KEEP


async def ensure(kube: Kube, item: Wanted, run: str) -> None:
    """Create or mend one object. Raises TakenError when another run was faster."""
    if item.action is Action.CREATE:
        try:
            made = await kube.create(item.collection, item.manifest, Metadata)
        except KubeError as error:
            if error.reason != "AlreadyExists":
                raise
            await _look(kube, item, run)
        else:
            item.ours, item.uid = True, made.metadata.uid
            return
    if item.action is Action.PATCH and item.resource == "namespaces":
        label = {"metadata": {"labels": {MANAGED_BY: LABELS[MANAGED_BY]}}}
        try:
            await kube.patch(item.path, label, Metadata)
        except KubeError as error:
            if error.code is not Code.CLUSTER_FORBIDDEN:  # a label is not worth refusing the snapshot
                raise
    elif item.action is Action.PATCH:
        await kube.patch(item.path, {name: item.manifest[name] for name in item.differs}, Metadata)


async def adopt(kube: Kube, item: Wanted, run: str) -> None:
    """Find out whether an interrupted creation did happen; the run's own annotation proves it."""
    try:
        there = await kube.get(item.path, Metadata)
    except KubeError as error:
        if error.code is Code.CLUSTER_NOT_FOUND:
            return
        raise
    if there.metadata.annotations.get(RUN_ANNOTATION) == run:
        item.ours, item.uid = True, there.metadata.uid
