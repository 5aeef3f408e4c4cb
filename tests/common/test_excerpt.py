"""What stays readable of a document that does not fit."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.diff import diff
from common.errors import OutputError
from common.excerpt import excerpt_of, excerpt_of_bytes
from common.formats import Format, dump, load_snapshot
from common.model import CollectionEntry, MeasurementType, Metadata, Snapshot, State, Subtype, in_order

KINDS = list(MeasurementType)


def _snapshot(sizes: dict[tuple[MeasurementType, str], int]) -> Snapshot:
    subtypes = [
        (kind, Subtype(name, {f"key-{n}": "x" * 20 for n in range(size)})) for (kind, name), size in sizes.items()
    ]
    names = tuple(sorted(name for kind, name in sizes if kind is MeasurementType.NODE_TOPOLOGY))
    entries = [CollectionEntry("topology", MeasurementType.NODE_TOPOLOGY, State.OK, subtypes=names)]
    return Snapshot(
        metadata=Metadata(version="1", source_node="n", timestamp="2026-01-03T10:30:00Z"),
        collection=entries,
        measurements=in_order(subtypes),
    )


BIG = {
    (MeasurementType.OS, "release"): 5,
    (MeasurementType.OS, "sysctl"): 300,
    (MeasurementType.NODE_TOPOLOGY, "label"): 3000,
    (MeasurementType.NODE_TOPOLOGY, "taint"): 10,
}


@pytest.mark.parametrize("written", [Format.YAML, Format.JSON])
def test_the_largest_is_left_out_and_said_to_be(written: Format) -> None:
    document = _snapshot(BIG)
    excerpt = excerpt_of(document, lambda part: dump(part, written))(50_000)
    part = load_snapshot(excerpt, "excerpt")
    assert {(m.type, s.subtype) for m in part.measurements for s in m.subtypes} == set(BIG) - {
        (MeasurementType.NODE_TOPOLOGY, "label")
    }
    line = part.collection[-1]
    assert (line.collector, line.subtype, line.state, line.code) == ("topology", "label", State.FAILED, "too_large")


def test_what_fits_is_left_as_it_is() -> None:
    document = _snapshot(BIG)
    whole = dump(document, Format.YAML)
    assert excerpt_of_bytes(whole, "x")(len(whole)) == whole


def test_an_excerpt_differs_in_nothing_from_the_whole() -> None:
    document = _snapshot(BIG)
    part = load_snapshot(excerpt_of_bytes(dump(document, Format.YAML), "x")(10_000), "excerpt")
    result = diff(document, part)
    assert not result.changes
    assert {entry.subtype for entry in result.incomparable} == {"label", "sysctl"}


@given(
    sizes=st.dictionaries(
        st.tuples(st.sampled_from(KINDS), st.text("abc", min_size=1, max_size=4)), st.integers(0, 200)
    ),
    limit=st.integers(600, 20_000),
)
def test_an_excerpt_fits_or_is_refused(sizes: dict[tuple[MeasurementType, str], int], limit: int) -> None:
    document = _snapshot(sizes)
    try:
        content = excerpt_of(document, lambda part: dump(part, Format.JSON))(limit)
    except OutputError:
        return
    assert len(content) <= limit
    part = load_snapshot(content, "x")
    kept = {(m.type, s.subtype): s for m in part.measurements for s in m.subtypes}
    told = {(e.type, e.subtype) for e in part.collection if e.subtype}
    assert kept.keys() | told == sizes.keys()
    assert not kept.keys() & told


def test_what_has_no_room_at_all() -> None:
    with pytest.raises(OutputError, match="even without its measurements"):
        excerpt_of(_snapshot(BIG), lambda part: dump(part, Format.YAML))(100)


def test_what_is_no_snapshot_is_cut_after_a_line() -> None:
    text = b"".join(b"line %d\n" % number for number in range(1000))
    excerpt = excerpt_of_bytes(text, "x")(1000)
    lines = excerpt.decode().splitlines()
    assert len(excerpt) <= 1000
    assert lines[-1].startswith("# left out of this text")
    assert all(line == f"line {number}" for number, line in enumerate(lines[:-1]))


def test_json_stays_json() -> None:
    whole = dump(_snapshot(BIG), Format.JSON)
    assert json.loads(excerpt_of_bytes(whole, "x")(30_000))["kind"] == "Snapshot"
