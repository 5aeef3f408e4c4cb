"""Canonical bytes and digests: the one place where anything is hashed.

Canonical bytes are MessagePack with sorted map keys and shortest integers. Digests are BLAKE2b-256, keyed by
schema version and by what they are over, so that a digest of one thing never equals a digest of another and an
upgrade of the schema never looks like a change.
"""

import hashlib
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from common.model import Scalar
from common.version import SCHEMA

DIGEST_SIZE: Final = 32

NAMING: Final = 1
"""Schema version that the aggregator names content and groups by, whatever SCHEMA it was built with.

Ids of groups stand in published documents and outlive every schema: the same facts keep the same id.
"""

_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")


class Domain(StrEnum):
    """What a digest is over. Digests of different domains never meet."""

    SUBTYPE = "subtype"
    SECTION = "section"
    IDENTITY = "ident"
    OUTCOME = "outcome"
    GROUP = "group"
    CLUSTER = "cluster"
    SHARD = "shard"


def encode(value: object) -> bytes:
    """Canonical bytes of any nesting of lists, string-keyed maps, bytes, scalars and msgspec structs."""
    return _encoder.encode(value)


def canonical_bytes(data: Mapping[str, Scalar]) -> bytes:
    """The bytes that stand for flat data. Raises ValueError on NaN and infinities, which equal nothing."""
    _refuse_incomparable(data)
    return _encoder.encode(data)


def _refuse_incomparable(data: Mapping[str, Scalar]) -> None:
    for key, value in data.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is {value}, which cannot be compared")


def subtype_content(kind: str, subtype: str, data: Mapping[str, Scalar]) -> bytes:
    """The bytes a subtype's digest is over: (kind, subtype, data). `kind` is the measurement type."""
    _refuse_incomparable(data)
    return _encoder.encode((kind, subtype, data))


def section_content(kind: str, subtypes: Mapping[str, bytes]) -> bytes:
    """The bytes a section's digest is over: (kind, subtype name to subtype digest)."""
    return _encoder.encode((kind, subtypes))


def subtype_digest(kind: str, subtype: str, data: Mapping[str, Scalar], schema: int = SCHEMA) -> bytes:
    """Digest of one subtype's data. 32 bytes."""
    return content_digest(Domain.SUBTYPE, subtype_content(kind, subtype, data), schema)


def section_digest(kind: str, subtypes: Mapping[str, bytes], schema: int = SCHEMA) -> bytes:
    """Digest of a section over its subtypes' digests (name to 32 bytes), so one odd subtype costs one digest."""
    return content_digest(Domain.SECTION, section_content(kind, subtypes), schema)


def content_digest(over: Domain, content: bytes, schema: int = SCHEMA) -> bytes:
    """Digest of canonical bytes in one domain. 32 bytes. Raises ValueError on an impossible schema version."""
    person = f"eidos{schema}/{over}".encode()
    if not 0 < schema < 1000 or len(person) > hashlib.blake2b.PERSON_SIZE:
        raise ValueError(f"schema version {schema} does not fit into the digest's domain")
    return hashlib.blake2b(content, digest_size=DIGEST_SIZE, person=person).digest()


def file_digest(content: bytes) -> str:
    """What stands in a fact for a configuration file's content, in hexadecimal.

    Not keyed by schema version: the fact of an unchanged file must stay the same across an upgrade.
    """
    return hashlib.blake2b(content, digest_size=DIGEST_SIZE, person=b"eidos/file").hexdigest()
