"""GPU: every NVIDIA GPU of the node, through NVML in a child process, or through PCI where NVML does not answer.

A GPU that is there and does not answer is a failure, never "0 GPUs".
"""

import time
from typing import Final

from agent.collectors.base import Context
from agent.collectors.gpu_facts import bus_ids, outcomes, smi
from agent.collectors.gpu_sysfs import Evidence, fallback, read_evidence
from agent.collectors.gpu_xid import read_xids
from agent.nvml_reading import Reading, Refusal
from agent.nvml_source import NvmlSource, Source
from common.model import Absent, Collected, FailureCode, MeasurementType, Ok, Outcome

# Where neither PCI nor a loaded module speaks of a GPU, these mean that there is none.
_NOTHING_THERE: Final = frozenset(
    {FailureCode.DRIVER_NOT_LOADED, FailureCode.LIBRARY_MISSING, FailureCode.UNREADABLE}
)
_NO_GPU: Final = "there is no NVIDIA GPU on this node"
# Of the time there is, what is kept for everything but NVML: a tenth, at most this many seconds.
_MOST_MARGIN: Final = 1.0


class GpuCollector:
    """Asks NVML once per collection.

    `keep` holds the child process open for the next collection, because initialising NVML wakes idle GPUs; whoever
    keeps it calls `release` at the end. It also keeps the driver from being unloaded.
    """

    name = "gpu"
    type = MeasurementType.GPU

    def __init__(self, source: Source | None = None, keep: bool = False) -> None:
        self._source: Source = source or NvmlSource()
        self._keep = keep

    def collect(self, ctx: Context) -> Collected:
        evidence = read_evidence(ctx.host)
        answer = self._ask(ctx, evidence)
        if not self._keep:
            self.release()
        if isinstance(answer, Refusal):
            if answer.code in _NOTHING_THERE and not (evidence.gpus or evidence.module):
                return _absent()
            return _failed(ctx, evidence, answer)
        if answer is None or not (answer.gpus or evidence.gpus):
            return _absent(answer)
        if not answer.gpus:
            reason = "the NVIDIA driver lists none of the GPUs on PCI; look at the kernel log"
            return _failed(ctx, evidence, Refusal(FailureCode.DRIVER_ERROR, reason))
        subtypes = outcomes(answer, evidence)
        subtypes["smi"] = Ok(dict(smi(answer)))
        if ctx.options.include_volatile:
            indexes = {bus: index for index, bus in bus_ids(answer.gpus, evidence).items()}
            subtypes["xid"] = read_xids(ctx.host, indexes, ctx.deadline)
        return Collected.of(subtypes)

    def release(self) -> None:
        """Let the child process go, if there is one."""
        self._source.release()

    def _ask(self, ctx: Context, evidence: Evidence) -> Reading | Refusal | None:
        """None when there is neither a GPU nor a driver nor a library."""
        if evidence.gpus and not evidence.has_driver:
            # Not asked: NVML would load the kernel module, and a snapshot changes nothing.
            return Refusal(FailureCode.DRIVER_NOT_LOADED, _not_loaded(evidence))
        now = time.monotonic()
        deadline = ctx.deadline - min(_MOST_MARGIN, max(0.0, ctx.deadline - now) / 10)
        answer = self._source.read(ctx.host, evidence.version, ctx.options.include_volatile, deadline)
        if answer is None and (evidence.gpus or evidence.module):
            return Refusal(
                FailureCode.LIBRARY_MISSING,
                "libnvidia-ml.so.1 is neither in this container nor where hosts have it; install the NVIDIA driver",
            )
        return answer


def _failed(ctx: Context, evidence: Evidence, refusal: Refusal) -> Collected:
    """What can be had without NVML, beside the reason why there is nothing from it."""
    subtypes = fallback(evidence, refusal.information)
    if ctx.options.include_volatile:
        indexes = {gpu.bus: index for index, gpu in enumerate(evidence.gpus)}
        subtypes["xid"] = read_xids(ctx.host, indexes, ctx.deadline)
    return Collected.failed(refusal.code, refusal.reason, subtypes)


def _absent(reading: Reading | None = None) -> Collected:
    """Readers of GPU.smi expect a count even where there is nothing to count."""
    none: dict[str, Outcome] = {"smi": Ok(dict(smi(reading)) if reading else {"gpu-count": 0})}
    return Collected(none, Absent(_NO_GPU))


def _not_loaded(evidence: Evidence) -> str:
    drivers = sorted({gpu.driver for gpu in evidence.gpus if gpu.driver})
    bound = f" (they are bound to {', '.join(drivers)})" if drivers else ""
    return f"there are NVIDIA GPUs, but the nvidia kernel module is not loaded{bound}; install or load the driver"
