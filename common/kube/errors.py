"""What can go wrong between us and an API server, mapped to one error in one place.

No exception of aiohttp, ssl, asyncio, msgspec or kubernetes_asyncio leaves this package. `from_reply` maps what the
server answered, `from_exception` what kept it from answering; an exception that neither knows is a defect (a test
walks through the libraries' exceptions). Nothing of the request but its method and path goes into a message: no
header, no body, and nothing of a reply that is no Status, because proxies echo credentials.
"""

import ssl
from collections.abc import Callable
from typing import Any, Final

import msgspec

from common.errors import ClusterError, Code
from common.kube.call import Call
from common.kube.types import Status

_LONGEST_MESSAGE: Final = 500
_status_decoder: Final = msgspec.json.Decoder(Status)


class KubeError(ClusterError):
    """An API server refused, failed, or could not be reached.

    `status` is the HTTP status (0 without an answer) and `reason` the server's machine-readable reason
    ("AlreadyExists", "Expired"). `transient` says that the same call may succeed later, and that repeating it does
    no harm; `retry_after` is the server's own wish in seconds.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        hint: str = "",
        *,
        status: int = 0,
        reason: str = "",
        transient: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, hint)
        self.status = status
        self.reason = reason
        self.transient = transient
        self.retry_after = retry_after


def from_reply(call: Call, server: str, status: int, body: bytes, retry_after: str = "") -> KubeError:
    """What an answer other than success means. `retry_after` is the header of that name."""
    answer = _parse_status(body)
    wait = _seconds(retry_after, answer)
    code, message, hint = _word(call, server, status, answer)
    # A refusal before anything was done may be repeated even where the call itself may not.
    refused = status == 429 or (status == 503 and wait is not None)
    return KubeError(
        code,
        message,
        hint,
        status=status,
        reason=answer.reason,
        transient=refused or (status in (408, 500, 502, 503, 504) and call.repeatable),
        retry_after=wait,
    )


def _parse_status(body: bytes) -> Status:
    try:
        status = _status_decoder.decode(body)
    except msgspec.DecodeError:
        return Status()
    return status if status.kind == "Status" else Status()


def _seconds(header: str, status: Status) -> float | None:
    """Retry-After in seconds. Its other form, a date, is not used by API servers."""
    if header.isascii() and header.isdigit() and len(header) < 6:
        return float(header)
    return float(status.details.retry_after_seconds) or None if status.details else None


def _word(call: Call, server: str, status: int, answer: Status) -> tuple[Code, str, str]:
    """Code, sentence and hint for an answer that is no success."""
    why = _clean(answer.message) or f"HTTP status {status}"
    if status == 401:
        return (
            Code.CLUSTER_UNAUTHORIZED,
            f"the API server {server} does not accept the credentials; they are wrong or have expired",
            "Log in again, or choose another --context.",
        )
    if status == 403:
        # "configmaps "x" is forbidden: User ... cannot ...": the first half is what we say ourselves. No hint: RBAC,
        # quotas, pod security and webhooks all answer so, and each says what it wants.
        _, forbidden, reason = why.partition("is forbidden: ")
        return Code.CLUSTER_FORBIDDEN, f"{call} is forbidden: {reason if forbidden else why}", ""
    if status == 404:
        return Code.CLUSTER_NOT_FOUND, _not_found(call, server, answer), ""
    if status == 409:
        if answer.reason == "AlreadyExists":
            return Code.CLUSTER_CONFLICT, f"{call.resource} {_named(call, answer)}{call.place} already exists", ""
        return Code.CLUSTER_CONFLICT, f"cannot {call}: somebody else changed it: {why}", ""
    if status == 429:
        return Code.CLUSTER_THROTTLED, f"the API server {server} is busy and refused to {call}", "Try again later."
    if status == 410:
        return Code.CLUSTER_FAILED, f"cannot {call}: the version asked for is gone", ""
    if 400 <= status < 500:
        return Code.CLUSTER_INVALID, f"the API server refuses to {call}: {why}", ""
    if 300 <= status < 400:
        return (
            Code.CLUSTER_FAILED,
            f"{server} answers with a redirect, so it is hardly an API server",
            "Check the server's address in the kubeconfig.",
        )
    return Code.CLUSTER_FAILED, f"the API server {server} failed to {call}: {why}", ""


def _not_found(call: Call, server: str, answer: Status) -> str:
    details = answer.details
    if details and details.name:  # not always what was asked for: creating in a namespace that is not there
        if details.kind == "namespaces":
            return f"the namespace {details.name} was not found"
        if call.verb == "create" and call.resource.partition(".")[0] == details.kind:
            # Of a binding to a role that is not there the API server says that the binding is not.
            return f"cannot create {call.resource} {details.name}{call.place}: what it refers to was not found"
        return f"{details.kind or call.resource} {details.name}{call.place} was not found"
    if call.name and answer.reason == "NotFound":
        return f"{call.resource} {call.name}{call.place} was not found"
    return f"the API server {server} has no {call.resource}"


def _named(call: Call, answer: Status) -> str:
    return call.name or (answer.details.name if answer.details else "")


def _clean(message: str) -> str:
    """One line of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in message[: 2 * _LONGEST_MESSAGE]).split())
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


