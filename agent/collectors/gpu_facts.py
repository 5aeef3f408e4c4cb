"""From what NVML answered to facts, equal GPUs folded. Pure: a recorded reading gives the same facts anywhere."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from agent.collectors import gpu_words as words
from agent.collectors.gpu_catalog import CONFIDENTIAL, FACTS, SMI
from agent.collectors.gpu_folding import Folding
from agent.collectors.gpu_sysfs import Evidence, pci_bus, put_driver, put_pci
from agent.collectors.gpu_words import Word
from agent.nvml_reading import Gpu, Link, Mig, Reading, Value, failure_code, failure_reason
from common.model import Absent, Failed, FailureCode, Ok, Outcome
from common.nodeset import fold_indexes

_LOST: Final = 15
_RESET_REQUIRED: Final = 16
NOT_AVAILABLE: Final = "N/A"
"""What nvidia-smi writes where a GPU does not have something."""

# Subtypes that not all GPUs have, and why they are absent then.
_MAY_BE_ABSENT: Final = {
    "clocks": "these GPUs tell nothing about their clocks",
    "confidential-computing": "neither these GPUs nor their driver know confidential computing",
    "ecc": "no GPU of this node corrects errors of its memory",
    "fabric": "no GPU of this node belongs to an NVLink fabric",
    "mig": "no GPU of this node can be cut into MIG devices",
    "nvlink": "no GPU of this node has NVLink",
    "pcie": "these GPUs tell nothing about PCI Express",
    "power": "these GPUs tell nothing about their power",
}


def outcomes(reading: Reading, evidence: Evidence) -> dict[str, Outcome]:
    """Every subtype that NVML knows about, and `devices[N]` for the GPUs that did not answer.

    `evidence` gives what PCI shows beside, and the GPUs that NVML leaves out.
    """
    folding = Folding()
    buses = bus_ids(reading.gpus, evidence)
    on_pci = {gpu.bus: gpu for gpu in evidence.gpus}
    for gpu in reading.gpus:
        bus = buses.get(gpu.index)
        if bus in on_pci:
            put_pci(folding, gpu.index, on_pci[bus])
        elif bus:
            folding.put("devices", "pci-bus-id", gpu.index, bus)
        _put_gpu(folding, gpu)
    _put_node(folding, reading)
    put_driver(folding, evidence)
    found: dict[str, Outcome] = {name: Ok(data) for name, data in folding.folded().items()}
    for name, reason in _MAY_BE_ABSENT.items():
        found.setdefault(name, Absent(reason))
    return found | _unanswered(reading.gpus) | _unlisted(reading, evidence, set(buses.values()))


def smi(reading: Reading) -> dict[str, str | int]:
    """GPU.smi as its readers expect it: the count, the versions, and the first GPU that answers."""
    data: dict[str, str | int] = {"gpu-count": len(reading.gpus)}
    for key, value in (
        ("driver", _word(reading.values, "driver", words.text)),
        ("cuda-version", _word(reading.values, "cuda", words.cuda_version)),
    ):
        if value is not None:
            data[key] = str(value)
    first = next((gpu.values for gpu in reading.gpus if "name" in gpu.values), None)
    if first:
        for key, asked, word in SMI:
            value = _word(first, asked, word)
            data[key] = NOT_AVAILABLE if value is None else str(value)
    return data


def _word(values: Mapping[str, Value], asked: str, word: Word) -> str | int | float | None:
    value = values.get(asked)
    return None if value is None else word(value)


def _put_gpu(folding: Folding, gpu: Gpu) -> None:
    index = gpu.index
    folding.put("devices", "state", index, _state(gpu))
    for subtype, fact, asked, word in FACTS:
        folding.put(subtype, fact, index, _word(gpu.values, asked, word))
    _put_fabric(folding, gpu)
    _put_links(folding, gpu)
    _put_migs(folding, index, gpu.migs)


def _state(gpu: Gpu) -> str:
    if _LOST in gpu.errors.values():
        return "lost"
    if _RESET_REQUIRED in gpu.errors.values():
        return "reset required"
    return "ok" if gpu.values else "not answering"


def _put_fabric(folding: Folding, gpu: Gpu) -> None:
    """Nothing for a GPU that no fabric can hold (state 0)."""
    fabric = gpu.values.get("fabric")
    if not isinstance(fabric, list) or len(fabric) != 3 or fabric[0] == 0:
        return
    state, status, clique = fabric
    folding.put("fabric", "state", gpu.index, words.fabric_state(state))
    if state == 3:
        # The rest means something once registration is complete.
        folding.put("fabric", "status", gpu.index, words.fabric_status(status))
        folding.put("fabric", "clique-id", gpu.index, words.number(clique))
        folding.put("fabric", "cluster-uuid", gpu.index, _word(gpu.values, "fabric-cluster", words.uuid))
    health = gpu.values.get("fabric-health")
    if isinstance(health, int):
        for fact, shift, mask, names in words.FABRIC_HEALTH:
            folding.put("fabric", fact, gpu.index, names.get(health >> shift & mask))


def _put_links(folding: Folding, gpu: Gpu) -> None:
    if not gpu.links:
        return
    active = [link for link in gpu.links if link.state == 1]
    folding.put("nvlink", "links", gpu.index, len(gpu.links))
    folding.put("nvlink", "active", gpu.index, len(active))
    inactive = fold_indexes(link.index for link in gpu.links if link.state != 1)
    folding.put("nvlink", "inactive-links", gpu.index, inactive or None)
    folding.put("nvlink", "version", gpu.index, _versions(active))
    folding.put("nvlink", "speed", gpu.index, _word(gpu.values, "nvlink-speed", words.number))
    kinds = [str(words.link_remote(link.remote)) for link in active if link.remote in (0, 1, 2)]
    for kind in sorted(set(kinds)):
        folding.put("nvlink", f"links-to.{kind}", gpu.index, kinds.count(kind))


def _versions(links: Iterable[Link]) -> str | None:
    return ",".join(sorted({str(words.link_version(link.version)) for link in links if link.version > 0})) or None


def _put_migs(folding: Folding, index: int, migs: Sequence[Mig]) -> None:
    profiles = [_profile(mig) for mig in migs]
    for profile in sorted(set(profiles)):
        folding.put("mig", f"instances.{profile}", index, profiles.count(profile))
    for mig in migs:
        if mig.uuid:
            # GPU, GPU instance and compute instance, as in the oldest form of a MIG UUID.
            folding.put("mig", f"uuid[{index}/{mig.gi}/{mig.ci}]", None, mig.uuid)


def _profile(mig: Mig) -> str:
    """The profile's name, `1g.10gb`, which ends the device's; made from its slices where the driver gives none."""
    if " MIG " in mig.name:
        return mig.name.rpartition(" MIG ")[2].strip()
    instance, compute = mig.slices
    part = f"{compute}c." if compute != instance else ""
    return f"{part}{instance}g.{(mig.memory + 512) // 1024}gb" if instance else "unknown"


def _put_node(folding: Folding, reading: Reading) -> None:
    for fact, asked, word in CONFIDENTIAL:
        folding.put("confidential-computing", fact, None, _word(reading.values, asked, word))
    folding.put("devices", "driver-version", None, _word(reading.values, "driver", words.text))
    folding.put("devices", "nvml-version", None, _word(reading.values, "nvml", words.text))
    folding.put("devices", "excluded", None, len(reading.excluded) or None)


def bus_ids(gpus: Sequence[Gpu], evidence: Evidence) -> dict[int, str]:
    """NVML index to PCI bus id.

    A lost GPU tells none. NVML counts in the order of buses, so the lost ones are what is left on PCI.
    """
    buses = {gpu.index: pci_bus(bus) for gpu in gpus if isinstance(bus := gpu.values.get("pci"), str) and bus}
    silent = [gpu.index for gpu in gpus if gpu.index not in buses]
    rest = [gpu.bus for gpu in evidence.gpus if gpu.bus not in buses.values()]
    return buses | dict(zip(silent, rest, strict=True)) if len(silent) == len(rest) else buses


def _unanswered(gpus: Sequence[Gpu]) -> dict[str, Outcome]:
    """`devices[3]` for a GPU of which something could not be read; those that failed alike are folded."""
    failed: dict[tuple[FailureCode, str], list[int]] = {}
    for gpu in gpus:
        if gpu.errors:
            # A lost GPU fails in whatever call comes next; which one that is says nothing.
            fatal = next((code for code in gpu.errors.values() if code in (_LOST, _RESET_REQUIRED)), None)
            call, number = ("", fatal) if fatal else next(iter(gpu.errors.items()))
            failed.setdefault((failure_code(number), failure_reason(call, number)), []).append(gpu.index)
    return {f"devices[{fold_indexes(indexes)}]": Failed(*why) for why, indexes in failed.items()}


def _unlisted(reading: Reading, evidence: Evidence, listed: set[str]) -> dict[str, Outcome]:
    """`devices[<bus>]` for the GPUs on PCI that NVML does not list, and that nobody took from it."""
    excluded = {pci_bus(bus) for bus in reading.excluded}
    missing: dict[str, Outcome] = {}
    for gpu in evidence.gpus:
        if gpu.bus in listed or gpu.bus in excluded:
            continue
        if gpu.driver not in ("", "nvidia"):
            missing[f"devices[{gpu.bus}]"] = Absent(f"the GPU is bound to {gpu.driver}, so NVML does not list it")
        else:
            missing[f"devices[{gpu.bus}]"] = Failed(
                FailureCode.GPU_LOST, "the GPU is on PCI, but the driver does not list it; look at the kernel log"
            )
    return missing
