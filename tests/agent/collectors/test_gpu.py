"""The GPU collector on every scenario of the stand-in, and on nodes where there is nothing to ask.

What a scenario gives is kept in golden/gpu/<name>.txt: how it ended, then every fact with its class.
`pytest --update-golden` writes them anew.
"""

import time
from pathlib import Path

import pytest

from agent.collectors.gpu import GpuCollector
from agent.nvml_reading import Gpu, Reading, Refusal, Trouble
from common.keys import default_keys
from common.model import Absent, Collected, Failed, FailureCode, Ok, Outcome, State
from common.stability import Stability, default_rules
from tests.nvml.node import (
    H100_BUSES,
    LIBRARIES,
    add_gpu,
    add_information,
    bare_node,
    children,
    collector,
    context,
    h100_node,
    load_driver,
)
from tests.nvml.standin import SCENARIOS, install

GOLDEN = Path(__file__).parent / "golden" / "gpu"
HANGING = {"hang-at-init", "hang-at-gpu"}  # tests/agent/test_nvml_hang.py
# Scenario: bus, PCI device and driver version where they are not those of eight H100.
NODES = {
    "a100-mig": (("07", "0f"), "0x20b2", "535.183.01"),
    "mixed-models": (("1b", "43"), "0x2330", "570.133.20"),
    "no-devices": ((), "", "570.133.20"),
    "old-driver": (("0000:00:1e.0",), "0x1eb8", "470.256.02"),
    "retired-pages": (("1a", "1c"), "0x1db5", "535.183.01"),
}
KERNEL_LOG = (
    "6,901,5061327,-;NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  570.133.20\n"
    "4,9113,86400000000,-;NVRM: Xid (PCI:0000:61:00): 79, pid='<unknown>', GPU has fallen off the bus.\n"
    "4,9114,86400000005,-;NVRM: Xid (PCI:0000:61:00): 154, GPU recovery action changed from 0x0 (None) to 0x2\n"
)


def soon() -> float:
    return time.monotonic() + 60


def node(root: Path, scenario: str) -> Path:
    buses, device, version = NODES.get(scenario, (H100_BUSES, "0x2330", "570.133.20"))
    bare_node(root)
    for bus in buses:
        add_gpu(root, bus, device)
    for bus in ("52", "61") if scenario == "mixed-models" else ():
        add_gpu(root, bus, "0x26b9")
    load_driver(root, version, is_open=scenario not in ("old-driver", "retired-pages"))
    install(root / LIBRARIES, scenario, old=scenario == "old-driver")
    (root / "dev").mkdir()
    (root / "dev/kmsg").write_text(KERNEL_LOG)
    return root


def report(collected: Collected) -> str:
    """How a collection ended, then its facts: class, key, value."""
    lines = [f"state: {collected.state}"]
    if collected.ending:
        lines.append(f"ending: {_told(collected.ending)}")
    for name, outcome in sorted(collected.subtypes.items()):
        if isinstance(outcome, Ok):
            for key, value in sorted(outcome.data.items()):
                lines.append(f"{default_rules().classify('GPU', name, key):8} GPU.{name}.{key}: {value!r}")
        else:
            lines.append(f"{name}: {_told(outcome)}")
    return "\n".join(lines) + "\n"


def _told(outcome: Outcome) -> str:
    if isinstance(outcome, Failed):
        return f"failed {outcome.code}: {outcome.reason}"
    assert isinstance(outcome, Absent)
    return f"absent: {outcome.reason}"


@pytest.mark.parametrize("scenario", sorted({path.stem for path in SCENARIOS.glob("*.scenario")} - HANGING))
def test_what_a_scenario_gives(scenario: str, tmp_path: Path, update_golden: bool) -> None:
    root = node(tmp_path, scenario)
    collected = collector(root).collect(context(root, soon(), volatile=True))
    told = report(collected).replace(str(root), "<node>")
    golden = GOLDEN / f"{scenario}.txt"
    if update_golden:
        golden.write_text(told)
    assert told == golden.read_text()
    without = collector(root).collect(context(root, soon()))
    for name, outcome in without.subtypes.items():
        if isinstance(outcome, Ok):
            found = {key for key in outcome.data if default_rules().classify("GPU", name, key) is Stability.VOLATILE}
            # Counts of replaced rows come in one answer with flags that are stable.
            assert not {key for key in found if not key.startswith("row-remap.")}


def test_every_fact_of_every_scenario_is_explained() -> None:
    unexplained = []
    for golden in GOLDEN.glob("*.txt"):
        for line in golden.read_text().splitlines():
            if " GPU." in line:
                name = line.split(" ", 1)[1].strip().partition(": ")[0]
                subtype = ".".join(name.split(".")[:2])
                entries = default_keys().find(name), default_keys().find(subtype)
                unexplained += [name] if None in entries else []
    assert not unexplained


