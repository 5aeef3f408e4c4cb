"""Snapshots as bytes: deterministic, in quotes where needed, and read back as they were."""

import json

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.formats import Format, dump, dump_plain, load_snapshot
from common.model import Scalar
from tests.common.snapshots import absent, failed, ran, snapshot_of

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
