"""Who may speak for a cluster's users: only the certificate that the cluster names."""

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from multidict import CIMultiDict

from aggregator.apiservice.front_proxy import FrontProxy, Terms
from aggregator.tls import Authority, ServerTls
from aggregator.users import Credentials, User
from common.kube.client import Kube
from common.kube.credentials import Credential, FixedCredentials
from common.kube.target import Target
from tests.fakes.apiserver import FakeApiServer
from tests.fleet.scene import until

FRONT = trustme.CA()
OTHER = trustme.CA()
HEADERS = {"X-Remote-User": "alice", "X-Remote-Uid": "7"}


def data(authority: trustme.CA = FRONT, names: str = '["front-proxy-client"]') -> dict[str, str]:
    return {
        "client-ca-file": OTHER.cert_pem.bytes().decode(),
        "requestheader-client-ca-file": authority.cert_pem.bytes().decode(),
        "requestheader-allowed-names": names,
        "requestheader-username-headers": '["X-Remote-User"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
        "requestheader-group-headers": '["X-Remote-Group"]',
        "requestheader-extra-headers-prefix": '["X-Remote-Extra-"]',
    }


def certificate(authority: trustme.CA = FRONT, name: str = "front-proxy-client") -> bytes:
    issued = authority.issue_cert(common_name=name).cert_chain_pems[0].bytes()
    return x509.load_pem_x509_certificate(issued).public_bytes(Encoding.DER)


def presented(der: bytes, *headers: tuple[str, str]) -> Credentials:
    return Credentials(CIMultiDict([*HEADERS.items(), *headers]), der)


def test_whom_it_speaks_for() -> None:
    front = FrontProxy(Terms.read(data()))
    extras = (("X-Remote-Group", "dev"), ("X-Remote-Group", "ops"), ("x-remote-extra-Scopes%2fAll", "a"),
              ("X-Remote-Extra-scopes%2fall", "b"), ("X-Other", "c"))  # fmt: skip
    assert front.user(presented(certificate(), *extras)) == User(
        "alice", "7", ("dev", "ops"), (("scopes/all", ("a", "b")),), fronted=True
    )


@pytest.mark.parametrize(
    "der",
    [b"", b"no certificate", certificate(OTHER), certificate(name="somebody-else")],
    ids=["none", "nonsense", "another authority's", "another name"],
)
def test_headers_without_the_certificate_say_nothing(der: bytes) -> None:
    assert FrontProxy(Terms.read(data())).user(presented(der)) is None


def test_a_certificate_without_a_user_is_nobody() -> None:
    front = FrontProxy(Terms.read(data()))
    assert front.user(Credentials(CIMultiDict({"X-Remote-Group": "system:masters"}), certificate())) is None


def test_without_names_every_certificate_of_the_authority_counts() -> None:
    front = FrontProxy(Terms.read(data(names="[]")))
    assert front.user(presented(certificate(name="any")))
    assert front.user(presented(certificate(OTHER, "any"))) is None


def test_before_anything_is_known_nobody_is_believed() -> None:
    assert FrontProxy().user(presented(certificate())) is None
    assert FrontProxy(Terms.read({})).user(presented(certificate())) is None


def test_an_authority_that_is_one_no_longer() -> None:
    front, der = FrontProxy(Terms.read(data())), certificate()
    assert front.user(presented(der))
    front.accept(Terms.read(data(OTHER)))
    assert front.user(presented(der)) is None


def test_a_certificate_ends() -> None:
    front, der = FrontProxy(Terms.read(data())), certificate()
    assert front.user(presented(der))
    long_after = datetime.now(UTC) + timedelta(days=365 * 2000)
    assert front.user(presented(der), long_after) is None


@pytest.mark.parametrize("bad", [{"requestheader-allowed-names": "[1]"}, {"requestheader-client-ca-file": "no PEM"}])
def test_terms_that_make_no_sense_change_nothing(bad: dict[str, str]) -> None:
    front = FrontProxy(Terms.read(data()))
    with pytest.raises(ValueError, match=r"."):
        front.accept(Terms.read({**data(), **bad}))
    assert front.user(presented(certificate()))


@pytest.mark.parametrize("header", ["X-Remote-Group", "X-Remote-Extra-Scopes"])
def test_groups_and_extras_have_an_end(header: str) -> None:
    front, der = FrontProxy(Terms.read(data())), certificate()
    values = [(header, str(number)) for number in range(1001)]
    assert front.user(presented(der, *values[:1000]))
    assert front.user(presented(der, *values)) is None


async def test_it_follows_the_configmap() -> None:
    with FakeApiServer() as server:
        name = {"name": "extension-apiserver-authentication", "namespace": "kube-system"}
        server.add("configmaps", {"metadata": name, "data": data()}, "kube-system")
        front, trusted = FrontProxy(), list[str]()
        target = Target(server.url, FixedCredentials(Credential()))
        async with Kube(target) as kube:
            following = asyncio.create_task(front.follow(kube, trusted.append))
            await until(lambda: front.user(presented(certificate())))
            assert trusted == [FRONT.cert_pem.bytes().decode()]
            changed = {"metadata": name, "data": data(OTHER)}
            await asyncio.to_thread(server.remove, "configmaps", name["name"], "kube-system")
            await until(lambda: not front.user(presented(certificate())))
            await asyncio.to_thread(server.add, "configmaps", changed, "kube-system")
            await until(lambda: front.user(presented(certificate(OTHER))))
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_tls_asks_for_a_certificate_and_does_without_one() -> None:
    """What a listener sees of its client: nothing, or a certificate of an authority it was told of."""
    authority = Authority()
    authority.rotate()
    tls = ServerTls(*authority.issue(["localhost"]), asks_clients=True)
    seen: list[bytes | None] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("ssl_object").getpeercert(True))
        writer.close()

    async def dial(issuer: trustme.CA | None) -> None:
        context = ssl.create_default_context(cadata=authority.bundle.decode())
        if issuer is not None:
            issuer.issue_cert(common_name="front-proxy-client").configure_cert(context)
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        with suppress(ssl.SSLError, ConnectionError):  # by TLS 1.3 a client learns late that it was refused
            await reader.read()
        writer.close()

    server = await asyncio.start_server(note, "localhost", 0, ssl=tls.context)
    port = server.sockets[0].getsockname()[1]
    await dial(None)
    await dial(FRONT)
    tls.trust_clients(FRONT.cert_pem.bytes().decode())
    await dial(FRONT)
    await dial(OTHER)
    server.close()
    await server.wait_closed()
    assert [bool(each) for each in seen] == [False, True], "those of unknown authorities got no further"
