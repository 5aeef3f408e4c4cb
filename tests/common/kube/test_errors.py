import socket
import ssl
from collections.abc import Iterator

import aiohttp
import msgspec
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from common.errors import Code
from common.kube.call import Call
from common.kube.errors import KubeError, from_exception, from_reply

CALL = Call("GET", "/api/v1/namespaces/x/configmaps/c")
CREATE = Call("POST", "/api/v1/namespaces/x/configmaps")
SERVER = "https://api.example:6443"

# Raised only where a caller uses what we do not.
NEVER_RAISED_FOR_US = {"UploadAbortedError", "WSServerHandshakeError"}


def _status(reason: str = "", message: str = "", **details: object) -> bytes:
    return msgspec.json.encode({"kind": "Status", "reason": reason, "message": message, "details": details})


def _all_client_errors(kind: type[aiohttp.ClientError] = aiohttp.ClientError) -> Iterator[type[aiohttp.ClientError]]:
    for child in kind.__subclasses__():
        if child.__module__.startswith("aiohttp."):
            yield child
            yield from _all_client_errors(child)


def _make(kind: type[aiohttp.ClientError]) -> Exception:
    """An instance without its constructor: what matters is the class."""
    error = kind.__new__(kind)
    if isinstance(error, aiohttp.ClientResponseError):
        error.status = 407
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error._certificate_error = ssl.SSLCertVerificationError()
    return error


@pytest.mark.parametrize("kind", dict.fromkeys(_all_client_errors()))
def test_every_exception_of_aiohttp_is_mapped(kind: type[aiohttp.ClientError]) -> None:
    if kind.__name__ in NEVER_RAISED_FOR_US:
        return
    error = from_exception(CALL, SERVER, _make(kind))
    assert error.code in (Code.CLUSTER_UNREACHABLE, Code.CLUSTER_FAILED)
    assert SERVER in error.message


