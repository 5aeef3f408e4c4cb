"""Asks the API server what the user may do, before anything is created."""

from collections.abc import Iterable, Sequence
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

    @property
    def kind(self) -> str:
        """Resource, subresource and group as kubectl names them."""
        resource = self.resource + (f"/{self.subresource}" if self.subresource else "")
        return resource + (f".{self.group}" if self.group else "")


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
    verbs: dict[tuple[str, str], list[str]] = {}
    for permission in (check.permission for check in checks if not check.allowed):
        verbs.setdefault((permission.namespace, permission.kind), []).append(permission.verb)
    # Resources that lack the same verbs share a clause: an installation needs some sixty permissions.
    kinds: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (namespace, kind), lacking in verbs.items():
        kinds.setdefault((namespace, tuple(lacking)), []).append(kind)
    clauses = [
        f"{_listed(lacking, 'or')} {_listed(named, 'and')}" + (f" in namespace {namespace}" if namespace else "")
        for (namespace, lacking), named in kinds.items()
    ]
    if clauses:
        raise ClusterError(Code.CLUSTER_FORBIDDEN, f"you may not {'; nor '.join(clauses)}", hint)


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
