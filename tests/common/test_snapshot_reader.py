"""Snapshots of other generations, and documents that are none."""

import json
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.diff import diff
from common.errors import Code, InputError
from common.formats import Format, dump, load_snapshot
from common.model import FailureCode, MeasurementType, Snapshot, State
from tests.conftest import cannot_run_here

SAMPLE = Path(__file__).parents[2].parent / "shared" / "samples" / "h100-eks.yaml"


def sample() -> bytes:
    if not SAMPLE.is_file():
        cannot_run_here(f"{SAMPLE} is not there")
    return SAMPLE.read_bytes()


def test_a_real_old_snapshot_is_read_whole() -> None:
    data = sample()
    read = load_snapshot(data, SAMPLE.name)
    assert read.metadata.source_node == "ip-10-0-158-18.ec2.internal"
    assert read.metadata.version == "0.8.12"
    assert read.metadata.timestamp == "2026-01-02T18:01:13Z"
    assert read.api_version == "eidos.nvidia.com/v1alpha1"
    assert read.collection == []
    raw = yaml.load(data, yaml.BaseLoader)  # noqa: S506 (makes nothing but text, lists and mappings)
    expected = {
        (measurement["type"], subtype["subtype"], key): value
        for measurement in raw["measurements"]
        for subtype in measurement["subtypes"]
        for key, value in subtype["data"].items()
    }
    facts = {
        place: str(value).lower() if isinstance(value, bool) else str(value) for place, value in read.facts().items()
    }
    assert facts == expected
    assert len(facts) == 1847


@pytest.mark.parametrize("form", [Format.YAML, Format.JSON])
def test_a_real_old_snapshot_survives_being_written_again(form: Format) -> None:
    read = load_snapshot(sample(), "old")
    again = load_snapshot(dump(read, form), "new")
    assert again == read
    assert diff(read, again).changes == []


HEAD = "kind: Snapshot\napiVersion: {}\n"


@pytest.mark.parametrize("version", ["aicr.nvidia.com/v1alpha1", "snapshot.dgxc.io/v1", "eidos.nvidia.com/v1alpha1"])
def test_every_generation_is_read(version: str) -> None:
    text = HEAD.format(version) + "metadata: {source: n}\nmeasurements: []\n"
    read = load_snapshot(text.encode(), "x")
    assert (read.api_version, read.metadata.source_node) == (version, "n")


OLD = """\
measurements:
  - type: OS
    subtypes:
      - subtype: grub
        data: {ro: , panic: -1, quiet: "", ratio: 0.5, on: yes}
        context: {n: 5, none: , b: true}
      - subtype: empty
        data:
  - subtypes: null
    type: K8s
  - type: OS
    subtypes:
      - {subtype: 5, data: {a: 1}}
collection:
metadata:
  version: 1.10
  timestamp: 2026-01-02T18:01:13Z
  source: 42
  other: {a: b}
apiVersion: snapshot.dgxc.io/v1
kind: Snapshot
"""


def test_old_forms_are_tolerated() -> None:
    read = load_snapshot(OLD.encode(), "x")
    assert msgspec.to_builtins(read.metadata) == {
        "version": "1.10",
        "source-node": "42",
        "timestamp": "2026-01-02T18:01:13Z",
    }
    assert read.collection == []
    assert [(m.type, [s.subtype for s in m.subtypes]) for m in read.measurements] == [
        (MeasurementType.OS, ["5", "empty", "grub"])
    ]
    grub = read.measurements[0].subtypes[2]
    assert grub.data == {"on": "yes", "panic": -1, "quiet": "", "ratio": 0.5, "ro": ""}
    assert grub.context == {"b": "true", "n": "5", "none": ""}


def test_source_node_is_preferred_to_its_old_name() -> None:
    text = HEAD.format("snapshot.dgxc.io/v1") + "metadata: {source: a, source-node: b}\nmeasurements:\n"
    assert load_snapshot(text.encode(), "x").metadata.source_node == "b"


def test_a_subtype_given_twice_loses_nothing() -> None:
    subtypes = (
        "[{subtype: smi, data: {a: 1, b: 1}}, {subtype: smi, data: {b: 1, c: 1}}, {subtype: smi, data: {a: 2}}]"
    )
    text = HEAD.format("snapshot.dgxc.io/v1") + f"measurements: [{{type: GPU, subtypes: {subtypes}}}]\n"
    read = load_snapshot(text.encode(), "x")
    assert {s.subtype: s.data for s in read.measurements[0].subtypes} == {
        "smi": {"a": 1, "b": 1, "c": 1},
        "smi#2": {"a": 2},
    }


def test_codes_of_a_later_version_are_failures_all_the_same() -> None:
    text = HEAD.format("aicr.nvidia.com/v1alpha1") + (
        "metadata: {}\nmeasurements: []\ncollection:\n"
        "- {collector: gpu, type: GPU, state: failed, code: eaten_by_bear, reason: a bear, later: 1}\n"
    )
    [entry] = load_snapshot(text.encode(), "x").collection
    assert (entry.state, entry.code, entry.reason) == (State.FAILED, FailureCode.INTERNAL, "a bear")


