"""Asks the API server what the user may do, before anything is created."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from common.errors import ClusterError, Code
from common.kube.call import path_of
from common.kube.client import Kube
from common.kube.together import together


class Permission(NamedTuple):
    """One thing a user may or may not do. `group` is the API group, `namespace` empty for the whole cluster."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        resource = self.resource + (f"/{self.subresource}" if self.subresource else "")
        resource += f".{self.group}" if self.group else ""
        return f"{self.verb} {resource}" + (f" in namespace {self.namespace}" if self.namespace else "")


class PermissionCheck(NamedTuple):
    """The API server's answer about one permission."""

    permission: Permission
    allowed: bool
    reason: str


class _ReviewStatus(msgspec.Struct):
    allowed: bool = False
    reason: str = ""


class _Review(msgspec.Struct):
    status: _ReviewStatus = msgspec.field(default_factory=_ReviewStatus)


async def check(kube: Kube, permissions: Iterable[Permission]) -> list[PermissionCheck]:
    """Ask about all of them at once (authorization.k8s.io/v1 SelfSubjectAccessReview)."""
    return await together(_check(kube, permission) for permission in dict.fromkeys(permissions))


async def _check(kube: Kube, permission: Permission) -> PermissionCheck:
    attributes = {
        "verb": permission.verb,
        "resource": permission.resource,
        "group": permission.group,
        "namespace": permission.namespace,
        "subresource": permission.subresource,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {name: value for name, value in attributes.items() if value}},
    }
    review = await kube.create(path_of("authorization.k8s.io/v1", "selfsubjectaccessreviews"), body, _Review)
    return PermissionCheck(permission, review.status.allowed, review.status.reason)


def refuse_missing(checks: Iterable[PermissionCheck], hint: str) -> None:
    """Raise ClusterError (CLUSTER_FORBIDDEN) naming every permission that is missing; `hint` says what to do."""
    missing = [str(check.permission) for check in checks if not check.allowed]
    if missing:
        raise ClusterError(
            Code.CLUSTER_FORBIDDEN,
            f"you may not {'; nor '.join(missing)}",
            hint,
        )
