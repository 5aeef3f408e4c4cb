"""The aggregator's certificate authority and server certificate, rotated and reloaded without a restart.

Authorities overlap: a new one is published beside the old one for a while before anything is signed with it, so that
agents that read the bundle late still trust the server. Nothing is stored here; `Authority.files` is what to keep
(a directory for a local fleet, a Secret in a cluster).
"""

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aggregator.keys import key_pem, read_key

AUTHORITY_LIFETIME: Final = timedelta(days=365)
SERVER_LIFETIME: Final = timedelta(days=30)
OVERLAP: Final = timedelta(hours=24)
"""How long a new authority is published before it signs."""
_BACKDATED: Final = timedelta(minutes=5)
"""For nodes whose clock is behind."""
BUNDLE: Final = "ca.crt"


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def name(self) -> str:
        return f"authority-{self.certificate.serial_number:040x}.pem"

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM) + key_pem(self.key)


class Authority:
    """One or more certificate authorities of which one signs."""

    def __init__(self, pairs: Sequence[_Pair] = ()) -> None:
        self._pairs = sorted(pairs, key=lambda pair: pair.certificate.not_valid_before_utc)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Authority":
        """Take up what `files` gave. Raises ValueError, with the file's name, on what is no certificate and key."""
        pairs: list[_Pair] = []
        for name, content in files.items():
            if name.startswith("authority-"):
                try:
                    pairs.append(_read_pair(content))
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from error
        return cls(pairs)

    @property
    def files(self) -> dict[str, bytes]:
        """What to keep, by file name: private, but for BUNDLE, which agents are given."""
        return {BUNDLE: self.bundle, **{pair.name: pair.pem() for pair in self._pairs}}

    @property
    def bundle(self) -> bytes:
        """The certificates to trust, PEM."""
        return b"".join(pair.certificate.public_bytes(serialization.Encoding.PEM) for pair in self._pairs)

    def rotate(self, now: datetime | None = None) -> bool:
        """Make the first authority, or the next one when the last has a third of its life left; drop expired ones.

        True when there is something new to keep and publish.
        """
        now = now or datetime.now(UTC)
        before = len(self._pairs)
        self._pairs = [pair for pair in self._pairs if pair.certificate.not_valid_after_utc > now]
        changed = len(self._pairs) != before
        if not self._pairs or self._pairs[-1].certificate.not_valid_after_utc - now < AUTHORITY_LIFETIME / 3:
            self._pairs.append(_new_authority(now))
            changed = True
        return changed

    def issue(self, names: Iterable[str], now: datetime | None = None) -> tuple[bytes, bytes]:
        """A server certificate for DNS names and addresses, and its key, both PEM."""
        now = now or datetime.now(UTC)
        signer = self._signer(now)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "eidos-aggregator")])
        lasts = min(now + SERVER_LIFETIME, signer.certificate.not_valid_after_utc)
        certificate = (
            _certificate(subject, signer.certificate.subject, key.public_key(), now, lasts)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False
            )
            .sign(signer.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM), key_pem(key)

    def _signer(self, now: datetime) -> _Pair:
        """The newest authority that has been published long enough, or the oldest there is."""
        published = [p for p in self._pairs if p.certificate.not_valid_before_utc + _BACKDATED + OVERLAP <= now]
        return published[-1] if published else self._pairs[0]


class OwnCertificates:
    """Server certificates of an authority of ours."""

    def __init__(self, authority: Authority, names: Iterable[str]) -> None:
        """`names` are what callers call the server: DNS names and addresses."""
        self.authority = authority
        self._names = tuple(names)
        self._expires_at = datetime.min.replace(tzinfo=UTC)

    def issue(self, now: datetime | None = None) -> tuple[bytes, bytes]:
        """A new certificate and its key, both PEM."""
        certificate, key = self.authority.issue(self._names, now)
        self._expires_at = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        return certificate, key

    def is_due(self, now: datetime | None = None) -> bool:
        """Whether a third of the last one's life or less is left."""
        return self._expires_at - (now or datetime.now(UTC)) < SERVER_LIFETIME / 3


class ServerTls:
    """The TLS context of the listeners. `reload` changes the certificate that new connections see."""

    def __init__(self, certificate: bytes, key: bytes, *, asks_clients: bool = False) -> None:
        """With `asks_clients` a client may present a certificate: see `trust_clients`."""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if asks_clients:
            self.context.verify_mode = ssl.CERT_OPTIONAL
            self.context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the authority may be an intermediate one
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.num_tickets = 0  # agents stay linked and users are few: nobody resumes a session
        self.reload(certificate, key)

    def reload(self, certificate: bytes, key: bytes) -> None:
        """Use another certificate from the next connection on. Raises ssl.SSLError, keeping the old one."""
        # OpenSSL through Python takes files only. In memory where there is /dev/shm, and gone at once.
        shared = Path("/dev/shm")  # noqa: S108  # a file system in memory, and the file is private
        with tempfile.NamedTemporaryFile(dir=shared if os.access(shared, os.W_OK) else None) as file:
            file.write(certificate + key)
            file.flush()
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trial.load_cert_chain(file.name)  # a pair that does not fit must not spoil the one in use
            self.context.load_cert_chain(file.name)

    def trust_clients(self, authorities: str) -> None:
        """Take client certificates of these authorities (PEM) too, from the next connection on. Raises ssl.SSLError.

        OpenSSL forgets none of those it was told: who presents one must still be looked at.
        """
        self.context.load_verify_locations(cadata=authorities)


def _new_authority(now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # The name differs from authority to authority: chains are built by name.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"eidos-aggregator-ca-{serial:x}"[:64])])
    certificate = (
        _certificate(name, name, key.public_key(), now, now + AUTHORITY_LIFETIME, serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _Pair(certificate, key)


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: datetime,
    ends: datetime,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begins - _BACKDATED)
        .not_valid_after(ends)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _read_pair(content: bytes) -> _Pair:
    """Raises ValueError, saying what is wrong with the file."""
    key = read_key(content)
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise ValueError("it holds no certificate that can be read") from error
    if certificate.public_key() != key.public_key():
        raise ValueError("its certificate and key do not belong together")
    return _Pair(certificate, key)
