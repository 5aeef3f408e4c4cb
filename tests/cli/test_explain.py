"""`eidos explain`."""

import json

import pytest

from cli.explain import parse_key
from cli.main import run
from common.errors import UsageError
from common.model import MeasurementType


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/proc/sys/vm/swappiness", (MeasurementType.OS, "sysctl", "/proc/sys/vm/swappiness")),
        ("OS.sysctl./proc/sys/vm/swappiness", (MeasurementType.OS, "sysctl", "/proc/sys/vm/swappiness")),
        ("vm.swappiness", (MeasurementType.OS, "sysctl", "/proc/sys/vm/swappiness")),
        ("os.sysctl", (MeasurementType.OS, "sysctl", "")),
        ("GPU", (MeasurementType.GPU, "", "")),
        ("GPU.smi.gpu.model", (MeasurementType.GPU, "smi", "gpu.model")),
        ("SystemD.kubelet.service.MemoryMax", (MeasurementType.SYSTEMD, "kubelet.service", "MemoryMax")),
        ("SystemD.getty@tty1.service", (MeasurementType.SYSTEMD, "getty@tty1.service", "")),
        ("SystemD.a.b.timer.X.Y", (MeasurementType.SYSTEMD, "a.b.timer", "X.Y")),
    ],
)
def test_keys_are_split(text: str, expected: tuple[MeasurementType, str, str]) -> None:
    assert parse_key(text) == expected


@pytest.mark.parametrize("text", ["", "nonsense", "os", ".x", "Gpus.smi"])
def test_no_type_is_said(text: str) -> None:
    if text == "os":
        assert parse_key(text)[0] is MeasurementType.OS
    else:
        with pytest.raises(UsageError, match="names no measurement type"):
            parse_key(text)


def test_says_class_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "/proc/sys/kernel/random/uuid"]) == 0
    out = capsys.readouterr().out
    assert "volatile" in out
    assert run(["explain", "SystemD.kubelet.service.MainPID", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["stability"] == "volatile"
    assert run(["explain", "OS.sysctl./proc/sys/vm/swappiness", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["stability"] == "stable"


def test_a_folded_key_may_be_named_without_its_indexes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "GPU.devices.uuid", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["stability"] == "identity"


def test_what_nobody_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "OS.nothing-like-this"]) == 2
    assert "nothing is known" in capsys.readouterr().err
