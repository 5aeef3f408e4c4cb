"""Canonical bytes and digests: the one place where anything is hashed.

Canonical bytes are MessagePack with sorted map keys and shortest integers. Digests are BLAKE2b-256, keyed by
schema version and by what they are over, so that a digest of one thing never equals a digest of another and an
upgrade of the schema never looks like a change.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Final

import msgspec

from common.model import Scalar
from common.version import SCHEMA

DIGEST_SIZE: Final = 32

_encoder: Final = msgspec.msgpack.Encoder(order="deterministic")


def canonical_bytes(data: Mapping[str, Scalar]) -> bytes:
    """The bytes that stand for flat data. Raises ValueError on NaN and infinities, which equal nothing."""
    for key, value in data.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key} is {value}, which cannot be compared")
    return _encoder.encode(data)


def subtype_digest(kind: str, subtype: str, data: Mapping[str, Scalar], schema: int = SCHEMA) -> bytes:
    """Digest of one subtype's data; `kind` is the measurement type. 32 bytes."""
    return _digest(schema, "subtype", _encoder.encode((kind, subtype)) + canonical_bytes(data))


def section_digest(kind: str, subtypes: Mapping[str, bytes], schema: int = SCHEMA) -> bytes:
    """Digest of a section over its subtypes' digests (name to 32 bytes), so one odd subtype costs one digest."""
    return _digest(schema, "section", _encoder.encode((kind, dict(subtypes))))


def _digest(schema: int, over: str, content: bytes) -> bytes:
    person = f"eidos{schema}/{over}".encode()
    if len(person) > hashlib.blake2b.PERSON_SIZE:
        raise ValueError(f"schema version {schema} does not fit into the digest's domain")
    return hashlib.blake2b(content, digest_size=DIGEST_SIZE, person=person).digest()
