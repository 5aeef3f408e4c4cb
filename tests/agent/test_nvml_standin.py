"""The stand-in is what it says it is: NVML's binary interface, as nvidia-ml-py declares it."""

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import pynvml

from agent.nvml import NvmlChild
from agent.nvml_queries import _DEVICE, _FIELDS, _SYSTEM, _VOLATILE
from agent.nvml_reading import Reading
from tests.nvml.standin import HERE, build, install

# Ours, the binding's, and fields the binding calls otherwise.
STRUCTURES = {
    "nvmlPciInfo_t": ("nvmlPciInfo_t", {}),
    "nvmlExcludedDeviceInfo_t": ("c_nvmlExcludedDeviceInfo_t", {"pci": "pciInfo"}),
    "nvmlMemory_t": ("c_nvmlMemory_t", {}),
    "nvmlMemory_v2_t": ("c_nvmlMemory_v2_t", {}),
    "nvmlBAR1Memory_t": ("c_nvmlBAR1Memory_t", {}),
    "nvmlUtilization_t": ("c_nvmlUtilization_t", {}),
    "nvmlDeviceAddressingMode_t": ("c_nvmlDeviceAddressingMode_t", {}),
    "nvmlTemperature_t": ("c_nvmlTemperature_v1_t", {}),
    "nvmlRowRemapperHistogramValues_t": ("c_nvmlRowRemapperHistogramValues", {}),
    "nvmlEccSramErrorStatus_t": ("c_nvmlEccSramErrorStatus_v1_t", {}),
    "nvmlFieldValue_t": ("c_nvmlFieldValue_t", {}),
    "nvmlGpuFabricInfo_t": ("c_nvmlGpuFabricInfo_t", {}),
    "nvmlGpuFabricInfo_v2_t": ("c_nvmlGpuFabricInfo_v2_t", {}),
    "nvmlDeviceAttributes_t": ("c_nvmlDeviceAttributes", {}),
    "nvmlConfComputeSystemState_t": ("c_nvmlConfComputeSystemState_t", {}),
    "nvmlSystemConfComputeSettings_t": ("c_nvmlSystemConfComputeSettings_v1_t", {}),
}


def test_structures_have_the_sizes_and_offsets_of_the_binding(tmp_path: Path) -> None:
    lines = ['#include <stddef.h>\n#include <stdio.h>\n#include "nvml_types.h"\nint main(void) {']
    expected = []
    for ours, (theirs, renamed) in STRUCTURES.items():
        structure: type[ctypes.Structure] = getattr(pynvml, theirs)
        lines.append(f'printf("{ours} %zu\\n", sizeof({ours}));')
        expected.append(f"{ours} {ctypes.sizeof(structure)}")
        for name in [str(field[0]) for field in structure._fields_]:
            field = renamed.get(name, name)
            lines.append(f'printf("{ours}.{field} %zu\\n", offsetof({ours}, {field}));')
            expected.append(f"{ours}.{field} {getattr(structure, name).offset}")
    (tmp_path / "layout.c").write_text("\n".join([*lines, "return 0; }"]))
    subprocess.run(["cc", "-I", str(HERE), "-o", "layout", "layout.c"], cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout
    assert printed.split("\n")[:-1] == expected


def test_it_is_found_by_its_soname_once_it_is_loaded() -> None:
    """This is how the child makes the binding use the library it has chosen."""
    program = "import ctypes, sys; ctypes.CDLL(sys.argv[1]); ctypes.CDLL('libnvidia-ml.so.1').nvmlInit_v2"
    subprocess.run([sys.executable, "-c", program, str(build())], check=True)


def test_the_old_one_lacks_what_came_later() -> None:
    new, old = ctypes.CDLL(str(build())), ctypes.CDLL(str(build(old=True)))
    for function in ("nvmlDeviceGetGspFirmwareVersion", "nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetMemoryInfo_v2"):
        assert hasattr(new, function)
        assert not hasattr(old, function)
    assert hasattr(old, "nvmlDeviceGetTemperature")


def test_everything_that_is_asked_is_answered_by_some_scenario(tmp_path: Path) -> None:
    asked = {key for key, _, _ in (*_SYSTEM, *_DEVICE, *_VOLATILE)} | set(_FIELDS)
    answered: set[str] = set()
    for number, (name, changes) in enumerate((("h100x8", "[0]\ninforom.2 = 1.0"), ("retired-pages", ""))):
        library = install(tmp_path / str(number), name, changes)
        child = NvmlChild(str(library), str(tmp_path), [])
        reading = child.request(True, time.monotonic() + 60)
        child.release()
        assert isinstance(reading, Reading)
        answered |= reading.values.keys() | {key for gpu in reading.gpus for key in gpu.values}
    assert asked - answered == set()
