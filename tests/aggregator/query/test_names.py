"""Which facts an expression names, and that its columns stay those of the user's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.own_facts import ways_to_read
from aggregator.query_names import MOST_NAMES, Name, find_names
from common.errors import UsageError
from common.fleet_api import MOST_EXPRESSION
from common.model import MeasurementType


def only(expression: str) -> Name:
    (name,) = find_names(expression).names
    return name


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("OS.release.VERSION_ID", ("release", "VERSION_ID")),
        ('OS.sysctl["/proc/sys/vm/swappiness"] == "1"', ("sysctl", "/proc/sys/vm/swappiness")),
        ("OS.sysctl['a.b']", ("sysctl", "a.b")),
        ('OS.sysctl[r"a\\b"]', ("sysctl", "a\\b")),
        ('OS.sysctl["a\\"b"]', ("sysctl", 'a"b')),
        ("OS.sysctl.`a-b`", ("sysctl", "a-b")),
        ('SystemD["containerd.service"].Delegate', ("containerd.service", "Delegate")),
        ("SystemD.containerd.service.Delegate", ("containerd", "service", "Delegate")),
        ('GPU.devices["0.memory-total"]', ("devices", "0.memory-total")),
        ('GPU.devices["memory-total"][3] > 1', ("devices", "memory-total[3]")),
        ('OS.release.ID.startsWith("OS.x.y")', ("release", "ID")),
        ("OS . release . ID // OS.not.this", ("release", "ID")),
        ("OS.sysctl.exists(k, k == 'x')", ("sysctl",)),
        ("OS.sysctl[k] == 1", ("sysctl",)),
        ('"""OS.a.b""" == OS.release.ID', ("release", "ID")),
    ],
)
def test_what_is_named(expression: str, parts: tuple[str, ...]) -> None:
    assert only(expression).parts == parts


@pytest.mark.parametrize(
    "expression", ["x.OS.a.b", '"OS.a.b"', "// OS.a.b\ntrue", "b'OS.a.b'", "myOS.a.b", "OSx.a", "OS_.a", "true"]
)
def test_what_is_not(expression: str) -> None:
    found = find_names(expression)
    assert found.names == ()
    assert found.expression == expression


def test_whether_a_fact_is_there_is_another_question() -> None:
    found = find_names("has(GPU.smi.driver) && GPU.smi.driver != '' && has( GPU.smi.driver )")
    assert [(name.is_test, name.text) for name in found.names] == [
        (True, "GPU.smi.driver"),
        (False, "GPU.smi.driver"),
    ], "named twice is one variable"


def test_a_variable_is_as_long_as_what_it_stands_for() -> None:
    source = 'OS.release.ID == "x" &&\n  OS\n .a.b == zz'
    found = find_names(source)
    assert len(found.expression) == len(source)
    assert [len(line) for line in found.expression.split("\n")] == [len(line) for line in source.split("\n")]
    assert found.expression.index("zz") == source.index("zz")


def test_the_ways_to_read_a_name() -> None:
    name = only("SystemD.containerd.service.Delegate")
    assert name.kind is MeasurementType.SYSTEMD
    assert ways_to_read(name.parts) == [("containerd", "service.Delegate"), ("containerd.service", "Delegate")]
    assert name.whole == "containerd.service.Delegate"


@pytest.mark.parametrize(
    "expression",
    ["", "  \n", "OS", "true && GPU", "has(OS)", "x" * (MOST_EXPRESSION + 1),
     "||".join(f"OS.a.k{number} == 1" for number in range(MOST_NAMES + 1))],
)  # fmt: skip
def test_what_is_refused(expression: str) -> None:
    with pytest.raises(UsageError):
        find_names(expression)


_PIECES = st.sampled_from(
    ["OS", "GPU", ".", "a", "[", "]", "'x'", '"', "\\", "`", "has", "(", ")", " ", "\n", "//", "3"]
)


@given(st.lists(_PIECES, max_size=30).map("".join) | st.text(max_size=60))
def test_any_text_keeps_its_shape(source: str) -> None:
    try:
        found = find_names(source)
    except UsageError:
        return
    assert len(found.expression) >= len(source), "longer only where a name is spread over lines of a character each"
    assert found.expression.count("\n") == source.count("\n")
