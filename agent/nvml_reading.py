"""What comes back from the NVML child, as types, and what NVML's error numbers mean. No I/O.

A Reading is everything a driver answered, uninterpreted: it can be kept as JSON and read again on any machine.
"""

from typing import Final, TypeAlias

import msgspec

from common.model import FailureCode

Value: TypeAlias = str | int | float | list[int]

ANSWER_LIMIT: Final = 4 << 20
"""Most bytes of one answer. 64 GPUs with 7 MIG devices each take about 300 KB."""


class Link(msgspec.Struct, frozen=True, omit_defaults=True):
    """One NVLink: its state (1 is active), version and kind of other end as NVML numbers them, -1 when unknown."""

    index: int
    state: int
    version: int = -1
    remote: int = -1


class Mig(msgspec.Struct, frozen=True, omit_defaults=True):
    """One MIG device: names, GPU and compute instance, slices (GPU instance, compute instance), memory in MiB."""

    name: str = ""
    uuid: str = ""
    gi: int = -1
    ci: int = -1
    slices: tuple[int, int] = (0, 0)
    memory: int = 0


class Gpu(msgspec.Struct, frozen=True, omit_defaults=True):
    """One GPU: its NVML index, what it answered, and which calls failed (function to nvmlReturn_t)."""

    index: int
    values: dict[str, Value] = {}
    errors: dict[str, int] = {}
    links: list[Link] = []
    migs: list[Mig] = []


class Trouble(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why NVML could not be used at all: the call, its nvmlReturn_t, and text where there is no number."""

    call: str
    code: int
    text: str = ""


class Reading(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything NVML said in one collection."""

    values: dict[str, Value] = {}
    errors: dict[str, int] = {}
    excluded: list[str] = []
    gpus: list[Gpu] = []
    trouble: Trouble | None = None

    @property
    def is_clean(self) -> bool:
        """Whether everything that was asked was answered."""
        return self.trouble is None and not self.errors and not any(gpu.errors for gpu in self.gpus)


class Refusal(msgspec.Struct, frozen=True):
    """Why there is no reading, and what the driver's own files told about each GPU before it stopped answering."""

    code: FailureCode
    reason: str
    information: dict[str, str] = {}


# nvmlReturn_t: what it means, as the end of a sentence (nvml.h)
_MEANING: Final = {
    -1: "answered with something that is not text",
    1: "says NVML is not initialised",
    2: "calls the request invalid",
    3: "does not support this",
    4: "denies permission",
    8: "misses external power at a GPU",
    9: "is not loaded",
    10: "gave up after a time of its own",
    11: "has trouble with a GPU's interrupt",
    12: "misses a library of its own",
    14: "found a corrupted infoROM",
    15: "has lost the GPU, which has fallen off the bus",
    16: "wants the GPU reset",
    17: "was refused by the operating system",
    18: "is of another version than its library",
    19: "says the GPU is in use",
    20: "is out of memory",
    23: "is out of resources",
    27: "is not ready yet",
    28: "finds no GPU",
    29: "is in an invalid state",
    999: "reports an unknown error",
}
_CODES: Final = {
    4: FailureCode.PERMISSION_DENIED,
    9: FailureCode.DRIVER_NOT_LOADED,
    12: FailureCode.LIBRARY_MISSING,
    15: FailureCode.GPU_LOST,
    18: FailureCode.DRIVER_MISMATCH,
}
_ADVICE: Final = {
    4: "run as root, or in a privileged container",
    9: "load the nvidia kernel module",
    15: "reset it, or restart the node",
    16: "reset it, or restart the node",
    18: "restart the node, or reload the kernel module, after a driver update",
}


def failure_code(number: int) -> FailureCode:
    """The code for an nvmlReturn_t that is a failure."""
    return _CODES.get(number, FailureCode.DRIVER_ERROR)


def failure_reason(call: str, number: int) -> str:
    """One sentence: which call failed, how, and what to do where that is known."""
    meaning = _MEANING.get(number, f"reports error {number}")
    advice = f"; {_ADVICE[number]}" if number in _ADVICE else ""
    return f"the NVIDIA driver {meaning}{call and f' ({call})'}{advice}"


def trouble_refusal(trouble: Trouble) -> Refusal:
    """What it means that NVML could not be used at all."""
    if trouble.call == "dlopen":
        return Refusal(FailureCode.LIBRARY_MISSING, f"NVIDIA's library cannot be loaded: {trouble.text}")
    return Refusal(failure_code(trouble.code), failure_reason(trouble.call, trouble.code))