def facts(collected: Collected, subtype: str) -> dict[str, object]:
    outcome = collected.subtypes[subtype]
    assert isinstance(outcome, Ok)
    return dict(outcome.data)


def test_eight_equal_gpus_give_one_entry_for_a_fact(tmp_path: Path) -> None:
    collected = collector(h100_node(tmp_path / "n")).collect(context(tmp_path / "n", soon()))
    assert collected.state is State.OK
    for name, outcome in collected.subtypes.items():
        for key in outcome.data if isinstance(outcome, Ok) and name != "smi" else ():
            of_one_gpu = default_rules().classify("GPU", name, key) is Stability.IDENTITY
            assert not key.endswith("]") or of_one_gpu or key.endswith("[0-7]") or key.startswith("numa-node"), key


@pytest.mark.parametrize(
    ("scenario", "subtype", "expected"),
    [
        ("odd-vbios", "devices", {"vbios-version[0-2,4-7]": "96.00.BC.00.01", "vbios-version[3]": "96.00.74.00.01"}),
        (
            "odd-ecc",
            "ecc",
            {
                "mode.current[0-4,6-7]": "Enabled",
                "mode.current[5]": "Disabled",
                "mode.pending[0-4,7]": "Enabled",
                "mode.pending[5-6]": "Disabled",
            },
        ),
    ],
)
def test_an_odd_gpu_stands_out(scenario: str, subtype: str, expected: dict[str, object], tmp_path: Path) -> None:
    equal = collector(h100_node(tmp_path / "equal")).collect(context(tmp_path / "equal", soon()))
    odd = collector(h100_node(tmp_path / "odd", scenario)).collect(context(tmp_path / "odd", soon()))
    for name in odd.subtypes.keys() | equal.subtypes.keys():
        differing = (
            facts(odd, name).items() - facts(equal, name).items()
            if odd.subtypes[name] != equal.subtypes[name]
            else ()
        )
        assert dict(differing) == (expected if name == subtype else {})


