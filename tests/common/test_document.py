"""Reading of YAML and JSON nobody vouches for: what is read as what, and what is refused with which sentence."""

import json
from collections.abc import Mapping
from itertools import pairwise

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.document import MOST_BYTES, MOST_LEVELS, MOST_VALUES, load_document, parse_document
from common.errors import Code, InputError


def refusal(data: bytes, source: str = "a.yaml") -> InputError:
    with pytest.raises(InputError) as caught:
        load_document(data, source)
    message = caught.value.message
    assert source in message
    assert "\n" not in message
    return caught.value


def message_of(data: bytes) -> str:
    """What the reader says; nothing when it reads the data."""
    try:
        load_document(data, "x")
    except InputError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("Null", None),
        ("", None),
        ("0", 0),
        ("-7", -7),
        ("60", 60),
        ("18446744073709551615", 18446744073709551615),
        ("-9223372036854775808", -9223372036854775808),
        ("0.5", 0.5),
        ("-1.25", -1.25),
        ("60.0", 60.0),
        ("1.8446744073709552e+19", 1.8446744073709552e19),
        ("1e+16", 1e16),
        ("1.0e+16", 1e16),
        ("1e-07", 1e-07),
    ],
)
def test_plain_scalars_that_are_more_than_text(text: str, value: object) -> None:
    read = load_document(f"v: {text}".encode(), "x")
    assert read == {"v": value}
    assert isinstance(read, dict)
    assert type(read["v"]) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        *("yes", "no", "on", "off", "y", "n", "Yes", "OFF"),  # booleans of YAML 1.1
        *("2026-01-02", "2026-01-02T18:01:13Z"),  # timestamps of YAML 1.1
        *("1:30", "190:20:30", "1:30.5"),  # base 60 of YAML 1.1
        *("017", "0o17", "0x1F", "0b101", "1_000", "+5", "-0"),
        *(".inf", "-.inf", ".nan", ".5", "5."),
        *("24.10", "1.50", "00.5"),
        *("1e5", "1E5", "1e400", "7e12345"),
        *("18446744073709551616", "-9223372036854775809", "9" * 5000),
        *("tRUE", "nULL", "=", "v1.2", "1.2.3", "-a", "--", "٣"),
    ],
)
def test_plain_scalars_that_stay_the_text_they_are(text: str) -> None:
    assert load_document(f"v: {text}".encode(), "x") == {"v": text}


@pytest.mark.parametrize("text", ["60", "true", "null", "", "0.5"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_quoted_scalars_are_text(text: str, quote: str) -> None:
    assert load_document(f"v: {quote}{text}{quote}".encode(), "x") == {"v": text}


def test_block_scalars_are_text() -> None:
    assert load_document(b"v: |\n  1\nw: >\n  true\n", "x") == {"v": "1\n", "w": "true\n"}


def test_keys_are_the_text_that_stands_there() -> None:
    text = b"on: 1\n1: 2\nnull: 3\n0x10: 4\n~: 5\n1.50: 6\n"
    assert load_document(text, "x") == {"on": 1, "1": 2, "null": 3, "0x10": 4, "~": 5, "1.50": 6}


def test_standard_tags_are_read() -> None:
    assert load_document(b"a: !!str 5\nb: !!int 5\nc: ! 5\nd: !!map {}\ne: !!seq []", "x") == {
        "a": "5",
        "b": 5,
        "c": "5",
        "d": {},
        "e": [],
    }


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfa: 1\n", b"%YAML 1.1\n---\na: 1\n", b"---\na: 1\n...\n", b"# c\n\na: 1 # d\n", b"{a: 1}"]
)
def test_forms_of_one_document(text: bytes) -> None:
    assert load_document(text, "x") == {"a": 1}


def test_nested_values_and_lines() -> None:
    document = parse_document(b"a:\n  - b: 1\n    c: [x, y]\n  - []\nd: {}\n", "x")
    assert document.value == {"a": [{"b": 1, "c": ["x", "y"]}, []], "d": {}}
    assert isinstance(document.value, dict)
    items = document.value["a"]
    assert document.lines[id(items[0])] == 2
    assert document.lines[id(items[0]["c"])] == 3
    assert document.lines[id(items[1])] == 4


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (b"a: &x 1\n", "anchor", 1),
        (b"\na: &x {}\n", "anchor", 2),
        (b"a: [&x 1]\n", "anchor", 1),
        (b"&x a: 1\n", "anchor", 1),
        (b"a: 1\nb: *x\n", "alias", 2),
        (b"a:\n  <<: {b: 1}\n", "merge key", 2),
        (b"a: 1\nb: 2\na: 3\n", "the key 'a' twice", 3),
        (b"a: 1\n'a': 3\n", "the key 'a' twice", 2),
        (b"1: 1\n'1': 3\n", "the key '1' twice", 2),
        (b"? [a]\n: 1\n", "a key that is not text", 1),
        (b"? {a: 1}\n: 1\n", "a key that is not text", 1),
        (b"a: !!python/object/apply:os.system [id]\n", "tag", 1),
        (b"a: !!binary aGk=\n", "tag", 1),
        (b"a: !secret x\n", "tag", 1),
        (b"a: !!set {x}\n", "tag", 1),
        (b"a: 1\n---\nb: 1\n", "second document", 2),
        (b"a: 1\n---\n", "second document", 2),
        (b"a: [1, 2\nb: 3\n", "not valid YAML", 2),
        (b"a: b: c\n", "not valid YAML", 1),
        (b"a:\n\t- b\n", "not valid YAML", 2),
        (b"a: 'x\n", "not valid YAML", 2),
        (b"%YAML 9.9\n---\na: 1\n", "not valid YAML", 1),
        (b"a: \x01\n", "not valid YAML", 0),
        (b'{"a": 1,\n "b": }x', "not valid JSON or YAML", 2),
        (b'{"a": 1, "a": 2}', "the key 'a' twice", 0),
        (b'{"a": NaN}', "NaN", 0),
        (b'{"a": -Infinity}', "-Infinity", 0),
        (b'{"a": "\\ud800"}', "escape", 0),
        (b'{"a": {"\\udfff": 1}}', "escape", 0),
    ],
)
def test_what_is_refused_and_where(text: bytes, words: str, line: int) -> None:
    error = refusal(text)
    assert words in error.message
    assert error.code is Code.INPUT_MALFORMED
    assert (f"line {line}," in error.message) == bool(line)


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x]\n" + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in pairwise("abcdefgh"))
    assert "line 1, uses an anchor" in refusal(bomb.encode()).message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"a: \xff\xfe\n", "byte 0xff is not UTF-8"),
        (b"ok: 1\nbad: \xc3\x28\n", "line 2"),
        ("a: 1".encode("utf-16"), "not UTF-8"),
        (b"\x1f\x8b\x08\x00", "not UTF-8"),
        (b"a: \0\n", "zero bytes"),
        (b"\x7fELF\x02\x01\x01\x00", "zero bytes"),
    ],
)
def test_what_is_no_text(data: bytes, words: str) -> None:
    assert words in refusal(data).message


