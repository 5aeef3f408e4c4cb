"""The certificate authority: overlap on rotation, reload without a restart."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from aggregator.tls import AUTHORITY_LIFETIME, BUNDLE, OVERLAP, SERVER_LIFETIME, Authority, OwnCertificates, ServerTls

NOW = datetime.now(UTC)


def issuer_of(certificate: bytes) -> x509.Name:
    return x509.load_pem_x509_certificate(certificate).issuer


def subjects(authority: Authority) -> list[x509.Name]:
    return [certificate.subject for certificate in x509.load_pem_x509_certificates(authority.bundle)]


def test_an_authority_is_made_once_and_kept() -> None:
    authority = Authority()
    assert authority.rotate(NOW)
    assert not authority.rotate(NOW + timedelta(days=1))
    again = Authority.from_files(authority.files)
    assert not again.rotate(NOW + timedelta(days=1))
    assert again.bundle == authority.bundle == authority.files[BUNDLE]


def test_the_next_authority_is_published_before_it_signs_and_the_last_stays_until_it_expires() -> None:
    authority = Authority()
    authority.rotate(NOW)
    (first,) = subjects(authority)
    due = NOW + AUTHORITY_LIFETIME * 2 / 3 + timedelta(hours=1)
    assert authority.rotate(due)
    _, second = subjects(authority)
    assert issuer_of(authority.issue(["a"], due)[0]) == first
    assert issuer_of(authority.issue(["a"], due + OVERLAP + timedelta(minutes=1))[0]) == second
    assert not authority.rotate(due + OVERLAP)
    assert authority.rotate(NOW + AUTHORITY_LIFETIME + timedelta(days=1))
    assert subjects(authority)[0] == second


def test_a_server_certificate_never_outlives_its_authority() -> None:
    authority = Authority()
    authority.rotate(NOW)
    late = NOW + AUTHORITY_LIFETIME - timedelta(days=1)
    certificate = x509.load_pem_x509_certificate(authority.issue(["a"], late)[0])
    assert certificate.not_valid_after_utc <= NOW + AUTHORITY_LIFETIME


def test_what_is_no_authority_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        Authority.from_files({"authority-1.pem": b"nothing"})


async def handshake(port: int, bundle: bytes, name: str) -> bytes:
    context = ssl.create_default_context(cadata=bundle.decode())
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    seen: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    await writer.wait_closed()
    return seen


async def test_a_new_certificate_is_seen_by_the_next_connection_without_a_restart() -> None:
    old, new, stranger = Authority(), Authority(), Authority()
    for authority in (old, new, stranger):
        authority.rotate(NOW)
    tls = ServerTls(*old.issue(["aggregator", "127.0.0.1"]))
    served = asyncio.Event()

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        served.set()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0, ssl=tls.context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        first = await handshake(port, old.bundle, "aggregator")
        assert await handshake(port, old.bundle, "127.0.0.1") == first
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(port, stranger.bundle, "aggregator")
        with pytest.raises(ssl.SSLCertVerificationError):
            await handshake(port, old.bundle, "another-name")
        tls.reload(*new.issue(["aggregator"]))
        second = await handshake(port, old.bundle + new.bundle, "aggregator")
        assert second != first
        with pytest.raises(ssl.SSLError):
            tls.reload(new.issue(["aggregator"])[0], new.issue(["aggregator"])[1])
        assert await handshake(port, new.bundle, "aggregator") == second
        await served.wait()


def test_a_certificate_is_due_when_a_third_of_its_life_is_left() -> None:
    authority = Authority()
    authority.rotate(NOW)
    certificates = OwnCertificates(authority, ["a"])
    assert certificates.is_due(NOW), "there is none yet"
    certificates.issue(NOW)
    assert not certificates.is_due(NOW + SERVER_LIFETIME / 2)
    assert certificates.is_due(NOW + SERVER_LIFETIME * 0.7)
