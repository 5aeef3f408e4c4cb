"""What the driver's and the kernel's texts mean, and that no text and no reading can break the collector."""

import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.collectors.gpu_facts import outcomes, smi
from agent.collectors.gpu_folding import Folding
from agent.collectors.gpu_sysfs import Evidence, PciGpu, fallback, parse_information, parse_module_version, pci_bus
from agent.collectors.gpu_xid import parse_xid, read_kernel_log, read_xids, xid_facts
from agent.host import Host
from agent.nvml_reading import Gpu, Link, Mig, Reading, failure_code, failure_reason
from common.canonical import canonical_bytes
from common.model import Absent, Failed, FailureCode, Ok
from common.nodeset import unfold_indexes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.133.20  Release Build  (dvs-builder@U22)\n"
            "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n",
            ("570.133.20", "open"),
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\n", ("535.183.01", "proprietary")),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.65.06  Rel\n", ("580.65.06", "open")),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module\n", ("", "proprietary")),
        ("GCC version:  gcc version 12.3.0\n", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_version_file_tells_version_and_flavour(text: str, expected: tuple[str, str]) -> None:
    assert parse_module_version(text) == expected


def test_information_leaves_out_what_the_driver_does_not_know() -> None:
    text = (
        "Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-????????-????\nVideo BIOS: \t ??.??.??\nIRQ:   \t\t 12\nx\n: y\n"
    )
    assert parse_information(text) == {"Model": "NVIDIA A100", "IRQ": "12"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00000000:1B:00.0", "0000:1b:00.0"),
        ("0000:1b:00.0", "0000:1b:00.0"),
        ("00000009:01:00.0", "0009:01:00.0"),
        ("00010000:01:00.0", "00010000:01:00.0"),
        ("", ""),
    ],
)
def test_bus_ids_are_written_in_one_way(text: str, expected: str) -> None:
    assert pci_bus(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("4,9113,864,-;NVRM: Xid (PCI:0000:61:00): 79, GPU has fallen off the bus.", ("0000:61:00", 79)),
        ("[  12.5] NVRM: Xid (0000:1B:00): 31, Ch 00000010, engmask 00000101", ("0000:1b:00", 31)),
        ("NVRM: Xid (PCI:0009:01:00.0): 13, Graphics SM Warp Exception", ("0009:01:00", 13)),
        ("NVRM: Xid (PCI:0000:61:00): none", None),
        ("NVRM: GPU 0000:61:00.0: RmInitAdapter failed!", None),
        ("NVRM: Xid (PCI:0000:61:00): 1234567, too long to be one", None),
    ],
)
def test_xids_are_found_in_the_kernel_log(line: str, expected: tuple[str, int] | None) -> None:
    assert parse_xid(line) == expected


def test_xids_are_counted_by_kind_and_gpu() -> None:
    seen = (("61", 79), ("1b", 79), ("61", 31), ("61", 31), ("99", 48))
    lines = [f"NVRM: Xid (PCI:0000:{bus}:00): {number}, x" for bus, number in seen]
    outcome = xid_facts(lines, {"0000:1b:00.0": 0, "0000:61:00.0": 3})
    assert outcome == Ok({"count.79[0,3]": 1, "count.31[3]": 2, "count.48[0000:99:00]": 1})