def unexpected_reply(call: Call, server: str, what: str) -> KubeError:
    """A success whose content cannot be used."""
    return KubeError(
        Code.CLUSTER_FAILED,
        f"{server} answered {call} with {what}",
        "Check that the address in the kubeconfig is an API server's.",
    )


def too_large(call: Call, limit: int) -> KubeError:
    return KubeError(Code.CLUSTER_FAILED, f"the answer to {call} is longer than {limit} bytes")


def out_of_time(call: Call, server: str, last: KubeError | None = None) -> KubeError:
    """The caller's own deadline has passed; `last` is what went wrong before that."""
    why = f"; before that, {last.message}" if last else ""
    return KubeError(Code.DEADLINE, f"the API server {server} did not {call} before the deadline{why}")


def unreachable(server: str, why: str, *, transient: bool, hint: str = "") -> KubeError:
    return KubeError(
        Code.CLUSTER_UNREACHABLE,
        f"the API server {server} cannot be reached: {why}",
        hint or "Check the network, or choose another --context.",
        transient=transient,
    )


def from_exception(call: Call, server: str, error: Exception) -> KubeError:
    """What an exception of the libraries below means. Raises TypeError for one that is not known: a defect."""
    for kind in type(error).__mro__:
        if word := _exceptions().get(kind):
            return word(call, server, error)
    raise TypeError(f"{type(error).__name__} is not mapped") from error


_Word = Callable[[Call, str, Any], KubeError]


def _lost(why: str) -> _Word:
    """The connection broke while the call was under way: the server may have carried it out."""
    return lambda call, server, error: unreachable(server, why, transient=call.repeatable)


def _not_connected(call: Call, server: str, error: OSError) -> KubeError:
    """Nothing was sent, so that anything may be tried again."""
    return unreachable(server, _os_reason(error), transient=True)


def _os_reason(error: OSError) -> str:
    """The system's own words, without addresses: "connection refused"."""
    import errno
    import os

    known = error.errno is not None and error.errno in errno.errorcode
    return os.strerror(error.errno).lower() if known and error.errno else "the connection failed"


def _no_such_host(call: Call, server: str, error: OSError) -> KubeError:
    return unreachable(server, "its name does not resolve", transient=True)


def _proxy_down(call: Call, server: str, error: OSError) -> KubeError:
    return unreachable(server, f"the proxy before it cannot be reached: {_os_reason(error)}", transient=True)


def _proxy_refused(call: Call, server: str, error: Any) -> KubeError:
    return unreachable(server, f"the proxy before it refused with HTTP status {error.status}", transient=False)


def _bad_certificate(call: Call, server: str, error: Any) -> KubeError:
    inner = getattr(error, "certificate_error", error)
    why = getattr(inner, "verify_message", "") or "it is not valid"
    return unreachable(
        server,
        f"its certificate is not trusted: {_clean(why)}",
        transient=False,
        hint="Check certificate-authority in the kubeconfig.",
    )


def _no_tls(call: Call, server: str, error: Any) -> KubeError:
    inner = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    reason = (getattr(inner, "reason", "") or "the handshake failed").replace("_", " ").lower()
    return unreachable(server, f"TLS failed: {reason}", transient=False)


def _bad_address(call: Call, server: str, error: Exception) -> KubeError:
    return unreachable(server, "this is no usable address", transient=False, hint="Correct it in the kubeconfig.")


def _not_http(call: Call, server: str, error: Exception) -> KubeError:
    return unexpected_reply(call, server, "something that is not HTTP")


def _not_json(call: Call, server: str, error: Exception) -> KubeError:
    return unexpected_reply(call, server, "something that is not the JSON expected")


def _exceptions() -> dict[type[Exception], _Word]:
    """Every exception that may come from below. aiohttp is imported by the time there is one."""
    import aiohttp

    return {
        aiohttp.ClientConnectorDNSError: _no_such_host,
        aiohttp.ClientProxyConnectionError: _proxy_down,
        aiohttp.ClientHttpProxyError: _proxy_refused,
        aiohttp.ClientConnectorCertificateError: _bad_certificate,
        aiohttp.ClientConnectorSSLError: _no_tls,
        aiohttp.ClientSSLError: _no_tls,
        aiohttp.ClientConnectorError: _not_connected,
        aiohttp.ConnectionTimeoutError: lambda c, s, e: unreachable(s, "it does not answer", transient=True),
        aiohttp.ServerTimeoutError: _lost("it stopped answering"),
        aiohttp.ServerFingerprintMismatch: _bad_certificate,
        aiohttp.ServerConnectionError: _lost("it closed the connection"),
        aiohttp.ClientConnectionError: _lost("the connection was lost"),
        aiohttp.ClientPayloadError: _lost("its answer was cut short"),
        aiohttp.InvalidURL: _bad_address,
        aiohttp.NonHttpUrlClientError: _bad_address,
        aiohttp.RedirectClientError: _not_http,
        aiohttp.ClientResponseError: _not_http,
        ssl.SSLCertVerificationError: _bad_certificate,
        ssl.SSLError: _no_tls,
        TimeoutError: _lost("it does not answer in time"),
        OSError: _lost("the connection was lost"),
        UnicodeError: _bad_address,  # a host name that IDNA cannot encode
        msgspec.DecodeError: _not_json,
    }
