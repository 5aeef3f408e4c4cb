"""Kubeconfig files by kubectl's rules: several files, the first to name something wins, paths relative to the file.

Read here and not by kubernetes_asyncio, whose loader costs 0.3 s to import, lets the last file choose the context,
and answers a malformed file with an assertion.
"""

import os
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

from common.errors import Code, InputError, UsageError

_LONGEST_FILE: Final = 16 << 20
_MOST_LEVELS: Final = 64  # a kubeconfig has seven; extensions may have more


class _Entry(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    pass


class Cluster(_Entry, frozen=True):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = msgspec.field(default="")
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class User(_Entry, frozen=True):
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    username: str = ""
    password: str = ""
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    exec: dict[str, Any] | None = None
    auth_provider: dict[str, Any] | None = None
    as_user: str = msgspec.field(default="", name="as")
    as_uid: str = ""
    as_groups: list[str] = []
    as_user_extra: dict[str, list[str]] = {}


class KubeContext(_Entry, frozen=True):
    cluster: str
    user: str = ""
    namespace: str = ""


class _NamedCluster(_Entry, frozen=True):
    name: str
    cluster: Cluster


class _NamedUser(_Entry, frozen=True):
    name: str
    user: User | None = None


class _NamedContext(_Entry, frozen=True):
    name: str
    context: KubeContext


class _File(_Entry, frozen=True):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str | None = None


class Kubeconfig(msgspec.Struct):
    """Merged files. Paths inside are absolute."""

    paths: list[str]
    clusters: dict[str, Cluster] = {}
    users: dict[str, User] = {}
    contexts: dict[str, KubeContext] = {}
    current_context: str = ""

    @property
    def source(self) -> str:
        return os.pathsep.join(self.paths)

    def choose(self, context: str | None) -> tuple[str, KubeContext, Cluster, User]:
        """The named context, or the current one: its name, itself, its cluster and its user."""
        name = context or self.current_context
        known = f"Choose one with --context: {', '.join(sorted(self.contexts))}." if self.contexts else ""
        if not name:
            raise UsageError(f"the kubeconfig {self.source} has no current context", known)
        chosen = self.contexts.get(name)
        if chosen is None:
            raise UsageError(f"there is no context {name!r} in the kubeconfig {self.source}", known)
        cluster = self.clusters.get(chosen.cluster)
        if cluster is None or not cluster.server:
            raise self._incomplete(name, f"the cluster {chosen.cluster!r}, which has no server there")
        user = self.users.get(chosen.user) if chosen.user else User()
        if user is None:
            raise self._incomplete(name, f"the user {chosen.user!r}, who is not there")
        return name, chosen, cluster, user

    def _incomplete(self, context: str, what: str) -> InputError:
        return InputError(
            Code.INPUT_MALFORMED, f"the context {context!r} of the kubeconfig {self.source} names {what}"
        )


def read_kubeconfig(paths: Iterable[str]) -> Kubeconfig:
    """Read and merge. Raises InputError naming the file and the field that is wrong, never its content."""
    merged = Kubeconfig([], {}, {}, {})
    for path in paths:
        document = _read_file(path)
        merged.paths.append(path)
        base = os.path.dirname(os.path.abspath(path))
        for cluster in document.clusters or []:
            merged.clusters.setdefault(cluster.name, _absolute(cluster.cluster, base, "certificate_authority"))
        for user in document.users or []:
            found = _absolute(user.user or User(), base, "token_file", "client_certificate", "client_key")
            merged.users.setdefault(user.name, _absolute_command(found, base))
        for context in document.contexts or []:
            merged.contexts.setdefault(context.name, context.context)
        merged.current_context = merged.current_context or document.current_context or ""
    return merged


def _read_file(path: str) -> _File:
    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise InputError(
            Code.INPUT_UNREADABLE, f"the kubeconfig {path} cannot be read: {(error.strerror or '').lower()}"
        ) from error
    if len(content) > _LONGEST_FILE:
        raise InputError(Code.INPUT_TOO_LARGE, f"the kubeconfig {path} is longer than {_LONGEST_FILE} bytes")
    try:
        _refuse_depth(content)
        # An empty file is an empty configuration to kubectl; in YAML it is a null.
        return msgspec.yaml.decode(content, type=_File | None) or _File()
    except msgspec.ValidationError as error:  # names the place and the types, not the value
        raise InputError(Code.INPUT_MALFORMED, f"the kubeconfig {path} is malformed: {error}") from error
    except (msgspec.DecodeError, RecursionError):  # would quote the line, which may hold a token
        raise InputError(Code.INPUT_MALFORMED, f"the kubeconfig {path} is not YAML") from None


def _refuse_depth(content: bytes) -> None:
    """Raise RecursionError before libyaml's composer, which calls itself for each level, runs out of stack."""
    import yaml

    depth = 0
    try:
        for event in yaml.parse(content, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_LEVELS:
                raise RecursionError
    except yaml.YAMLError:
        return  # the decoder says so


_E = TypeVar("_E", Cluster, User)


def _absolute(entry: _E, base: str, *fields: str) -> _E:
    changed = {name: os.path.join(base, value) for name in fields if (value := getattr(entry, name))}
    return msgspec.structs.replace(entry, **changed)


def _absolute_command(user: User, base: str) -> User:
    """A plugin named with a slash is relative to the file; a bare name is looked for in PATH."""
    command = (user.exec or {}).get("command")
    if isinstance(command, str) and "/" in command:
        return msgspec.structs.replace(user, exec={**(user.exec or {}), "command": os.path.join(base, command)})
    return user
