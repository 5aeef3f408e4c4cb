"""TLS, proxies, credentials on the wire, and that secrets stay off every other place."""

import logging
import ssl
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from common.errors import ClusterError, Code, EidosError, InputError
from common.kube.client import Kube, KubeError
from common.kube.credentials import Credential, FixedCredentials, TokenFile, bearer
from common.kube.target import Target
from common.kube.types import VersionInfo
from tests.common.kube.conftest import AT_ONCE
from tests.fakes.apiserver import FakeApiServer, Fault
from tests.fakes.proxy import FakeProxy

SECRET = "hunter2-hunter2"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FakeApiServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "kube.internal").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    with FakeApiServer(tls=context, token=SECRET) as server:
        yield server


@pytest.fixture
def target(secure: FakeApiServer, authority: trustme.CA) -> Target:
    return Target(
        server=secure.url,
        credentials=FixedCredentials(Credential(bearer(SECRET))),
        ca=authority.cert_pem.bytes().decode(),
    )


async def _ask(target: Target) -> VersionInfo:
    async with Kube(target, retry=AT_ONCE) as kube:
        return await kube.get("/version", VersionInfo)


async def test_a_server_whose_authority_is_known(target: Target) -> None:
    assert (await _ask(target)).git_version == "v1.36.3"


async def test_a_server_that_is_not_trusted_is_told_nothing(target: Target, secure: FakeApiServer) -> None:
    with pytest.raises(KubeError, match="certificate is not trusted: self-signed certificate") as caught:
        await _ask(replace(target, ca=""))
    assert caught.value.code is Code.CLUSTER_UNREACHABLE
    assert not secure.calls


async def test_a_server_with_another_name(target: Target) -> None:
    with pytest.raises(KubeError, match=r"certificate is not trusted: .*not valid for '127.0.0.1'"):
        await _ask(replace(target, server=target.server.replace("localhost", "127.0.0.1")))
    await _ask(
        replace(target, server=target.server.replace("localhost", "127.0.0.1"), tls_server_name="kube.internal")
    )


async def test_verification_can_be_left_out(target: Target) -> None:
    await _ask(replace(target, ca="", verify=False))


async def test_tls_to_a_server_that_has_none() -> None:
    with FakeApiServer() as plain, pytest.raises(KubeError, match="TLS failed: ") as caught:
        await _ask(Target(server=plain.url.replace("http:", "https:"), credentials=FixedCredentials(Credential())))
    assert caught.value.code is Code.CLUSTER_UNREACHABLE


async def test_no_tls_to_a_server_that_has_it(target: Target) -> None:
    with pytest.raises(KubeError, match=r"cannot be reached|not HTTP|refuses to"):
        await _ask(replace(target, server=target.server.replace("https:", "http:")))


async def test_a_client_certificate(target: Target, authority: trustme.CA, tmp_path: Path) -> None:
    ours = authority.issue_cert("someone")
    pair = ours.cert_chain_pems[0].bytes().decode(), ours.private_key_pem.bytes().decode()
    await _ask(replace(target, credentials=FixedCredentials(Credential(bearer(SECRET), pair))))
    stranger = trustme.CA().issue_cert("someone")
    pair = stranger.cert_chain_pems[0].bytes().decode(), stranger.private_key_pem.bytes().decode()
    with pytest.raises(KubeError):
        await _ask(replace(target, credentials=FixedCredentials(Credential(bearer(SECRET), pair))))


async def test_certificates_that_are_none(target: Target) -> None:
    with pytest.raises(InputError, match="certificate authority given for the cluster is no PEM"):
        await _ask(replace(target, ca="rubbish"))
    with pytest.raises(ClusterError, match="client certificate and key of the kubeconfig cannot be used"):
        await _ask(replace(target, credentials=FixedCredentials(Credential("", ("rubbish", "rubbish")))))


async def test_through_a_proxy(target: Target, secure: FakeApiServer) -> None:
    with FakeProxy() as proxy:
        await _ask(replace(target, proxy=proxy.url))
        assert proxy.asked == [secure.url.removeprefix("https://")]


async def test_a_proxy_that_refuses_or_is_not_there(target: Target) -> None:
    with (
        FakeProxy(refuse=True) as proxy,
        pytest.raises(KubeError, match="proxy before it refused with HTTP status 407"),
    ):
        await _ask(replace(target, proxy=proxy.url.replace("http://", f"http://user:{SECRET}@")))
    with pytest.raises(KubeError, match="proxy before it cannot be reached: connection refused"):
        await _ask(replace(target, proxy="http://127.0.0.1:1"))


async def test_headers_of_impersonation(target: Target, secure: FakeApiServer) -> None:
    headers = (("Impersonate-User", "boss"), ("Impersonate-Group", "a"))
    await _ask(replace(target, credentials=FixedCredentials(Credential(bearer(SECRET), None, headers))))
    assert secure.calls[0].headers["Impersonate-User"] == "boss"
    assert secure.calls[0].headers["User-Agent"].startswith("eidos/")


async def test_a_wrong_token(target: Target, secure: FakeApiServer) -> None:
    with pytest.raises(KubeError, match="does not accept the credentials") as caught:
        await _ask(replace(target, credentials=FixedCredentials(Credential(bearer("wrong")))))
    assert caught.value.code is Code.CLUSTER_UNAUTHORIZED
    assert len(secure.calls) == 1


async def test_a_token_that_was_renewed_under_way(target: Target, secure: FakeApiServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    credentials = TokenFile(str(path))
    await credentials.current()
    path.write_text(SECRET)
    await _ask(replace(target, credentials=credentials))
    assert len(secure.calls) == 2


async def test_secrets_are_in_no_log_and_no_error(
    target: Target, secure: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for fault in (
            Fault("status", status=401, times=9),
            Fault("status", status=403, times=9),
            Fault("status", status=500, times=9),
            Fault("html"),
            Fault("drop", times=9),
            Fault("cut", times=9),
        ):
            secure.faults = [fault]
            try:
                await _ask(target)
            except EidosError as error:
                shown.append(f"{error} {error!r} {''.join(traceback.format_exception(error))}")
    assert len(shown) == 6
    assert SECRET not in "".join(shown) + caplog.text + repr(target)
