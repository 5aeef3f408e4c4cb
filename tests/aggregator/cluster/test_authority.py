"""The certificate authority: one whoever makes it first, put back when touched, somebody else's where wanted."""

import asyncio
import base64
import os
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aggregator.cluster.authority import SECRET, SecretAuthority
from aggregator.cluster.bundle import NAME, PublishedBundle
from aggregator.cluster.certificates import Pair
from aggregator.cluster.tlsfiles import TlsFiles
from aggregator.tls import AUTHORITY_LIFETIME, BUNDLE, Authority, ServerTls
from common.errors import InputError
from common.kube.client import Kube
from tests.aggregator.cluster.conftest import kube_of
from tests.fakes.apiserver import FakeApiServer
from tests.fleet.scene import until

LOCKED = base64.b64encode(
    ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"x"),
    )
).decode()


def authority_of(kube: Kube) -> SecretAuthority:
    return SecretAuthority(kube, "eidos", ["eidos-link.eidos.svc"])


def stored(api: FakeApiServer) -> dict[str, bytes]:
    (secret,) = api.store.all("secrets")
    return {name: base64.b64decode(content) for name, content in secret["data"].items()}


async def test_replicas_that_start_at_once_end_with_one_authority(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        made = [authority_of(kube) for _ in range(6)]
        await asyncio.gather(*(each.load() for each in made))
    assert len({each.bundle for each in made}) == 1
    assert stored(api)[BUNDLE] == made[0].bundle


async def test_a_standby_borrows_it_and_writes_nothing(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        leader, standby = authority_of(kube), authority_of(kube)
        assert await standby.borrow() is None
        assert not list(api.store.all("secrets"))
        await leader.load()
        before = stored(api)
        pair = await standby.borrow()
        assert pair is not None
        context = ssl.create_default_context(cadata=leader.bundle.decode())
        assert _is_verified(pair, context)
        assert await standby.borrow() is None, "nothing new"
        api.remove("secrets", SECRET, "eidos")
        await authority_of(kube).load()
        assert await standby.borrow() is not None, "another authority"
    assert stored(api) != before
    assert len(api.asked("create", "secrets")) == 2


def _is_verified(pair: Pair, context: ssl.SSLContext) -> bool:
    """Whether a client that trusts what the context does takes a server with this certificate."""
    server = ServerTls(*pair).context
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(incoming, outgoing, server_side=True)
    theirs = context.wrap_bio(outgoing, incoming, server_hostname="eidos-link.eidos.svc")
    for _ in range(3):
        for side in (theirs, ours):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return theirs.version() is not None


async def test_it_outlives_its_maker(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        first, second = authority_of(kube), authority_of(kube)
        await first.load()
        certificate, _ = await second.load()
    assert first.bundle == second.bundle
    assert certificate.startswith(b"-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"authority-1.pem": ""},
        {"authority-1.pem": "bm90aGluZw=="},
        {"authority-1.pem": LOCKED},
        {"other": "eA=="},
    ],
    ids=["nothing", "empty", "garbled", "with a password", "foreign"],
)
async def test_what_cannot_be_used_is_replaced(api: FakeApiServer, data: dict[str, str]) -> None:
    api.add("secrets", {"metadata": {"name": SECRET, "namespace": "eidos"}, "data": data, "type": "Opaque"}, "eidos")
    async with kube_of(api) as kube:
        made = authority_of(kube)
        await made.load()
    assert Authority.from_files(stored(api)).bundle == made.bundle


async def test_what_is_in_memory_counts_when_it_leads_again(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        made = authority_of(kube)
        await made.load()
        before, bundle = stored(api), made.bundle
        api.remove("secrets", SECRET, "eidos")  # while the API server was away for it
        await made.load()
        assert (stored(api), made.bundle) == (before, bundle)
        api.remove("secrets", SECRET, "eidos")
        await authority_of(kube).load()
        assert stored(api) != before
        pair = await made.load()
        assert (stored(api), made.bundle) == (before, bundle)
        assert _is_verified(pair, ssl.create_default_context(cadata=bundle.decode()))


async def test_a_secret_that_is_deleted_or_edited_is_put_back(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        made = authority_of(kube)
        await made.load()
        before = stored(api)
        following = asyncio.create_task(made.follow(_ignore))
        api.remove("secrets", SECRET, "eidos")
        await until(lambda: list(api.store.all("secrets")) and stored(api) == before)
        for spoilt in ({}, {"authority-1.pem": "eA=="}, {**_encoded(before), "more": "eA=="}):
            (secret,) = api.store.all("secrets")
            api.store.replace(_secrets(api), ("eidos", SECRET), {**secret, "data": spoilt})
            await until(lambda: stored(api) == before)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_certificate_that_could_not_be_used_is_used_later(
    api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with kube_of(api) as kube:
        made = authority_of(kube)
        await made.load()
        monkeypatch.setattr(made._own, "is_due", iter([True, False, False]).__next__)
        outcomes: list[OSError | None] = [OSError(28, "No space left on device"), None]

        async def renewed(_: Pair) -> None:
            if (outcome := outcomes.pop(0)) is not None:
                raise outcome

        for left in (1, 0, 0):
            await made.renew(renewed)
            assert len(outcomes) == left


async def test_rotation_is_stored_before_anything_is_signed_with_it(api: FakeApiServer) -> None:
    old = Authority()
    old.rotate(datetime.now(UTC) - AUTHORITY_LIFETIME * 0.9)
    content = {"metadata": {"name": SECRET, "namespace": "eidos"}, "data": _encoded(old.files)}
    api.add("secrets", content, "eidos")
    async with kube_of(api) as kube:
        made = authority_of(kube)
        certificate, _ = await made.load()
    assert made.bundle.startswith(old.bundle)
    assert made.bundle.count(b"BEGIN CERTIFICATE") == 2
    assert stored(api)[BUNDLE] == made.bundle
    context = ssl.create_default_context(cadata=old.bundle.decode())
    assert context.get_ca_certs()[0]["subject"] == _issuer(certificate), "the old one still signs"


async def test_the_bundle_is_published_and_put_back(api: FakeApiServer) -> None:
    async with kube_of(api) as kube:
        made = authority_of(kube)
        await made.load()
        published = PublishedBundle(kube, "eidos", lambda: made.bundle)
        await published.mend()
        writes = len(api.asked("patch", "configmaps"))
        await published.mend()
        assert len(api.asked("patch", "configmaps")) == writes, "nothing to do"
        following = asyncio.create_task(published.follow())
        api.remove("configmaps", NAME, "eidos")
        await until(lambda: [item["data"][BUNDLE].encode() for item in api.store.all("configmaps")] == [made.bundle])
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _write(directory: Path, authority: trustme.CA) -> None:
    certificate = authority.issue_cert("eidos-link.eidos.svc")
    (directory / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    (directory / "tls.key").write_bytes(certificate.private_key_pem.bytes())
    (directory / "ca.crt").write_bytes(authority.cert_pem.bytes())


async def test_a_standby_serves_with_them_too(tmp_path: Path) -> None:
    _write(tmp_path, trustme.CA())
    files = TlsFiles(tmp_path)
    pair = await files.borrow()
    assert pair == ((tmp_path / "tls.crt").read_bytes(), (tmp_path / "tls.key").read_bytes())
    assert await files.borrow() is None
    _write(tmp_path, trustme.CA())
    assert await files.borrow() not in (None, pair)


async def test_files_of_somebody_else_are_taken_and_taken_again_when_they_change(tmp_path: Path) -> None:
    """As kubelet mounts a Secret: all files change at once, by a symbolic link."""
    old, new = trustme.CA(), trustme.CA()
    for name, authority in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, authority)
    (tmp_path / "tls").symlink_to("old")
    files, taken = TlsFiles(tmp_path / "tls", every=0.01), list[Pair]()

    async def take(pair: Pair) -> None:
        if pair[0] == b"refused":
            raise ssl.SSLError
        taken.append(pair)

    pair = await files.load()
    assert files.bundle == old.cert_pem.bytes()
    following = asyncio.create_task(files.follow(take))
    (tmp_path / "link").symlink_to("new")
    os.replace(tmp_path / "link", tmp_path / "tls")
    await until(lambda: taken)
    assert taken != [pair]
    assert files.bundle == new.cert_pem.bytes()
    (tmp_path / "new" / "tls.crt").write_bytes(b"nothing")
    (tmp_path / "new" / "ca.crt").unlink()
    await asyncio.sleep(0.1)
    assert len(taken) == 1, "what cannot be used is not taken"
    assert files.bundle == new.cert_pem.bytes()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key", "ca.crt"])
async def test_files_that_are_not_there(tmp_path: Path, missing: str) -> None:
    _write(tmp_path, trustme.CA())
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"{missing} cannot be read: no such file"):
        await TlsFiles(tmp_path).load()


async def _ignore(pair: Pair) -> None:
    return None


def _encoded(files: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in files.items()}


def _secrets(api: FakeApiServer):  # type: ignore[no-untyped-def]  # one of its own resources
    return next(resource for resource in api.resources if resource.plural == "secrets")


def _issuer(certificate: bytes) -> object:
    from cryptography import x509

    name = x509.load_pem_x509_certificate(certificate).issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return ((("commonName", name[0].value),),)