GOOD = HEAD.format("aicr.nvidia.com/v1alpha1") + "metadata: {}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "x holds a list, not a Snapshot (a mapping with `kind`)"),
        ("hello", "x holds text, not a Snapshot (a mapping with `kind`)"),
        ("5", "x holds a number, not a Snapshot (a mapping with `kind`)"),
        ("# c", "x holds nothing, not a Snapshot (a mapping with `kind`)"),
        ("a: 1", "x has no `kind`, so it is not a Snapshot"),
        ("kind: Recipe", "x is of kind Recipe, not Snapshot"),
        ("kind: [a]", "x is of kind a list, not Snapshot"),
        ("kind: Snapshot", "x is a Snapshot, but it has no apiVersion"),
        ("kind: Snapshot\napiVersion: v9", "x is a Snapshot, but it has apiVersion v9"),
        ("kind: Snapshot\napiVersion: {}", "x is a Snapshot, but it has apiVersion a mapping"),
    ],
)
def test_another_kind_of_document(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        load_snapshot(text.encode(), "x")
    assert caught.value.code is Code.INPUT_WRONG_KIND
    assert caught.value.message == sentence


def test_a_configmap_is_told_where_its_snapshot_is() -> None:
    with pytest.raises(InputError, match=r"is of kind ConfigMap, not Snapshot\. Its snapshot, .* snapshot\.yaml"):
        load_snapshot(b"kind: ConfigMap\napiVersion: v1\ndata: {}\n", "x")


@pytest.mark.parametrize(
    ("rest", "line", "problem"),
    [
        ("", 1, "it has no measurements"),
        ("measurements: 5", 1, "measurements is a number, not a list"),
        ("measurements: {a: 1}", 4, "measurements is a mapping, not a list"),
        ("measurements:\n- 5", 5, "measurements[0] is a number, not a mapping"),
        ("measurements:\n- subtypes: []", 5, "measurements[0] has no type"),
        (
            "measurements:\n- type: FPGA",
            5,
            "measurements[0] has the type 'FPGA', which is none of K8s, GPU, OS, SystemD, NodeTopology",
        ),
        ("measurements:\n- type: OS\n  subtypes: a", 5, "measurements[0].subtypes is text, not a list"),
        ("measurements:\n- type: OS\n  subtypes: [[]]", 6, "measurements[0].subtypes[0] is a list, not a mapping"),
        ("measurements:\n- type: OS\n  subtypes:\n  - data: {}", 7, "measurements[0].subtypes[0] has no subtype"),
        (
            "measurements:\n- type: OS\n  subtypes:\n  - subtype: a\n    data: []",
            8,
            "measurements[0].subtypes[0].data is a list, not a mapping",
        ),
        (
            "measurements:\n- type: OS\n  subtypes:\n  - subtype: a\n    data:\n      k:\n        - 1",
            10,
            "measurements[0].subtypes[0].data.k is a list, not text, a number or true or false",
        ),
        (
            "measurements:\n- type: OS\n  subtypes:\n  - subtype: a\n    context: {k: {}}",
            8,
            "measurements[0].subtypes[0].context.k is a mapping, not text, a number or true or false",
        ),
        ("measurements: []\ncollection: true", 1, "collection is true or false, not a list"),
        ("measurements: []\ncollection:\n- {type: OS, state: ok}", 6, "collection[0] has no collector"),
        (
            "measurements: []\ncollection:\n- {collector: a, type: OS, state: odd}",
            6,
            "collection[0] has the state 'odd', which is none of ok, partial, absent, failed",
        ),
        (
            "measurements: []\ncollection:\n- {collector: a, type: OS, state: ok, subtypes: [1]}",
            6,
            "collection[0].subtypes is not a list of texts",
        ),
    ],
)
def test_a_snapshot_of_the_wrong_shape(rest: str, line: int, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        load_snapshot((GOOD + rest + "\n").encode(), "x")
    assert caught.value.code is Code.INPUT_MALFORMED
    assert caught.value.message == f"x, line {line}, is not a Snapshot that can be read: {problem}"


def test_json_has_no_lines_but_places() -> None:
    with pytest.raises(InputError) as caught:
        load_snapshot(b'{"kind":"Snapshot","apiVersion":"snapshot.dgxc.io/v1","measurements":[5]}', "x")
    assert caught.value.message == "x is not a Snapshot that can be read: measurements[0] is a number, not a mapping"


_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.sampled_from(["OS", "GPU", "ok", "failed"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "subtypes", "subtype", "data", "context", "collector", "state", "code", "k"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(_junk, _junk, _junk)
def test_any_content_is_read_or_refused(metadata: object, collection: object, measurements: object) -> None:
    document = {
        "kind": "Snapshot",
        "apiVersion": "snapshot.dgxc.io/v1",
        "metadata": metadata,
        "collection": collection,
        "measurements": measurements,
    }
    assert read_or_refused(json.dumps(document).encode())


def read_or_refused(data: bytes) -> bool:
    try:
        return isinstance(load_snapshot(data, "x"), Snapshot)
    except InputError as error:
        return error.code is Code.INPUT_MALFORMED and "\n" not in error.message
