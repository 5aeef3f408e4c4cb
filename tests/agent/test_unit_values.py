"""D-Bus values in the forms that readers of snapshots know, without what changes by itself."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.unit_values import scalar, steady, text, to_scalars

RAN = [1754471112, 240758742, 1754471113, 240758743, 38444, 1, 0]
NEVER_RAN = [0] * 7


@pytest.mark.parametrize(
    ("signature", "value", "expected"),
    [
        ("s", "loaded", "loaded"),
        ("b", True, True),
        ("t", (1 << 64) - 1, 18446744073709551615),
        ("x", -5, -5),
        ("u", 4294967295, "4294967295"),
        ("i", -1, "-1"),
        ("q", 0, "0"),
        ("y", 255, "255"),
        ("d", 0.5, 0.5),
        ("as", ["b", "a c"], "[b a c]"),
        ("as", [], "[]"),
        ("ay", [3, 0, 255], "[3 0 255]"),
        ("(ss)", ["", ""], "[ ]"),
        ("(bs)", [False, ""], "[false ]"),
        ("(bas)", [True, []], "[true []]"),
        ("(aiai)", [[], []], "[[] []]"),
        ("a(ss)", [["char-rtc", "r"], ["char-*", "rw"]], "[[char-rtc r] [char-* rw]]"),
        ("a{ss}", {"b": "2", "a": "1"}, "map[a:1 b:2]"),
        ("", 7, 7),
    ],
)
def test_values_take_the_form_readers_know(signature: str, value: Any, expected: Any) -> None:
    shown = scalar(signature, value)
    assert (shown, type(shown)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "signature", "value", "expected"),
    [
        ("ExecStart", "a(sasbttttuii)", [["/a", ["/a"], False, *RAN]], [["/a", ["/a"], False, *NEVER_RAN]]),
        ("ExecStopEx", "a(sasasttttuii)", [["/a", ["/a"], ["x"], *RAN]], [["/a", ["/a"], ["x"], *NEVER_RAN]]),
        ("Conditions", "a(sbbsi)", [["PathExists", False, True, "/x", -1]], [["PathExists", False, True, "/x", 0]]),
        ("TimersMonotonic", "a(stt)", [["OnBootUSec", 5, 99]], [["OnBootUSec", 5, 0]]),
        ("TimersCalendar", "a(sst)", [["OnCalendar", "daily", 99]], [["OnCalendar", "daily", 0]]),
        ("StateDirectorySymlink", "a(sst)", [["a", "b", 1]], [["a", "b", 1]]),
        ("After", "as", ["b.target", "a.target"], ["a.target", "b.target"]),
        ("DropInPaths", "as", ["/run/b", "/etc/a"], ["/run/b", "/etc/a"]),
        ("Environment", "as", ["B=1", "A=2"], ["B=1", "A=2"]),
        ("SystemCallFilter", "(bas)", [False, ["swapon", "reboot"]], [False, ["reboot", "swapon"]]),
        ("IPAddressDeny", "a(iayu)", [[2, [20], 8], [2, [10], 8]], [[2, [10], 8], [2, [20], 8]]),
        ("DeviceAllow", "a(ss)", [["b", "r"], ["a", "w"]], [["b", "r"], ["a", "w"]]),
        ("WatchdogUSec", "t", (1 << 64) - 1, 0),
        ("WatchdogUSec", "t", 180000000, 180000000),
        ("MemoryMax", "t", (1 << 64) - 1, (1 << 64) - 1),
        ("SourcePath", "s", "/proc/self/mountinfo", ""),
        ("SourcePath", "s", "/etc/fstab", "/etc/fstab"),
    ],
)  # fmt: skip
def test_what_changes_by_itself_is_as_before_the_first_run(
    name: str, signature: str, value: Any, expected: Any
) -> None:
    assert steady(name, signature, value) == expected


def test_some_properties_are_never_shown() -> None:
    hidden = ("AllowedCPUs", "AllowedMemoryNodes", "Asserts", "BPFProgram", "BusName", "Id", "SetCredentialEncrypted")
    assert to_scalars(dict.fromkeys(hidden, "x") | {"Description": "y"}, {}) == ({"Description": "y"}, [])


def test_it_says_where_secrets_were_redacted() -> None:
    properties = {
        "Environment": ["TOKEN=abc", "A=1"],
        "ExecStart": [["/x", ["/x", "--password", "abc"], False, *RAN]],
        "Options": "username=me,password=abc",
        "Description": "plain",
    }
    signatures = {"Environment": "as", "ExecStart": "a(sasbttttuii)", "Options": "s", "Description": "s"}
    data, redacted = to_scalars(properties, signatures)
    assert redacted == ["Environment", "ExecStart", "Options"]
    assert data == {
        "Environment": "[TOKEN=<redacted> A=1]",
        "ExecStart": "[[/x [/x --password <redacted>] false 0 0 0 0 0 0 0]]",
        "Options": "username=me,password=<redacted>",
        "Description": "plain",
    }


names = st.text(alphabet="abc.@-", min_size=1, max_size=8)
values = st.recursive(
    st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
signatures = st.sampled_from(
    ["", "as", "s", "t", "i", "(bas)", "a(sbbsi)", "a(sasbttttuii)", "a(sasasttttuii)", "a(iayu)"]
)
properties = st.sampled_from(
    ["After", "Environment", "ExecStart", "Conditions", "TimersCalendar", "WatchdogUSec", "Xyz"]
)


@given(st.dictionaries(properties, st.tuples(signatures, values)))
def test_any_value_becomes_a_scalar_whatever_its_signature_says(given_values: dict[str, tuple[str, Any]]) -> None:
    data, _ = to_scalars(
        {name: value for name, (_, value) in given_values.items()},
        {name: signature for name, (signature, _) in given_values.items()},
    )
    assert set(data) == set(given_values)
    assert all(isinstance(value, str | int | float | bool) for value in data.values())


@given(st.lists(names, unique=True), st.randoms(use_true_random=False))
def test_a_set_reads_the_same_in_any_order(members: list[str], shuffler: random.Random) -> None:
    shuffled = members[:]
    shuffler.shuffle(shuffled)
    assert text(steady("Wants", "as", members)) == text(steady("Wants", "as", shuffled))
    assert steady("SystemCallFilter", "(bas)", [True, members]) == steady(
        "SystemCallFilter", "(bas)", [True, shuffled]
    )
