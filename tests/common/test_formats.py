"""Snapshots as bytes: deterministic, read back as written by us and by others, old generations included."""

import json
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.diff import diff
from common.errors import Code, InputError
from common.formats import Format, dump, dump_plain, load_snapshot
from common.model import FailureCode, MeasurementType, Scalar, Snapshot, State
from tests.common.snapshots import absent, failed, ran, snapshot_of
from tests.conftest import cannot_run_here

SAMPLE = Path(__file__).parents[2].parent / "shared" / "samples" / "h100-eks.yaml"

FACTS: dict[str, dict[str, Scalar]] = {
    "OS.sysctl": {"/proc/sys/vm/swappiness": "60", "/proc/sys/kernel/ostype": "Linux"},
    "OS.kmod": {"nvidia": True},
    "GPU.smi": {"gpu-count": 8, "driver": "570.133.20"},
}
COLLECTION = [ran("gpu", "GPU", "smi"), absent("docker", "SystemD", "not installed", "docker.service")]

YAML = """\
kind: Snapshot
apiVersion: aicr.nvidia.com/v1alpha1
metadata:
  version: "1"
  source-node: node-1
  timestamp: "2026-01-02T03:04:05Z"
collection:
- collector: gpu
  type: GPU
  state: ok
  subtypes:
  - smi
- collector: docker
  type: SystemD
  state: absent
  subtype: docker.service
  reason: not installed
measurements:
- type: GPU
  subtypes:
  - subtype: smi
    data:
      driver: 570.133.20
      gpu-count: 8
- type: OS
  subtypes:
  - subtype: kmod
    data:
      nvidia: true
  - subtype: sysctl
    data:
      /proc/sys/kernel/ostype: Linux
      /proc/sys/vm/swappiness: "60"
"""


def test_the_document_as_it_is_written() -> None:
    assert dump(snapshot_of(FACTS, COLLECTION), Format.YAML).decode() == YAML


def test_json_has_the_same_shape_and_order() -> None:
    written = dump(snapshot_of(FACTS, COLLECTION), Format.JSON)
    assert written.endswith(b"}\n")
    assert json.loads(written) == yaml.safe_load(YAML)
    assert list(json.loads(written)) == ["kind", "apiVersion", "metadata", "collection", "measurements"]


def test_order_does_not_depend_on_the_order_of_reading() -> None:
    mixed = {name: dict(reversed(data.items())) for name, data in reversed(FACTS.items())}
    for form in (Format.YAML, Format.JSON):
        assert dump(snapshot_of(mixed, COLLECTION), form) == dump(snapshot_of(FACTS, COLLECTION), form)


def test_a_table_is_no_document() -> None:
    with pytest.raises(ValueError, match="table"):
        dump(snapshot_of(FACTS), Format.TABLE)


@pytest.mark.parametrize("form", [Format.YAML, Format.JSON])
def test_reading_gives_back_what_was_written(form: Format) -> None:
    written = snapshot_of(FACTS, [*COLLECTION, failed("gpu", "GPU", "hung"), failed("os", "OS", "x", "pci")])
    assert load_snapshot(dump(written, form), "x") == written


# ---- quoting ----

