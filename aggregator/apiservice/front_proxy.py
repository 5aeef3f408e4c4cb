"""Who may speak for a cluster's users: kube-apiserver, by the client certificate of its front proxy.

What that certificate looks like and in which headers it names users stands in ConfigMap
kube-system/extension-apiserver-authentication, kept by kube-apiserver. Without that certificate the same headers are
anybody's and say nothing.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from aggregator.users import Credentials, User
from common.errors import ClusterError
from common.kube.call import path_of
from common.kube.types import ConfigMap
from common.kube.watch import ChangeKind, Reset, watch

if TYPE_CHECKING:
    from common.kube.client import Kube

_log: Final = logging.getLogger(__name__)

_PATH: Final = path_of("v1", "configmaps", "kube-system")
_NAME: Final = "extension-apiserver-authentication"
_AGAIN_AFTER: Final = 10.0
_MOST_CERTIFICATES: Final = 64
_MOST_VALUES: Final = 1000
"""Groups, and values of extras, of one user."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the ConfigMap says. Without authorities nobody speaks for anybody."""

    authorities: str = field(default="", repr=False)
    """PEM."""
    allowed: frozenset[str] = frozenset()
    """Common names that may; empty allows all that the authorities signed."""
    user_headers: tuple[str, ...] = ()
    uid_headers: tuple[str, ...] = ()
    group_headers: tuple[str, ...] = ()
    extra_prefixes: tuple[str, ...] = ()

    @classmethod
    def read(cls, data: Mapping[str, str]) -> "Terms":
        """From the ConfigMap's data. Raises ValueError when it cannot be what kube-apiserver writes."""

        def listed(key: str) -> tuple[str, ...]:
            text = data.get(f"requestheader-{key}", "")
            return tuple(msgspec.json.decode(text, type=list[str])) if text else ()

        return cls(
            authorities=data.get("requestheader-client-ca-file", ""),
            allowed=frozenset(listed("allowed-names")),
            user_headers=listed("username-headers"),
            uid_headers=listed("uid-headers"),
            group_headers=listed("group-headers"),
            extra_prefixes=listed("extra-headers-prefix"),
        )


class FrontProxy:
    """Believes the headers of whom the terms allow."""

    def __init__(self, terms: Terms | None = None) -> None:
        self._terms = Terms()
        self._authorities: list[x509.Certificate] = []
        self._believed: dict[bytes, datetime] = {}
        """Certificates that were found right, and until when they are."""
        if terms is not None:
            self.accept(terms)

    def accept(self, terms: Terms) -> None:
        """These are the terms from now on. Raises ValueError, keeping the old ones, when an authority is none."""
        authorities = x509.load_pem_x509_certificates(terms.authorities.encode()) if terms.authorities else []
        self._terms, self._authorities, self._believed = terms, authorities, {}

    def user(self, credentials: Credentials, now: datetime | None = None) -> User | None:
        """The user spoken for; None when nobody is, or by somebody who may not."""
        if not credentials.certificate or not self._may_speak(credentials.certificate, now or datetime.now(UTC)):
            return None
        terms, headers = self._terms, credentials.headers
        name = next((value for key in terms.user_headers if (value := headers.get(key, ""))), "")
        if not name:
            return None
        uid = next((value for key in terms.uid_headers if (value := headers.get(key, ""))), "")
        groups = tuple(group for key in terms.group_headers for group in headers.getall(key, []))
        extra = tuple(self._extra(credentials))
        if len(groups) + sum(len(values) for _, values in extra) > _MOST_VALUES:
            return None
        return User(name, uid, groups, extra, fronted=True)

    def _extra(self, credentials: Credentials) -> Iterator[tuple[str, tuple[str, ...]]]:
        for key in dict.fromkeys(key.lower() for key in credentials.headers):
            for prefix in self._terms.extra_prefixes:
                if key.startswith(prefix.lower()) and len(key) > len(prefix):
                    yield unquote(key[len(prefix) :]), tuple(credentials.headers.getall(key))

    def _may_speak(self, certificate: bytes, now: datetime) -> bool:
        """TLS has verified the chain, perhaps to an authority that is no longer one: look again."""
        until = self._believed.get(certificate)
        if until is None:
            try:
                read = x509.load_der_x509_certificate(certificate)
            except ValueError:
                return False
            if not self._is_allowed(read):
                return False
            if len(self._believed) >= _MOST_CERTIFICATES:
                self._believed.clear()
            until = self._believed[certificate] = read.not_valid_after_utc
        return now < until

    def _is_allowed(self, certificate: x509.Certificate) -> bool:
        names = {attribute.value for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
        if self._terms.allowed and not names & self._terms.allowed:
            return False
        return any(_issued(authority, certificate) for authority in self._authorities)

    async def follow(self, kube: "Kube", trust: Callable[[str], None]) -> None:
        """Keep to the ConfigMap as it changes, for ever; `trust` is given authorities that may sign from now on."""
        while True:
            try:
                async with aclosing(
                    watch(kube, _PATH, ConfigMap, {"fieldSelector": f"metadata.name={_NAME}"})
                ) as news:
                    async for change in news:
                        if isinstance(change, Reset):
                            data = change.items[0].data if change.items else {}
                        else:
                            data = {} if change.kind is ChangeKind.DELETED else change.item.data
                        self._take(data, trust)
            except ClusterError as error:
                _log.error("the front proxy's terms cannot be read", extra={"detail": str(error)})
            await asyncio.sleep(_AGAIN_AFTER)

    def _take(self, data: Mapping[str, str], trust: Callable[[str], None]) -> None:
        """What cannot be read leaves things as they are: it is nobody's invitation."""
        try:
            terms = Terms.read(data)
            self.accept(terms)
            if terms.authorities:
                trust(terms.authorities)
        except (ValueError, ssl.SSLError) as error:
            _log.error("the front proxy's terms make no sense", extra={"detail": str(error)})
        else:
            _log.info("front proxy", extra={"names": sorted(terms.allowed), "authorities": len(self._authorities)})


def _issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):  # another's name, a key of another kind, another's signature
        return False
    return True