def test_a_comment_alone_is_nothing() -> None:
    assert load_document(b"# nothing\n", "x") is None


def test_standard_input_is_called_so() -> None:
    with pytest.raises(InputError, match=r"^standard input is empty$"):
        load_document(b"", "-")


@pytest.mark.parametrize("opening", [b"[", b"{a: ", b"- ", b'{"a":', b"[ "])
@pytest.mark.parametrize("depth", [MOST_LEVELS + 1, 200_000])
def test_deep_nesting_is_refused(opening: bytes, depth: int) -> None:
    error = refusal(opening * depth)
    assert "nested deeper" in error.message or "not valid" in error.message


def test_nesting_limit_is_the_same_for_yaml_and_json() -> None:
    deepest = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    for text in (deepest, "--- " + deepest):
        assert isinstance(load_document(text.encode(), "x"), list)
        assert "nested deeper" in refusal(text.replace("[]", "[[]]").encode()).message


def test_size_limit() -> None:
    error = refusal(b" " * MOST_BYTES + b"a")
    assert error.code is Code.INPUT_TOO_LARGE
    assert "longer than 64 MiB" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "[" + "1," * (MOST_VALUES + 1) + "1]",
        "--- [" + "1," * (MOST_VALUES + 1) + "1]",
        "[" + "1," * (4 * MOST_VALUES + 1) + "1]",
    ],
    ids=["json", "yaml", "json-uncounted"],
)
def test_number_of_values_is_limited(text: str) -> None:
    error = refusal(text.encode())
    assert error.code is Code.INPUT_TOO_LARGE
    assert "too many values" in error.message


def test_json_numbers_keep_every_digit() -> None:
    big = 10**40
    assert load_document(f'{{"a": {big}, "b": 1e999, "c": 1.5, "d": 3}}'.encode(), "x") == {
        "a": str(big),
        "b": "1e999",
        "c": 1.5,
        "d": 3,
    }


def test_json_escapes_that_are_characters_are_read() -> None:
    assert load_document(b'{"a": "\\u00e9\\ud83d\\ude00\\/"}', "x") == {"a": "é😀/"}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_sentence(data: bytes) -> None:
    assert "\n" not in message_of(data)


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@,?<~ \n\t0.1e"), max_size=60))
def test_any_yaml_like_text_is_read_or_refused(text: str) -> None:
    assert "\n" not in message_of(text.encode())


_scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(st.characters(codec="utf-8"))
_values = st.recursive(
    _scalars | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), _values, max_size=4))
def test_json_reads_as_written(value: Mapping[str, object]) -> None:
    if "\0" not in json.dumps(value, ensure_ascii=False):
        assert load_document(json.dumps(value, ensure_ascii=False).encode(), "x") == value
    assert load_document(json.dumps(value).encode(), "x") == value


_printable = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn", "Co", "Zl", "Zp"]), max_size=20
)


@given(
    st.dictionaries(_printable, _printable | st.booleans() | st.none() | st.integers(-(2**63), 2**64 - 1), max_size=8)
)
def test_what_pyyaml_writes_reads_the_same(value: Mapping[str, object]) -> None:
    written = yaml.safe_dump(value, allow_unicode=True)
    assert load_document(written.encode(), "x") == value
