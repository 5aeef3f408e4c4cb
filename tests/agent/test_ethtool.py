"""The ethtool ioctl: its structures, and the real one on the loopback interface."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.ethtool import (
    Ethtool,
    parse_channels,
    parse_drvinfo,
    parse_flags,
    parse_pauseparam,
    parse_ringparam,
)
from common.model import Scalar


def drvinfo(firmware: bytes) -> bytes:
    return struct.pack(
        "=I32s32s32s32s32s12s5I", 3, b"mlx5_core", b"6.8.0", firmware, b"0000:18:00.0", b"", b"", *[0] * 5
    )


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (drvinfo(b"28.39.2048 (MT_0000000838)"), {"firmware-version": "28.39.2048 (MT_0000000838)"}),
        (drvinfo(b"N/A"), {}),
        (drvinfo(b""), {}),
        (drvinfo(b"\xff\xfe"), {"firmware-version": "\ufffd\ufffd"}),
        (b"short", {}),
    ],
)
def test_parse_drvinfo(answer: bytes, settings: dict[str, Scalar]) -> None:
    assert parse_drvinfo(answer) == settings


def test_parse_ringparam() -> None:
    assert parse_ringparam(struct.pack("=9I", 0x10, 8192, 0, 0, 4096, 1024, 0, 0, 512)) == {
        "rx-ring": 1024,
        "rx-ring-max": 8192,
        "tx-ring": 512,
        "tx-ring-max": 4096,
    }


def test_parse_pauseparam() -> None:
    assert parse_pauseparam(struct.pack("=4I", 0x12, 0, 1, 1)) == {
        "pause-autoneg": False,
        "rx-pause": True,
        "tx-pause": True,
    }


@pytest.mark.parametrize(
    ("most", "now", "settings"), [(63, 32, {"combined-channels": 32, "combined-channels-max": 63}), (0, 0, {})]
)
def test_parse_channels(most: int, now: int, settings: dict[str, Scalar]) -> None:
    assert parse_channels(struct.pack("=9I", 0x3C, 0, 0, 0, most, 0, 0, 0, now)) == settings


def test_parse_flags() -> None:
    assert parse_flags(struct.pack("=2I", 0x25, 1 << 15 | 1 << 28)) == {"lro": True, "ntuple": False, "rx-hash": True}


@pytest.mark.parametrize("parse", [parse_drvinfo, parse_ringparam, parse_pauseparam, parse_channels, parse_flags])
@given(answer=st.binary(max_size=256))
def test_parsers_take_anything(parse: Callable[[bytes], dict[str, Scalar]], answer: bytes) -> None:
    assert all(isinstance(key, str) for key in parse(answer))


def test_the_loopback_answers_and_a_missing_interface_does_not() -> None:
    with Ethtool() as ethtool:
        assert isinstance(ethtool.settings("lo")["gro"], bool)
        assert ethtool.settings("no-such-if") == {}
        assert ethtool.settings("a-name-longer-than-any-interface") == {}