@pytest.mark.parametrize(
    "raised",
    [
        ConnectionResetError(),
        BrokenPipeError(),
        OSError(),
        TimeoutError(),
        socket.gaierror(),
        ssl.SSLError(),
        ssl.SSLCertVerificationError(),
        UnicodeError(),
        msgspec.DecodeError(),
        msgspec.ValidationError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_of_other_libraries_is_mapped(raised: Exception) -> None:
    assert SERVER in from_exception(CALL, SERVER, raised).message


def test_an_exception_nobody_knows_is_a_defect() -> None:
    with pytest.raises(TypeError, match="ZeroDivisionError is not mapped"):
        from_exception(CALL, SERVER, ZeroDivisionError())


def test_a_request_is_not_repeated_by_us_when_it_may_have_been_carried_out() -> None:
    assert from_exception(CALL, SERVER, ConnectionResetError()).transient
    assert not from_exception(CREATE, SERVER, ConnectionResetError()).transient
    refused = aiohttp.ClientConnectorError(None, ConnectionRefusedError(111, "refused"))  # type: ignore[arg-type]  # no connection
    assert from_exception(CREATE, SERVER, refused).transient


def test_every_status_is_mapped() -> None:
    for status in range(300, 600):
        error = from_reply(CALL, SERVER, status, b"")
        assert error.status == status
        assert error.code.value.startswith("cluster_")
        assert error.message


@pytest.mark.parametrize(
    ("status", "body", "code", "message"),
    [
        (401, b"", Code.CLUSTER_UNAUTHORIZED,
         f"the API server {SERVER} does not accept the credentials; they are wrong or have expired"),
        (403, _status("Forbidden", 'configmaps "c" is forbidden: User "bob" cannot get resource "configmaps"'),
         Code.CLUSTER_FORBIDDEN,
         'get configmaps c in namespace x is forbidden: User "bob" cannot get resource "configmaps"'),
        (404, _status("NotFound", "configmaps c not found", name="c", kind="configmaps"), Code.CLUSTER_NOT_FOUND,
         "configmaps c in namespace x was not found"),
        (404, _status("NotFound", 'namespaces "x" not found', name="x", kind="namespaces"), Code.CLUSTER_NOT_FOUND,
         "the namespace x was not found"),
        (404, b"404 page not found\n", Code.CLUSTER_NOT_FOUND, f"the API server {SERVER} has no configmaps"),
        (409, _status("AlreadyExists", "there", name="c"), Code.CLUSTER_CONFLICT,
         "configmaps c in namespace x already exists"),
        (409, _status("Conflict", "the object has been modified"), Code.CLUSTER_CONFLICT,
         "cannot get configmaps c in namespace x: somebody else changed it: the object has been modified"),
        (422, _status("Invalid", "metadata.name: Invalid value"), Code.CLUSTER_INVALID,
         "the API server refuses to get configmaps c in namespace x: metadata.name: Invalid value"),
        (429, b"", Code.CLUSTER_THROTTLED,
         f"the API server {SERVER} is busy and refused to get configmaps c in namespace x"),
        (500, _status("InternalError", "etcd is\nill\x00"), Code.CLUSTER_FAILED,
         f"the API server {SERVER} failed to get configmaps c in namespace x: etcd is ill"),
        (503, b"<html>secret</html>", Code.CLUSTER_FAILED,
         f"the API server {SERVER} failed to get configmaps c in namespace x: HTTP status 503"),
        (302, b"", Code.CLUSTER_FAILED, f"{SERVER} answers with a redirect, so it is hardly an API server"),
    ],
)  # fmt: skip
def test_refusals_in_words(status: int, body: bytes, code: Code, message: str) -> None:
    error = from_reply(CALL, SERVER, status, body)
    assert (error.code, error.message) == (code, message)


def test_what_may_be_repeated() -> None:
    def transient(call: Call, status: int, header: str = "") -> bool:
        return from_reply(call, SERVER, status, b"", header).transient

    assert [transient(CALL, status) for status in (400, 401, 403, 404, 409, 410, 422)] == [False] * 7
    assert [transient(CALL, status) for status in (429, 500, 502, 503, 504)] == [True] * 5
    assert [transient(CREATE, status) for status in (500, 502, 503, 504)] == [False] * 4
    assert transient(CREATE, 429)
    assert transient(CREATE, 503, "1")  # asked to come again, so nothing was done


def test_how_long_the_server_wants_to_be_left_alone() -> None:
    assert from_reply(CALL, SERVER, 429, b"", "7").retry_after == 7
    assert from_reply(CALL, SERVER, 500, _status(retryAfterSeconds=3)).retry_after == 3
    for header in ("", "soon", "-1", "99999999", "1.5"):
        assert from_reply(CALL, SERVER, 429, b"", header).retry_after is None


def test_a_servers_message_is_bounded() -> None:
    assert len(from_reply(CALL, SERVER, 500, _status(message="x" * 100_000)).message) < 700


def test_nothing_of_the_request_is_in_the_error() -> None:
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": "Bearer hunter2"}))
    info = aiohttp.RequestInfo(URL("https://u:hunter2@h/"), "GET", headers, URL("https://h/"))
    error: KubeError = from_exception(CALL, SERVER, aiohttp.ClientHttpProxyError(info, (), status=407))
    assert "hunter2" not in str(error) + repr(error) + repr(error.__cause__)


def test_a_binding_to_a_role_that_is_not_there() -> None:
    """The API server says so by the binding's own name and kind, which was only to be created."""
    call = Call("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/x/rolebindings")
    error = from_reply(call, SERVER, 404, _status("NotFound", "not found", name="eidos", kind="rolebindings"))
    assert error.code is Code.CLUSTER_NOT_FOUND
    assert error.message == (
        "cannot create rolebindings.rbac.authorization.k8s.io eidos in namespace x: what it refers to was not found"
    )
