"""Which cluster is meant, how it is reached and who we are there."""

import base64
import binascii
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from common.errors import Code, InputError, UsageError
from common.kube.choice import NOT_CONFIGURED, SERVICE_ACCOUNT, in_pod, kubeconfig_paths, listed_in_vain
from common.kube.credentials import (
    Credential,
    Credentials,
    FixedCredentials,
    PluginCredentials,
    TokenFile,
    basic,
    bearer,
)
from common.kube.kubeconfig import Cluster, KubeContext, User, read_kubeconfig


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster and an identity there. Nothing secret shows in its repr."""

    server: str
    """`https://host:port`, perhaps with a path, without a slash at the end."""
    credentials: Credentials = field(repr=False)
    context: str = ""
    """The kubeconfig's name for it; empty in a pod."""
    namespace: str = "default"
    ca: str = field(default="", repr=False)
    """PEM text; empty means the system's certificate authorities."""
    verify: bool = True
    tls_server_name: str = ""
    proxy: str = field(default="", repr=False)
    """URL of an HTTP proxy; may hold a password."""


def load_target(
    kubeconfig: str | None = None,
    context: str | None = None,
    environment: Mapping[str, str] | None = None,
    account: str = SERVICE_ACCOUNT,
) -> Target:
    """The cluster by kubectl's rules: the given file, $KUBECONFIG, ~/.kube/config, then the pod's service account.

    Raises UsageError when there is none or the context is unknown, InputError for a file that cannot be used.
    """
    environment = os.environ if environment is None else environment
    paths = kubeconfig_paths(kubeconfig, environment)
    files = read_kubeconfig(paths)
    # An empty default file is no answer in a pod; a file or context that was asked for is.
    if paths and (files.contexts or kubeconfig or context or not in_pod(environment, account)):
        name, chosen, cluster, user = files.choose(context)
        return _from_kubeconfig(files.source, name, chosen, cluster, user, environment)
    if in_pod(environment, account):
        if context:
            raise UsageError(f"there is no context {context!r}: in a pod without a kubeconfig there are none")
        return _from_pod(environment, account)
    if why := listed_in_vain(environment):
        raise UsageError(f"no cluster is configured here: {why}", "Give --kubeconfig FILE.")
    raise UsageError(NOT_CONFIGURED, "Give --kubeconfig FILE, or set KUBECONFIG.")


def _from_pod(environment: Mapping[str, str], account: str) -> Target:
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment.get("KUBERNETES_SERVICE_PORT") or "443"
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    namespace_file = os.path.join(account, "namespace")
    return Target(
        server=server,
        credentials=TokenFile(os.path.join(account, "token")),
        namespace=_read(namespace_file, "the pod's namespace").strip()
        if os.path.exists(namespace_file)
        else "default",
        ca=_read(os.path.join(account, "ca.crt"), "the cluster's certificate authority"),
        proxy=proxy_for(server, environment),
    )


