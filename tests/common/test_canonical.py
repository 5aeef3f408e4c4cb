"""Canonical bytes and digests: the same for the same, different for anything else, and never by accident."""

import math
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.canonical import (
    DIGEST_SIZE,
    Domain,
    canonical_bytes,
    content_digest,
    encode,
    section_content,
    section_digest,
    subtype_content,
    subtype_digest,
)
from common.model import Scalar
from common.version import SCHEMA

_key = st.text(st.characters(codec="utf-8"), max_size=10)
_scalar = (
    st.text(st.characters(codec="utf-8"), max_size=10)
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
_data = st.dictionaries(_key, _scalar, max_size=8)


def typed(data: dict[str, Scalar]) -> dict[str, tuple[str, Scalar]]:
    """Equal only where type and value are; in Python 1, 1.0 and True are equal, and so are 0.0 and -0.0."""
    return {key: (type(value).__name__ + str(value), value) for key, value in data.items()}


@given(_data, st.randoms())
def test_order_makes_no_difference(data: dict[str, Scalar], random: Random) -> None:
    items = list(data.items())
    random.shuffle(items)
    assert canonical_bytes(dict(items)) == canonical_bytes(data)
    assert subtype_digest("OS", "x", dict(items)) == subtype_digest("OS", "x", data)


@given(_data)
def test_bytes_hold_the_data(data: dict[str, Scalar]) -> None:
    assert typed(msgspec.msgpack.decode(canonical_bytes(data))) == typed(data)


@given(_data, _data)
def test_different_data_have_different_bytes(one: dict[str, Scalar], other: dict[str, Scalar]) -> None:
    assert (canonical_bytes(one) == canonical_bytes(other)) == (typed(one) == typed(other))


@pytest.mark.parametrize(("one", "other"), [(1, True), (0, False), (1, 1.0), (1, "1"), (True, "true"), (0.0, -0.0)])
def test_scalars_of_different_types_are_different(one: Scalar, other: Scalar) -> None:
    assert canonical_bytes({"k": one}) != canonical_bytes({"k": other})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_equals_nothing_is_refused_by_name(value: float) -> None:
    for call in (canonical_bytes, lambda data: subtype_content("OS", "x", data)):
        with pytest.raises(ValueError, match=r"^speed is -?(nan|inf), which cannot be compared$"):
            call({"ok": 1, "speed": value})


@pytest.mark.parametrize("value", ["\ud800", 2**64, -(2**63) - 1])
def test_what_cannot_be_encoded_is_refused(value: Scalar) -> None:
    with pytest.raises((ValueError, OverflowError)):
        canonical_bytes({"k": value})


def test_bytes_are_what_they_were() -> None:
    """Changing these is a new schema version, or every node looks changed after an upgrade."""
    data: dict[str, Scalar] = {"b": True, "a": "60", "c": 8, "d": 0.5}
    assert canonical_bytes(data).hex() == "84a161a23630a162c3a16308a164cb3fe0000000000000"
    assert subtype_digest("OS", "sysctl", data, schema=1).hex() == PINNED_SUBTYPE
    assert section_digest("OS", {"sysctl": b"\1" * 32, "kmod": b"\2" * 32}, schema=1).hex() == PINNED_SECTION


PINNED_SUBTYPE = "3479cca29315499c935b9e2de5d42580c302ae288cc33173c4f44788a49b445a"
PINNED_SECTION = "a390d1bdb40889925bf4b20516e11b917292d8b81e4057c8249f957b9c8323e4"


def test_digests_are_of_one_size_and_domain() -> None:
    content = encode(("OS", "x", {}))
    digests = {content_digest(domain, content) for domain in Domain}
    assert len(digests) == len(Domain)
    assert {len(digest) for digest in digests} == {DIGEST_SIZE}


def test_every_domain_fits_the_highest_schema_version() -> None:
    assert all(len(content_digest(domain, b"", schema=999)) == DIGEST_SIZE for domain in Domain)


@pytest.mark.parametrize("schema", [0, -1, 1000, 10**20])
def test_impossible_schema_versions_are_refused(schema: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        content_digest(Domain.GROUP, b"", schema)


@given(_data)
def test_a_schema_version_changes_every_digest(data: dict[str, Scalar]) -> None:
    assert subtype_digest("OS", "x", data, SCHEMA) != subtype_digest("OS", "x", data, SCHEMA + 1)


@given(_data)
def test_type_and_name_are_part_of_the_digest(data: dict[str, Scalar]) -> None:
    digests = {
        subtype_digest("OS", "x", data),
        subtype_digest("GPU", "x", data),
        subtype_digest("OS", "y", data),
        subtype_digest("O", "Sx", data),
    }
    assert len(digests) == 4


def test_a_section_is_over_its_subtypes_digests() -> None:
    one, other = b"\1" * DIGEST_SIZE, b"\2" * DIGEST_SIZE
    assert section_digest("OS", {"a": one, "b": other}) == section_digest("OS", {"b": other, "a": one})
    assert section_content("OS", {"a": one, "b": other}) == section_content("OS", {"b": other, "a": one})
    assert section_digest("OS", {"a": one}) != section_digest("OS", {"a": other})
    assert section_digest("OS", {"a": one}) != section_digest("OS", {"b": one})
    assert section_digest("OS", {"a": one}) != section_digest("GPU", {"a": one})
    assert section_digest("OS", {}) != section_digest("GPU", {})