def test_two_collections_of_an_unchanged_node_are_equal(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n", "gpu-lost")
    first = collector(root).collect(context(root, soon()))
    assert collector(root).collect(context(root, soon())) == first


def test_a_node_without_gpus_pays_for_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    root = bare_node(tmp_path / "n")
    collected = collector(root).collect(context(root, soon()))
    assert collected.ending == Absent("there is no NVIDIA GPU on this node")
    assert collected.subtypes == {"smi": Ok({"gpu-count": 0})}


def test_a_library_alone_is_no_gpu(tmp_path: Path) -> None:
    root = bare_node(tmp_path / "n")
    install(root / LIBRARIES, "driver-not-loaded")
    collected = collector(root).collect(context(root, soon()))
    assert collected.state is State.ABSENT
    (root / LIBRARIES / "libnvidia-ml.so.1").write_bytes(
        (root / LIBRARIES / "libnvidia-ml.so.1").read_bytes()[:64]  # cannot be loaded
    )
    assert collector(root).collect(context(root, soon())).state is State.ABSENT


def test_a_library_that_finds_gpus_is_believed_without_pci(tmp_path: Path) -> None:
    """So it is where PCI does not show, and where the stand-in is put on a node of a test cluster."""
    root = bare_node(tmp_path / "n")
    install(root / LIBRARIES, "h100x8")
    collected = collector(root).collect(context(root, soon()))
    assert collected.state is State.OK
    assert facts(collected, "smi")["gpu-count"] == 8
    assert facts(collected, "devices")["pci-bus-id[0]"] == "0000:1b:00.0"


@pytest.mark.parametrize(
    ("driver", "words"), [("", "is not loaded;"), ("vfio-pci", "bound to vfio-pci"), ("nouveau", "bound to nouveau")]
)
def test_without_its_module_the_driver_is_not_asked_because_that_would_load_it(
    driver: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subprocess.Popen", None)
    root = bare_node(tmp_path / "n")
    install(root / LIBRARIES, "h100x8")
    add_gpu(root, "1b", driver=driver)
    collected = collector(root).collect(context(root, soon()))
    assert isinstance(collected.ending, Failed)
    assert collected.ending.code is FailureCode.DRIVER_NOT_LOADED
    assert words in collected.ending.reason
    assert facts(collected, "smi") == {"gpu-count": 1}
    assert facts(collected, "devices")["kernel-driver[0]"] == (driver or "none")


def test_gpus_without_a_library_are_a_failure(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n")
    (root / LIBRARIES / "libnvidia-ml.so.1").unlink()
    collected = collector(root).collect(context(root, soon()))
    assert isinstance(collected.ending, Failed)
    assert collected.ending.code is FailureCode.LIBRARY_MISSING
    assert facts(collected, "smi") == {"gpu-count": 8, "driver": "570.133.20"}


def test_a_host_that_was_recorded_elsewhere_is_not_mistaken_for_this_one(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n")
    (root / "proc/sys/kernel/random/boot_id").write_text("another boot\n")
    collected = collector(root).collect(context(root, soon()))
    assert isinstance(collected.ending, Failed)
    assert collected.ending.code is FailureCode.UNREADABLE
    assert facts(collected, "smi")["gpu-count"] == 8
    assert not (root / "run/eidos").exists()


def test_a_gpu_the_driver_does_not_list_is_lost_unless_somebody_took_it(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n", "h100x8", "excluded = 1\nexcluded.0 = 00000000:EE:00.0")
    add_gpu(root, "e0")
    add_gpu(root, "e1", driver="vfio-pci")
    add_gpu(root, "ee")
    collected = collector(root).collect(context(root, soon()))
    assert collected.state is State.PARTIAL
    special = {name: outcome for name, outcome in collected.subtypes.items() if "[" in name}
    assert {name: type(outcome) for name, outcome in special.items()} == {
        "devices[0000:e0:00.0]": Failed,
        "devices[0000:e1:00.0]": Absent,
    }
    assert facts(collected, "devices")["excluded"] == 1
    assert facts(collected, "smi")["gpu-count"] == 8


def test_a_driver_that_lists_nothing_while_pci_does_is_a_failure(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n", "no-devices")
    collected = collector(root).collect(context(root, soon()))
    assert isinstance(collected.ending, Failed)
    assert collected.ending.code is FailureCode.DRIVER_ERROR
    assert facts(collected, "smi")["gpu-count"] == 8


def test_virtual_functions_and_other_devices_of_nvidia_are_no_gpus(tmp_path: Path) -> None:
    root = bare_node(tmp_path / "n")
    add_gpu(root, "e0", driver="")
    (root / "sys/bus/pci/devices/0000:e0:00.0/physfn").symlink_to("../0000:1b:00.0")
    add_gpu(root, "e1")
    (root / "sys/bus/pci/devices/0000:e1:00.0/class").write_text("0x068000\n")  # NVSwitch
    assert collector(root).collect(context(root, soon())).state is State.ABSENT


def test_one_shot_keeps_no_child(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n")
    kept = collector(root, keep=True)
    kept.collect(context(root, soon()))
    assert len(children(root)) == 1
    kept.release()
    collector(root).collect(context(root, soon()))
    while children(root):  # they end by themselves once nobody holds their input open
        pass


class Recorded:
    """A source that answers what it was given."""

    def __init__(self, answer: Reading | Refusal | None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, bool]] = []

    def read(self, host: object, driver: str, volatile: bool, deadline: float) -> Reading | Refusal | None:
        self.asked.append((driver, volatile))
        return self.answer

    def release(self) -> None:
        pass


def test_a_recorded_reading_serves_as_well_as_a_driver(tmp_path: Path) -> None:
    root = bare_node(tmp_path / "n")
    load_driver(root, "570.133.20")
    recorded = Recorded(
        Reading(values={"cuda": 12080}, gpus=[Gpu(0, {"name": "NVIDIA H200", "memory-total": 1 << 37})])
    )
    collected = GpuCollector(recorded).collect(context(root, soon()))
    assert facts(collected, "smi")["gpu.model"] == "NVIDIA H200"
    assert facts(collected, "smi")["gpu.vbios-version"] == "N/A"
    assert facts(collected, "devices")["memory.total[0]"] == 131072
    assert recorded.asked == [("570.133.20", False)]


def test_no_deadline_at_all_is_one(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n")
    assert collector(root).collect(context(root, float("inf"))).state is State.OK


def test_information_of_gpus_is_used_where_the_driver_gave_it_before_it_broke(tmp_path: Path) -> None:
    root = h100_node(tmp_path / "n", "crash")
    add_information(root, "43", "NVIDIA H200")
    devices = facts(collector(root).collect(context(root, soon())), "devices")
    assert devices["name[0,2-7]"] == "NVIDIA H100 80GB HBM3"
    assert devices["name[1]"] == "NVIDIA H200"


def test_trouble_has_no_reading() -> None:
    assert not Reading(trouble=Trouble("nvmlInitWithFlags", 9)).is_clean
    assert Reading().is_clean
