"""References: what is one, reading what they point to, and standard output in all its states."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Code, InputError, UsageError
from common.refs import Ref, RefKind, check_writable, parse_ref, read, write
from tests.common.privileges import directory_for_all, unprivileged

# ---- what a reference is ----


@pytest.mark.parametrize("text", ["-", "stdout", "/dev/stdout"])
def test_standard_stream(text: str) -> None:
    assert parse_ref(text) == Ref(RefKind.STREAM)
    assert str(parse_ref(text)) == "-"


@pytest.mark.parametrize(
    "text", ["a", "a/b.yaml", "/dev/null", "./-", "./s3://x", "cm:/a/b", "cm", "a b", "1://", "é", "://"]
)
def test_files(text: str) -> None:
    assert parse_ref(text) == Ref(RefKind.FILE, path=text)
    assert str(parse_ref(text)) == text


@pytest.mark.parametrize(
    "text", ["cm://ns/name", "cm://gpu-operator/eidos-snapshot", "cm://0/a.b-c.9", "cm://n/" + "a" * 253]
)
def test_configmaps(text: str) -> None:
    ref = parse_ref(text)
    assert (ref.kind, f"cm://{ref.namespace}/{ref.name}", str(ref)) == (RefKind.CONFIGMAP, text, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a file name"),
        ("a\0b", "not a file name"),
        ("s3://bucket/key", "the scheme 's3://'"),
        ("http://x", "the scheme 'http://'"),
        ("file:///a", "the scheme 'file://'"),
        ("CM://a/b", "the scheme 'CM://'"),
        ("cm://", "not a reference to a ConfigMap"),
        ("cm://a", "not a reference to a ConfigMap"),
        ("cm://a/", "not a reference to a ConfigMap"),
        ("cm:///b", "not a reference to a ConfigMap"),
        ("cm://A/b", "not a namespace"),
        ("cm://a.b/c", "not a namespace"),
        ("cm://-a/b", "not a namespace"),
        ("cm://a-/b", "not a namespace"),
        ("cm://a_b/c", "not a namespace"),
        ("cm://a\n/c", "not a namespace"),
        ("cm://" + "a" * 64 + "/b", "not a namespace"),
        ("cm://a/b/c", "not the name of a ConfigMap"),
        ("cm://a/B", "not the name of a ConfigMap"),
        ("cm://a/.b", "not the name of a ConfigMap"),
        ("cm://a/b.", "not the name of a ConfigMap"),
        ("cm://a/b..c", "not the name of a ConfigMap"),
        ("cm://a/b\n", "not the name of a ConfigMap"),
        ("cm://a/" + "b" * 254, "not the name of a ConfigMap"),
    ],
)
def test_no_reference(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_ref(text)


@given(st.text(max_size=30))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    assert parsed_or_refused(text)
    assert parsed_or_refused("cm://" + text)


def parsed_or_refused(text: str) -> bool:
    try:
        return isinstance(parse_ref(text), Ref)
    except UsageError:
        return True


@pytest.mark.parametrize("call", [lambda ref: read(ref, 10), lambda ref: write(ref, b""), check_writable])
@pytest.mark.usefixtures("clean_environment")
def test_a_configmap_needs_a_cluster(call: Callable[[Ref], object]) -> None:
    with pytest.raises(UsageError, match=r"no cluster is configured here: .* Give --kubeconfig FILE"):
        call(parse_ref("cm://ns/name"))


# ---- reading ----


def test_read_a_file_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read(parse_ref(str(tmp_path / "a")), 5) == b"12345"
    with pytest.raises(InputError, match="is longer than 4 bytes") as caught:
        read(parse_ref(str(tmp_path / "a")), 4)
    assert caught.value.code is Code.INPUT_TOO_LARGE


def test_an_endless_device_ends_at_the_limit() -> None:
    with pytest.raises(InputError, match="is longer than 100 bytes"):
        read(parse_ref("/dev/zero"), 100)


@pytest.mark.parametrize(
    ("name", "words"), [("none", "does not exist"), (".", "is a directory"), ("f/x", "cannot be read")]
)
def test_what_cannot_be_read(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(InputError, match=words) as caught:
        read(parse_ref(os.path.join(tmp_path, name)), 10)
    assert caught.value.code is Code.INPUT_UNREADABLE


def test_a_file_we_may_not_read() -> None:
    with directory_for_all() as directory:
        (directory / "a").touch()
        (directory / "a").chmod(0)
        with unprivileged(), pytest.raises(InputError, match="cannot be read: Permission denied"):
            read(parse_ref(str(directory / "a")), 10)


def test_standard_input() -> None:
    code = "from common.refs import *; print(read(parse_ref('-'), 5))"
    assert run(code, stdin=b"12345").stdout == b"b'12345'\n"
    assert b"standard input is longer than 5 bytes" in run(code, stdin=b"123456").stderr
    assert b"standard input is closed" in run_in_shell(code, "<&-").stderr


def run(code: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", code], input=stdin, capture_output=True, check=False, timeout=60)


def run_in_shell(code: str, redirection: str) -> subprocess.CompletedProcess[bytes]:
    command = f'"$1" -c "$2" {redirection}'
    return subprocess.run(
        ["bash", "-c", command, "bash", sys.executable, code], capture_output=True, check=False, timeout=60
    )


# ---- standard output ----

WRITE = """
import sys
from common.errors import EidosError
from common.refs import parse_ref, write
try:
    write(parse_ref("-"), b"x" * 200_000)
except EidosError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_status)
"""


def test_standard_output_comes_after_what_was_printed() -> None:
    code = "from common.refs import *; print('a'); write(parse_ref('stdout'), b'b\\n'); print('c')"
    assert run(code).stdout == b"a\nb\nc\n"


@pytest.mark.parametrize(
    ("redirection", "words"),
    [
        (">&-", b"standard output cannot be written: it is closed"),
        (">/dev/full", b"standard output cannot be written: there is no space left"),
        ("> >(exec true)", b"standard output cannot be written: nobody reads"),
    ],
)
def test_standard_output_that_takes_nothing(redirection: str, words: bytes) -> None:
    done = run_in_shell(WRITE, redirection)
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1  # no complaint of the interpreter's after it
    assert done.returncode == 2
