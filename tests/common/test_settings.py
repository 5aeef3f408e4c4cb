"""Durations and booleans as people write them."""

from argparse import ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UsageError
from common.settings import environment_bool, parse_duration, port_number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h30m15s", 5415),
        ("2d", 172800),
        ("500ms", 0.5),
        ("1s500ms", 1.5),
        ("1.5h", 5400),
        ("30", 30),
        ("0.25", 0.25),
        (" 10S ", 10),
        ("1ms", 0.001),
        ("366d", 366 * 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "s",
            "m5",
            "5 m",
            "5x",
            "1h30",
            "30s1h",
            "5m5m",
            "-5s",
            "+5s",
            "1e3",
            "1_0s",
            "٣s",
            "5s ago",
            "1..5s",
        ),
        *("nan", "inf", "0x10", "1,5s", ".5s", "5.s", "1234567890s"),
    ],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "0.0", "367d", "999999999h"])
def test_durations_out_of_range(text: str) -> None:
    with pytest.raises(UsageError, match="is not between 1ms and a year"):
        parse_duration(text)


@given(st.integers(0, 9), st.integers(0, 59), st.integers(1, 59))
def test_parts_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@given(st.text(max_size=15) | st.text("0123456789.hms", max_size=15))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 0 < seconds <= 366 * 86400


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("1", "TRUE", "yes", " on ")),
        *((text, False) for text in ("0", "False", "no", "off", "")),
    ],
)
def test_booleans(text: str, value: bool) -> None:
    assert environment_bool({"EIDOS_X": text}, "EIDOS_X", default=not value) is value


@pytest.mark.parametrize("default", [True, False])
def test_a_variable_that_is_not_set(default: bool) -> None:
    assert environment_bool({}, "EIDOS_X", default) is default


@pytest.mark.parametrize("text", ["2", "maybe", "tru", "y"])
def test_no_booleans(text: str) -> None:
    with pytest.raises(UsageError, match=f"EIDOS_X is '{text}'"):
        environment_bool({"EIDOS_X": text}, "EIDOS_X")


@pytest.mark.parametrize(("text", "port"), [("0", 0), ("8443", 8443), ("65535", 65535), ("00080", 80)])
def test_ports(text: str, port: int) -> None:
    assert port_number(text) == port


@pytest.mark.parametrize("text", ["65536", "99999", "-1", "1e3", "8_443", " 80", "", "x", "９", "1" * 5000])
def test_no_ports(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no port: give a number from 0 to 65535"):
        port_number(text)