def test_a_kernel_log_longer_than_one_read_is_read_whole(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("".join(f"6,{number},1,-;{'x' * 700}\n" for number in range(100)) + "last line without an end")
    lines = list(read_kernel_log(str(log), time.monotonic() + 60))
    assert len(lines) == 101
    assert {len(line.partition(";")[2]) for line in lines[:-1]} == {700}


def test_the_kernel_log_of_this_machine_is_read_without_waiting_for_more() -> None:
    """Whether it may be read depends on who we are; either way it returns."""
    assert isinstance(read_xids(Host(), {}, time.monotonic() + 60), Ok | Failed | Absent)


def test_a_kernel_log_that_may_not_be_read_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr("agent.collectors.gpu_xid.os.open", refuse)
    outcome = read_xids(Host(str(tmp_path)), {}, 0.0)
    assert isinstance(outcome, Failed)
    assert outcome.code is FailureCode.PERMISSION_DENIED


def test_folding_keeps_types_apart() -> None:
    folding = Folding()
    for index, value in enumerate((1, True, 1.0, 1, None)):
        folding.put("s", "f", index, value)
    folding.put("s", "of-the-node", None, "x")
    assert folding.folded() == {"s": {"of-the-node": "x", "f[0,3]": 1, "f[1]": True, "f[2]": 1.0}}


def test_the_first_source_of_a_fact_counts() -> None:
    folding = Folding()
    for value in ("first", "second"):
        folding.put("s", "f", 0, value)
        folding.put("s", "of-the-node", None, value)
    assert folding.folded() == {"s": {"of-the-node": "first", "f[0]": "first"}}


@given(st.lists(st.sampled_from(["a", "b", "c"]) | st.none(), max_size=70))
def test_folding_loses_nothing(values: list[str | None]) -> None:
    folding = Folding()
    for index, value in enumerate(values):
        folding.put("s", "f", index, value)
    found = {
        index: value
        for key, value in folding.folded().get("s", {}).items()
        for index in unfold_indexes(key.removeprefix("f[").removesuffix("]"))
    }
    assert found == {index: value for index, value in enumerate(values) if value is not None}


@given(st.text(max_size=300))
@example("NVRM version: 1.2.3.4.5")
@example("Model:\x00")
def test_any_text_is_parsed(text: str) -> None:
    version, flavour = parse_module_version(text)
    assert flavour in ("", "open", "proprietary")
    assert not version or version in text
    assert all(value == value.strip() != "" for value in parse_information(text).values())
    assert pci_bus(text) == pci_bus(pci_bus(text))
    found = parse_xid(text)
    assert found is None or (found[1] >= 0 and found[0].isascii())


NUMBERS = st.integers(-(1 << 70), 1 << 70)
VALUES = st.text(max_size=12) | NUMBERS | st.floats() | st.lists(NUMBERS, max_size=5)
KEYS = st.sampled_from(
    [
        "name",
        "pci",
        "pci-ids",
        "memory-total",
        "power-limit",
        "ecc-mode",
        "mig-mode",
        "fabric",
        "fabric-cluster",
        "fabric-health",
        "cuda",
        "driver",
        "cc-state",
        "remapped-rows",
        "clock-event-reasons",
        "compute-capability",
    ]
)
SMALL = st.integers(-3, 300)
GPUS = st.builds(
    Gpu,
    index=st.integers(0, 80),
    values=st.dictionaries(KEYS, VALUES, max_size=8),
    errors=st.dictionaries(st.text(max_size=9), st.integers(-5, 1000), max_size=3),
    links=st.lists(st.builds(Link, st.integers(0, 40), SMALL, SMALL, SMALL), max_size=3),
    migs=st.lists(st.builds(Mig, st.text(max_size=9), st.text(max_size=9), SMALL, SMALL), max_size=3),
)
EVIDENCE = Evidence([PciGpu("0000:1b:00.0", 0x2330, "nvidia", 0)], True, "570.133.20", "open", True)


@given(
    st.builds(
        Reading,
        values=st.dictionaries(KEYS, VALUES, max_size=5),
        errors=st.just({}),
        excluded=st.lists(st.text(max_size=20), max_size=3),
        gpus=st.lists(GPUS, max_size=4, unique_by=lambda gpu: gpu.index),
    )
)
def test_any_reading_gives_facts_that_can_be_written(reading: Reading) -> None:
    for outcome in outcomes(reading, EVIDENCE).values():
        if isinstance(outcome, Ok):
            canonical_bytes(outcome.data)
    canonical_bytes(dict(smi(reading)))


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=100), max_size=4))
def test_any_information_gives_facts_that_can_be_written(information: dict[str, str]) -> None:
    for outcome in fallback(EVIDENCE, information).values():
        assert isinstance(outcome, Ok)
        canonical_bytes(outcome.data)


@given(st.text(max_size=20), st.integers())
def test_any_number_is_a_failure_with_a_reason(call: str, number: int) -> None:
    assert isinstance(failure_code(number), FailureCode)
    assert failure_reason(call, number).startswith("the NVIDIA driver ")
