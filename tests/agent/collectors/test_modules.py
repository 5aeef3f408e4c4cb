"""OS.kmod."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.collectors.base import Context
from agent.collectors.modules import ModulesCollector, parse_modules
from common.model import Absent, Failed, FailureCode
from tests.agent.collectors.closed import ClosedHost
from tests.agent.collectors.device_tree import DeviceTree

MODULES = """\
nvidia_uvm 1789952 4 - Live 0xffffffffc3a00000 (POE)
nvidia 56717312 212 nvidia_uvm,nvidia_modeset, Live 0xffffffffc0400000 (POE)
coming 16384 0 - Loading 0xffffffffc0100000
going 16384 0 - Unloading 0xffffffffc0200000
"""


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", {}),
        (MODULES, {"nvidia_uvm": True, "nvidia": True}),
        ("short 1\n\n", {"short": True}),
    ],
)
def test_parse_modules(text: str, data: dict[str, bool]) -> None:
    assert parse_modules(text) == data


@given(st.text() | st.text(st.sampled_from("a 0-\n\t\0")))
def test_it_takes_anything(text: str) -> None:
    assert all(name and value is True for name, value in parse_modules(text).items())


def test_use_counts_leave_no_trace(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/modules", MODULES)
    before = tree.facts(ModulesCollector())
    tree.write("/proc/modules", MODULES.replace(" 212 ", " 213 ").replace("c0400000", "c0500000"))
    assert tree.facts(ModulesCollector()) == before


def test_absent(tmp_path: Path) -> None:
    outcome = DeviceTree(tmp_path).collect(ModulesCollector())
    assert outcome == Absent("/proc/modules is not there: this kernel loads no modules")


def test_too_large_and_closed(tmp_path: Path) -> None:
    tree = DeviceTree(tmp_path)
    tree.write("/proc/modules", b"a 1\n" * (1 << 19))
    outcome = tree.collect(ModulesCollector())
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.TOO_LARGE
    [outcome] = ModulesCollector().collect(Context(ClosedHost(str(tmp_path), "/proc"), "n", 0)).subtypes.values()
    assert outcome == Failed(FailureCode.PERMISSION_DENIED, "/proc/modules may not be read")