def _from_kubeconfig(
    source: str, name: str, context: KubeContext, cluster: Cluster, user: User, environment: Mapping[str, str]
) -> Target:
    server = cluster.server.rstrip("/")
    if wrong := _wrong_with(server):
        raise InputError(
            Code.INPUT_MALFORMED, f"the server of cluster {context.cluster!r} in the kubeconfig {source} {wrong}"
        )
    return Target(
        server=server,
        credentials=_credentials(source, context, user),
        context=name,
        namespace=context.namespace or "default",
        ca=_pem(source, "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority),
        verify=not cluster.insecure_skip_tls_verify,
        tls_server_name=cluster.tls_server_name,
        proxy=_checked_proxy(cluster.proxy_url, source) or proxy_for(server, environment),
    )


def _wrong_with(server: str) -> str:
    """What is wrong with the address, without quoting it: it may hold a password."""
    try:
        parts = urlsplit(server)
        parts.port  # noqa: B018 - this is where it is looked at
    except ValueError:
        return "has no valid host and port"
    if parts.username is not None:
        return "must not hold a user name or password: they belong to the user's entry"
    return "" if parts.scheme in ("https", "http") and parts.hostname else "is not an http or https address"


def _credentials(source: str, context: KubeContext, user: User) -> Credentials:
    rest = Credential(certificate=_certificate(source, user), impersonate=_impersonate(user))
    if user.token_file:
        return TokenFile(user.token_file, rest)
    if user.token:
        return FixedCredentials(Credential(bearer(user.token), rest.certificate, rest.impersonate))
    if user.exec is not None or user.auth_provider is not None:
        return PluginCredentials(_plugin_document(user), "eidos", context.user, rest)
    if user.username:
        return FixedCredentials(Credential(basic(user.username, user.password), rest.certificate, rest.impersonate))
    return FixedCredentials(rest)


def _plugin_document(user: User) -> dict[str, Any]:
    """A kubeconfig with the plugin alone: all else, the certificate authority included, is our own business."""
    entry = {"exec": user.exec} if user.exec is not None else {"auth-provider": user.auth_provider}
    return {
        "clusters": [{"name": "eidos", "cluster": {"server": "https://eidos.invalid"}}],
        "users": [{"name": "eidos", "user": entry}],
        "contexts": [{"name": "eidos", "context": {"cluster": "eidos", "user": "eidos"}}],
    }


def _certificate(source: str, user: User) -> tuple[str, str] | None:
    certificate = _pem(source, "client-certificate", user.client_certificate_data, user.client_certificate)
    key = _pem(source, "client-key", user.client_key_data, user.client_key)
    if certificate and not key:  # would go out as nobody
        raise InputError(
            Code.INPUT_MALFORMED, f"a user in the kubeconfig {source} has a client-certificate, but no client-key"
        )
    return (certificate, key) if certificate else None


def _impersonate(user: User) -> tuple[tuple[str, str], ...]:
    headers = [("Impersonate-User", user.as_user)] if user.as_user else []
    headers += [("Impersonate-Uid", user.as_uid)] if user.as_uid else []
    headers += [("Impersonate-Group", group) for group in user.as_groups]
    for key, values in user.as_user_extra.items():
        headers += [(f"Impersonate-Extra-{quote(key, safe='')}", value) for value in values]
    return tuple(headers)


def _pem(source: str, name: str, data: str, path: str) -> str:
    """What the kubeconfig holds as `NAME-data`, else the file it names; empty where it has neither.

    Comments between certificates may be in any encoding and count for nothing.
    """
    if not data:
        return _read(path, f"the {name} in the kubeconfig {source},") if path else ""
    try:
        text = base64.b64decode("".join(data.split()), validate=True).decode("ascii", "ignore")
    except (binascii.Error, ValueError):
        text = ""
    if not text.strip():
        raise InputError(Code.INPUT_MALFORMED, f"{name}-data in the kubeconfig {source} is not base64 of a PEM file")
    return text


def _read(path: str, what: str) -> str:
    try:
        with open(path, encoding="ascii", errors="ignore") as file:
            text = file.read(1 << 20)
    except OSError as error:
        why = (error.strerror or "").lower()
        raise InputError(Code.INPUT_UNREADABLE, f"{what} {path} cannot be read: {why}") from error
    if not text.strip():
        raise InputError(Code.INPUT_MALFORMED, f"{what} {path} is empty")
    return text


def _checked_proxy(url: str, source: str) -> str:
    if url and _scheme(url) not in ("http", "https"):
        raise UsageError(
            f"the proxy-url in the kubeconfig {source} is not an http or https address",
            "Other proxies are not supported; put an HTTP proxy in its place.",
        )
    return url


def _scheme(url: str) -> str:
    """Empty for what is no address."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - this is where it is looked at
    except ValueError:
        return ""
    return parts.scheme if parts.hostname else ""


def proxy_for(server: str, environment: Mapping[str, str]) -> str:
    """The proxy the environment asks for, by Go's rules, which kubectl follows: NO_PROXY may hold networks."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    name = f"{parts.scheme}_proxy"
    proxy = environment.get(name.upper()) or environment.get(name) or ""
    if not proxy or _is_loopback(host):
        return ""
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    exceptions = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    return "" if any(_excepted(host, rule.strip()) for rule in exceptions.split(",")) else _http_only(proxy)


def _http_only(proxy: str) -> str:
    if _scheme(proxy) not in ("http", "https"):
        raise UsageError(
            "the proxy in the environment is not an http or https address",
            "Add the API server to NO_PROXY, or name an HTTP proxy.",
        )
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _excepted(host: str, rule: str) -> bool:
    if rule == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        pass
    rule = rule.lower().removeprefix("*").partition(":")[0]
    return bool(rule) and (host == rule.removeprefix(".") or host.endswith(f".{rule.removeprefix('.')}"))
