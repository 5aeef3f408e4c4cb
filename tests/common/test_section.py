"""Taking a snapshot apart into content-addressed pieces and putting it together again."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import section
from common.canonical import Domain, content_digest, encode, section_digest, subtype_digest
from common.model import (
    CollectionEntry,
    FailureCode,
    Measurement,
    MeasurementType,
    Metadata,
    Scalar,
    Snapshot,
    State,
    Subtype,
    in_order,
)
from common.section import assemble, comparable, read_identity, read_manifest, read_outcome, read_subtype, restored
from common.stability import Rules, parse_rules
from common.wire import MAX_CONTENT

RULES = Rules(
    parse_rules('[[rule]]\nclass = "identity"\nsubtype = "*"\nwhy = "test"\nkeys = ["serial", "uuid*", "own-*"]\n')
)
TIMESTAMP = "2026-01-01T00:00:00Z"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
hostile = texts | st.sampled_from(
    [
        "${node}",
        "$${node}",
        "$$${node}",
        "$n1",
        "n1",
        "{node}",
        "${node",
        "x n1.example n1",
        "${node}n1",
        "\0",
        "- a: b",
        "",
        " ",
        ",",
        "a,b[1-2]",
        "@0-17",
        "a|b=c:d;e\tf\ng\r\n",
        "\x1f\x1e\u2028\u0085\ufeff",
        "e\u0301 \u202eabc \U0001f9ea \uffff",
        "h" * 20_000,
        "null",
        "1e3",
        "~",
    ]
)
scalars = (
    hostile | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
)
keys = hostile | st.sampled_from(["serial", "uuid-1", "own-address"])
subtypes = st.builds(
    Subtype, hostile, st.dictionaries(keys, scalars, max_size=6), st.dictionaries(texts, texts, max_size=2)
)
measured = st.lists(st.tuples(st.sampled_from(MeasurementType), subtypes), max_size=8).map(in_order)
entries = st.lists(
    st.builds(
        CollectionEntry,
        texts,
        st.sampled_from(MeasurementType),
        st.sampled_from(State),
        texts,
        st.none() | st.sampled_from(FailureCode),
        texts,
    ),
    max_size=4,
)
nodes = st.sampled_from(["n1", "gpu-001", "node", "a.b-c.d", "1"])


def snapshot_of(
    node: str, measurements: list[Measurement], collection: list[CollectionEntry] | None = None
) -> Snapshot:
    return Snapshot(
        metadata=Metadata(version="1", source_node=node, timestamp=TIMESTAMP),
        collection=collection or [],
        measurements=measurements,
    )


def one(data: dict[str, Scalar], node: str = "n1") -> Snapshot:
    return snapshot_of(node, in_order([(MeasurementType.OS, Subtype("release", data))]))


def put_together(node: str, pieces: section.Pieces) -> Snapshot:
    stable: dict[MeasurementType, dict[str, dict[str, Scalar]]] = {}
    own: dict[MeasurementType, dict[str, section.Own]] = {}
    for digests in pieces.sections:
        manifest = read_manifest(pieces.contents[digests.stable])
        stable[manifest.kind] = {
            name: read_subtype(pieces.contents[digest]).data for name, digest in manifest.subtypes.items()
        }
        if digests.identity:
            identity = read_identity(pieces.contents[digests.identity])
            own[identity.kind] = identity.subtypes
    return assemble(node, "1", TIMESTAMP, stable, own, read_outcome(pieces.contents[pieces.outcome]))


@given(nodes, measured, entries)
def test_a_snapshot_taken_apart_and_put_together_is_the_same(
    node: str, measurements: list[Measurement], collection: list[CollectionEntry]
) -> None:
    snapshot = snapshot_of(node, measurements, collection)
    again = put_together(node, section.split(snapshot, RULES))
    # Encoded, because to Python 1, 1.0 and true are equal.
    assert encode(again) == encode(snapshot)


@given(hostile, nodes)
def test_the_nodes_name_in_a_value_can_be_put_back(value: str, node: str) -> None:
    assert restored(comparable(value, node), node) == value


@given(st.text("$n1{od}e ", max_size=20))
def test_placeholders_beside_names_can_be_put_back(value: str) -> None:
    for node in ("n1", "1", "node", "n"):
        assert restored(comparable(value, node), node) == value


def test_nodes_that_differ_only_in_name_and_identity_share_all_stable_content() -> None:
    first, second = (
        section.split(one({"motd": f"welcome to {node}", "serial": f"S-{node}", "cores": 8}, node), RULES)
        for node in ("gpu-001", "gpu-002")
    )
    assert [s.stable for s in first.sections] == [s.stable for s in second.sections]
    assert first.outcome == second.outcome
    assert [s.identity for s in first.sections] != [s.identity for s in second.sections]


def test_digests_are_those_of_the_canonical_module() -> None:
    pieces = section.split(one({"a": "1"}), RULES)
    digest = subtype_digest("OS", "release", {"a": "1"})
    assert digest in pieces.contents
    os_section = next(s for s in pieces.sections if s.kind is MeasurementType.OS)
    assert os_section.stable == section_digest("OS", {"release": digest})


def test_every_content_is_under_its_digest() -> None:
    pieces = section.split(one({"a": "1", "serial": "x"}), RULES)
    for digest, content in pieces.contents.items():
        assert digest in {content_digest(domain, content) for domain in Domain}


def test_the_same_facts_under_another_schema_have_other_digests_and_the_same_content() -> None:
    old, new = (section.split(one({"a": "1"}), RULES, schema) for schema in (1, 2))
    assert not set(old.contents) & set(new.contents)
    old_subtypes = [c for c in old.contents.values() if c not in new.contents.values()]
    assert all(read_manifest(content).kind for content in old_subtypes), "only manifests differ: they hold digests"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "which cannot be compared"),
        (math.inf, "which cannot be compared"),
        (2**64, "more than 64 bits"),
        (-(2**63) - 1, "more than 64 bits"),
        ("\ud800", "not Unicode"),
        ("x" * MAX_CONTENT, "more than"),
    ],
)
def test_a_subtype_that_cannot_travel_says_so_and_costs_no_other(value: Scalar, reason: str) -> None:
    snapshot = snapshot_of(
        "n1",
        in_order(
            [(MeasurementType.OS, Subtype("bad", {"k": value})), (MeasurementType.OS, Subtype("good", {"k": 1}))]
        ),
    )
    pieces = section.split(snapshot, RULES)
    again = put_together("n1", pieces)
    assert again.measurements == in_order([(MeasurementType.OS, Subtype("good", {"k": 1}))])
    (entry,) = again.collection
    assert (entry.collector, entry.subtype, entry.state) == ("link", "bad", State.FAILED)
    assert reason in entry.reason
    assert all(len(content) <= MAX_CONTENT for content in pieces.contents.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        msgspec.msgpack.encode(["OS", "release", {"b": 1, "a": 2}]),  # keys out of order
        msgspec.msgpack.encode(["OS", "release", {"a": math.nan}]),
        b"\x93\xa2OS\xa7release\x81\xa1a\xcd\x00\x01",  # an integer longer than it need be
        msgspec.msgpack.encode(["OS", "release", {"a": [1]}]),
        msgspec.msgpack.encode(["OS", "release", {"a": None}]),
        msgspec.msgpack.encode(["Weather", "release", {}]),
        msgspec.msgpack.encode(["OS", "release", {}, 1]),
        b"\x93\xa2OS\xa7release\x82\xa1a\x01\xa1a\x01",  # a key twice
    ],
)
def test_content_that_is_not_canonical_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_subtype(content)


@given(st.binary(max_size=200))
def test_any_bytes_are_content_or_a_value_error(content: bytes) -> None:
    for read in (read_subtype, read_manifest, read_identity, read_outcome):
        try:
            read(content)
        except ValueError:  # msgspec's errors are ValueErrors
            continue
