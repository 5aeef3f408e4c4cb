"""What is asked of the API server: the path of a resource, and the request in words for messages. Pure."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote, urlencode

import msgspec

_PATH: Final = re.compile(
    r"""
    (?: /api/v1 | /apis/(?P<group>[^/]+)/[^/]+ )
    (?: /namespaces/(?P<namespace>[^/]+) (?=/[^/]) )?
    / (?P<resource>[^/]+)
    (?: / (?P<name>[^/]+) (?: / (?P<sub>[^/]+) )? )?
    """,
    re.VERBOSE,
)
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

Params = Mapping[str, str | int]


def path_of(api_version: str, resource: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The path of a collection or an object: `path_of("apps/v1", "deployments", "default", "web")`."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    tail = "".join(f"/{quote(part, safe='')}" for part in (resource, name, subresource) if part)
    return root + scope + tail


class Call(msgspec.Struct, frozen=True):
    """One request, without its body and credentials."""

    method: str
    path: str
    params: Params = {}

    @property
    def url(self) -> str:
        """Path and query, escaped."""
        return f"{self.path}?{urlencode(self.params)}" if self.params else self.path

    @property
    def repeatable(self) -> bool:
        """Whether doing it twice is the same as doing it once."""
        return self.method != "POST"

    @property
    def verb(self) -> str:
        """As RBAC calls it."""
        if self.method != "GET":
            return _VERBS[self.method]
        if "watch" in self.params:
            return "watch"
        match = _PATH.fullmatch(self.path)
        return "get" if match is None or match["name"] else "list"

    @property
    def resource(self) -> str:
        """`pods/log`, `clusterpolicies.nvidia.com`; the path itself when it is no resource."""
        match = _PATH.fullmatch(self.path)
        if match is None:
            return self.path
        resource = match["resource"] + (f"/{match['sub']}" if match["sub"] else "")
        return f"{resource}.{match['group']}" if match["group"] else resource

    @property
    def name(self) -> str:
        match = _PATH.fullmatch(self.path)
        return unquote(match["name"] or "") if match else ""

    @property
    def place(self) -> str:
        """` in namespace x`, or nothing for what is in no namespace."""
        match = _PATH.fullmatch(self.path)
        return f" in namespace {unquote(match['namespace'])}" if match and match["namespace"] else ""

    def __str__(self) -> str:
        """`get configmaps eidos-snapshot in namespace gpu-operator`."""
        return f"{self.verb} {self.resource}{' ' if self.name else ''}{self.name}{self.place}"