MISTAKABLE = [
    *("", "~", "null", "Null", "NULL", "true", "True", "false", "yes", "Yes", "NO", "on", "Off", "y", "Y", "n", "N"),
    *("0", "60", "-1", "+1", "007", "0o17", "0O17", "0x1f", "0b11", "1_000", "1,000", "_1", "1:30", "190:20:30"),
    *("1.5", ".5", "5.", "1e5", "1E5", "1.5e+3", "-1.5e-3", ".inf", "-.INF", ".NaN", "1:30.5", "685_230.15"),
    *("2026-01-02", "2026-1-2", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05", "2026-01-02t03:04:05.1 +1"),
    *("=", "<<"),
]
ODD = [
    *(
        "- a",
        "a: b",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'a'",
        '"a"',
        "[a]",
        "{a: b}",
        "?",
        "? a",
    ),
    *(
        " a",
        "a ",
        "a\nb",
        "a\tb",
        "\n",
        "a\r",
        "\x01",
        "\x7f",
        "\x85",
        "\u2028",
        "\ufeff",
        "\xa0",
        "\U0001f600",
        "é",
        ":",
        "---",
    ),
    *("...", ",", "-", "a:", ":a", "a,b", "a]", "\\", "a\\nb", "x" * 5000, "lorem ipsum " * 30, "${node}", "C:\\x"),
]
PLAIN = [
    "Linux",
    "570.133.20",
    "6.8.0-1024-aws",
    "/proc/sys/vm",
    "a b",
    "1.2.3",
    "v1",
    "nvidia-smi",
    "é",
    "0xg",
    "e5x",
]


@pytest.mark.parametrize("text", MISTAKABLE)
def test_text_that_could_be_mistaken_is_quoted(text: str) -> None:
    lines = dump_plain({"k": text, text: 1}, Format.YAML).decode().splitlines()
    assert lines == [f'k: "{text}"', f'"{text}": 1']


@pytest.mark.parametrize("text", PLAIN)
def test_text_that_cannot_be_mistaken_is_not_quoted(text: str) -> None:
    assert dump_plain({"k": text}, Format.YAML).decode() == f"k: {text}\n"


@pytest.mark.parametrize("text", [*MISTAKABLE, *ODD, *PLAIN])
def test_text_reads_back_in_one_line_with_any_reader(text: str) -> None:
    written = dump_plain({"key": text}, Format.YAML)
    assert yaml.safe_load(written) == {"key": text}
    assert written.count(b"\n") == 1
    assert yaml.safe_load(dump_plain({text: "value"}, Format.YAML)) == {text: "value"}
    assert load_snapshot_text(text) == text


def load_snapshot_text(text: str) -> Scalar:
    read = load_snapshot(dump(snapshot_of({"OS.x": {"k": text}}), Format.YAML), "x")
    return read.measurements[0].subtypes[0].data["k"]


def test_numbers_and_booleans_are_bare() -> None:
    written = dump_plain(
        {"a": True, "b": False, "c": None, "d": -5, "e": 0.5, "f": 1e16, "g": [], "h": {}}, Format.YAML
    )
    assert written == b"a: true\nb: false\nc: null\nd: -5\ne: 0.5\nf: 1.0e+16\ng: []\nh: {}\n"


@pytest.mark.parametrize("form", [Format.YAML, Format.JSON])
def test_what_no_reader_takes_is_written_as_text(form: Format) -> None:
    facts: dict[str, Scalar] = {"nan": float("nan"), "inf": float("-inf"), "half": "a\udcff", "h\ud800": 1}
    read = load_snapshot(dump(snapshot_of({"OS.x": facts}), form), "x")
    assert read.measurements[0].subtypes[0].data == {"nan": "nan", "inf": "-inf", "half": "a?", "h?": 1}


_text = st.text(st.characters(codec="utf-8"), max_size=30)
_scalar = _text | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.dictionaries(_text, _scalar, max_size=6), st.dictionaries(_text, _text, max_size=2), st.sampled_from(Format)
)
def test_any_data_reads_back(data: dict[str, Scalar], context: dict[str, str], form: Format) -> None:
    if form is Format.TABLE:
        return
    snapshot = snapshot_of({"OS.x": data})
    subtype = msgspec.structs.replace(snapshot.measurements[0].subtypes[0], context=dict(sorted(context.items())))
    measurement = msgspec.structs.replace(snapshot.measurements[0], subtypes=[subtype])
    snapshot = msgspec.structs.replace(snapshot, measurements=[measurement])
    read = load_snapshot(dump(snapshot, form), "x")
    assert read == snapshot
    kept = read.measurements[0].subtypes[0].data
    assert {key: type(value) for key, value in kept.items()} == {key: type(value) for key, value in data.items()}


@given(st.dictionaries(_text, _text, max_size=6))
def test_a_reader_of_yaml_1_1_finds_the_same_text(data: dict[str, str]) -> None:
    assert yaml.safe_load(dump_plain(data, Format.YAML)) == data


# ---- other generations, and documents that are none ----


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
        ("kind: Snapshot", "x is a Snapshot but has no apiVersion, which is not read"),
        ("kind: Snapshot\napiVersion: v9", "x is a Snapshot but has apiVersion v9, which is not read"),
        ("kind: Snapshot\napiVersion: {}", "x is a Snapshot but has apiVersion a mapping, which is not read"),
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
