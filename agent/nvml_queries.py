"""What is asked of NVML, one call after the other, as plain values. Runs in the NVML child only.

Nothing is interpreted here: enumerations stay numbers, sizes stay bytes, power stays milliwatts, so that what a
driver answered can be recorded and read again anywhere. agent/collectors/gpu_facts.py gives it words.
"""

from collections.abc import Callable, Iterable
from ctypes import Structure, byref
from typing import Any, Final

Note = Callable[[str, int | None], None]
"""Called before every NVML call with the function's name and the GPU's index, None for the system."""

# nvmlReturn_t that mean "this GPU or driver does not have that": no trouble, the fact is left out.
_UNSUPPORTED: Final = frozenset({2, 3, 6, 13, 21, 22, 25, 26})
# nvmlReturn_t after which nothing more can be learnt about a GPU: lost, or waiting for a reset.
_BEYOND_ASKING: Final = frozenset({15, 16})
NOT_TEXT: Final = -1
"""Stands for an answer that should be text and is not UTF-8."""

# (key, function, further arguments)
_SYSTEM: Final[tuple[tuple[str, str, tuple[Any, ...]], ...]] = (
    ("driver", "nvmlSystemGetDriverVersion", ()),
    ("nvml", "nvmlSystemGetNVMLVersion", ()),
    ("cuda", "nvmlSystemGetCudaDriverVersion_v2", ()),
    ("cc-ready", "nvmlSystemGetConfComputeGpusReadyState", ()),
)
_DEVICE: Final[tuple[tuple[str, str, tuple[Any, ...]], ...]] = (
    ("name", "nvmlDeviceGetName", ()),
    ("uuid", "nvmlDeviceGetUUID", ()),
    ("serial", "nvmlDeviceGetSerial", ()),
    ("minor", "nvmlDeviceGetMinorNumber", ()),
    ("architecture", "nvmlDeviceGetArchitecture", ()),
    ("brand", "nvmlDeviceGetBrand", ()),
    ("part-number", "nvmlDeviceGetBoardPartNumber", ()),
    ("vbios", "nvmlDeviceGetVbiosVersion", ()),
    ("inforom-image", "nvmlDeviceGetInforomImageVersion", ()),
    ("inforom-oem", "nvmlDeviceGetInforomVersion", (0,)),
    ("inforom-ecc", "nvmlDeviceGetInforomVersion", (1,)),
    ("inforom-power", "nvmlDeviceGetInforomVersion", (2,)),
    ("gsp-version", "nvmlDeviceGetGspFirmwareVersion", ()),
    ("gsp-mode", "nvmlDeviceGetGspFirmwareMode", ()),
    ("display-mode", "nvmlDeviceGetDisplayMode", ()),
    ("display-active", "nvmlDeviceGetDisplayActive", ()),
    ("persistence-mode", "nvmlDeviceGetPersistenceMode", ()),
    ("addressing-mode", "nvmlDeviceGetAddressingMode", ()),
    ("compute-mode", "nvmlDeviceGetComputeMode", ()),
    ("compute-capability", "nvmlDeviceGetCudaComputeCapability", ()),
    ("cores", "nvmlDeviceGetNumGpuCores", ()),
    ("memory-bus-width", "nvmlDeviceGetMemoryBusWidth", ()),
    ("virtualization-mode", "nvmlDeviceGetVirtualizationMode", ()),
    ("accounting-mode", "nvmlDeviceGetAccountingMode", ()),
    ("multi-gpu-board", "nvmlDeviceGetMultiGpuBoard", ()),
    ("power-limit", "nvmlDeviceGetPowerManagementLimit", ()),
    ("power-limit-default", "nvmlDeviceGetPowerManagementDefaultLimit", ()),
    ("power-limit-enforced", "nvmlDeviceGetEnforcedPowerLimit", ()),
    ("power-limit-range", "nvmlDeviceGetPowerManagementLimitConstraints", ()),
    ("threshold-shutdown", "nvmlDeviceGetTemperatureThreshold", (0,)),
    ("threshold-slowdown", "nvmlDeviceGetTemperatureThreshold", (1,)),
    ("threshold-memory", "nvmlDeviceGetTemperatureThreshold", (2,)),
    ("threshold-gpu", "nvmlDeviceGetTemperatureThreshold", (3,)),
    ("clock-max-graphics", "nvmlDeviceGetMaxClockInfo", (0,)),
    ("clock-max-sm", "nvmlDeviceGetMaxClockInfo", (1,)),
    ("clock-max-memory", "nvmlDeviceGetMaxClockInfo", (2,)),
    ("clock-max-video", "nvmlDeviceGetMaxClockInfo", (3,)),
    ("application-clock-graphics", "nvmlDeviceGetApplicationsClock", (0,)),
    ("application-clock-memory", "nvmlDeviceGetApplicationsClock", (2,)),
    ("application-clock-default-graphics", "nvmlDeviceGetDefaultApplicationsClock", (0,)),
    ("application-clock-default-memory", "nvmlDeviceGetDefaultApplicationsClock", (2,)),
    ("ecc-mode", "nvmlDeviceGetEccMode", ()),
    ("ecc-default", "nvmlDeviceGetDefaultEccMode", ()),  # the binding answers with a list of one
    ("remapped-rows", "nvmlDeviceGetRemappedRows", ()),
    ("retired-pending", "nvmlDeviceGetRetiredPagesPendingStatus", ()),
    ("pcie-generation-max", "nvmlDeviceGetMaxPcieLinkGeneration", ()),
    ("pcie-generation-gpu-max", "nvmlDeviceGetGpuMaxPcieLinkGeneration", ()),
    ("pcie-width-max", "nvmlDeviceGetMaxPcieLinkWidth", ()),
    ("pcie-width", "nvmlDeviceGetCurrPcieLinkWidth", ()),
    ("mig-mode", "nvmlDeviceGetMigMode", ()),
    ("mig-max", "nvmlDeviceGetMaxMigDeviceCount", ()),
)
# Asked only when facts that change by themselves are wanted: some of these wake parts of an idle GPU.
_VOLATILE: Final[tuple[tuple[str, str, tuple[Any, ...]], ...]] = (
    ("temperature", "nvmlDeviceGetTemperatureV", (0,)),
    ("power-usage", "nvmlDeviceGetPowerUsage", ()),
    ("performance-state", "nvmlDeviceGetPerformanceState", ()),
    ("clock-graphics", "nvmlDeviceGetClockInfo", (0,)),
    ("clock-sm", "nvmlDeviceGetClockInfo", (1,)),
    ("clock-memory", "nvmlDeviceGetClockInfo", (2,)),
    ("clock-video", "nvmlDeviceGetClockInfo", (3,)),
    ("clock-event-reasons", "nvmlDeviceGetCurrentClocksEventReasons", ()),
    ("pcie-generation", "nvmlDeviceGetCurrPcieLinkGeneration", ()),
    ("pcie-replays", "nvmlDeviceGetPcieReplayCounter", ()),
    ("ecc-volatile-corrected", "nvmlDeviceGetTotalEccErrors", (0, 0)),
    ("ecc-volatile-uncorrected", "nvmlDeviceGetTotalEccErrors", (1, 0)),
    ("ecc-aggregate-corrected", "nvmlDeviceGetTotalEccErrors", (0, 1)),
    ("ecc-aggregate-uncorrected", "nvmlDeviceGetTotalEccErrors", (1, 1)),
)
# What a function that came later replaces; asked where the later one is not there.
_OLDER: Final = {
    "cuda": ("nvmlSystemGetCudaDriverVersion", ()),
    "temperature": ("nvmlDeviceGetTemperature", (0,)),
    "clock-event-reasons": ("nvmlDeviceGetCurrentClocksThrottleReasons", ()),
}
# NVML field numbers (NVML_FI_DEV_*): what has no function of its own.
_FIELDS: Final = {"nvlink-count": 91, "nvlink-speed": 90, "recovery-action": 230}


class _Asker:
    """Asks one call after the other about one GPU, or the system, and keeps answers apart from refusals."""

    def __init__(self, nvml: Any, note: Note, gpu: int | None = None) -> None:
        self._nvml, self._note, self._gpu = nvml, note, gpu
        self.values: dict[str, Any] = {}
        self.errors: dict[str, int] = {}
        self.beyond_asking = False

    def call(self, function: str, *arguments: Any, as_name: str = "") -> Any:
        """The answer, or None when the call failed; failures worth telling are kept in `errors`."""
        implementation = getattr(self._nvml, function, None)  # an older binding may not have it
        if self.beyond_asking or implementation is None:
            return None
        self._note(as_name or function, self._gpu)
        try:
            return implementation(*arguments)
        except self._nvml.NVMLError as error:
            if error.value not in _UNSUPPORTED:
                self.errors.setdefault(as_name or function, error.value)
            self.beyond_asking = error.value in _BEYOND_ASKING
        except UnicodeDecodeError:
            self.errors.setdefault(as_name or function, NOT_TEXT)
        return None

    def ask(self, queries: Iterable[tuple[str, str, tuple[Any, ...]]], *first: Any) -> None:
        for key, function, arguments in queries:
            answer = self.call(function, *first, *arguments)
            if answer is None and key in _OLDER:
                older, its_arguments = _OLDER[key]
                answer = self.call(older, *first, *its_arguments)
            if answer is not None:
                self.values[key] = _plain(answer)


def _plain(answer: Any) -> Any:
    if isinstance(answer, bytes):
        return answer.decode("utf-8", "replace")
    if isinstance(answer, tuple):
        return list(answer)
    return answer


def read(nvml: Any, note: Note, volatile: bool) -> dict[str, Any]:
    """Everything NVML says, in the shape of nvml_reading.Reading. Raises NVMLError when it cannot even begin."""
    note("nvmlDeviceGetCount_v2", None)
    count = nvml.nvmlDeviceGetCount()
    system = _Asker(nvml, note)
    system.ask(_SYSTEM)
    _confidential_computing(system, nvml)
    return {
        "values": system.values,
        "errors": system.errors,
        "excluded": _excluded(system),
        "gpus": [_gpu(nvml, note, index, volatile) for index in range(count)],
    }


def _confidential_computing(system: _Asker, nvml: Any) -> None:
    state = system.call("nvmlSystemGetConfComputeState")
    if state is None:
        return
    system.values["cc-state"] = [state.environment, state.ccFeature, state.devToolsMode]
    settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
    # This one of the binding's functions returns the code instead of raising it.
    if system.call("nvmlSystemGetConfComputeSettings", byref(settings)) == 0:
        system.values["cc-multi-gpu"] = settings.multiGpuMode


def _excluded(system: _Asker) -> list[str]:
    """PCI bus ids of the GPUs the driver was told to leave alone (module parameter NVreg_ExcludedGpus)."""
    count = system.call("nvmlGetExcludedDeviceCount") or 0
    found = [system.call("nvmlGetExcludedDeviceInfoByIndex", index) for index in range(count)]
    return [info.pci.busId for info in found if info is not None]


def _gpu(nvml: Any, note: Note, index: int, volatile: bool) -> dict[str, Any]:
    asker = _Asker(nvml, note, index)
    links: list[dict[str, int]] = []
    migs: list[dict[str, Any]] = []
    handle = asker.call("nvmlDeviceGetHandleByIndex", index, as_name="nvmlDeviceGetHandleByIndex_v2")
    if handle is not None:
        _pci_and_memory(asker, nvml, handle, volatile)
        asker.ask(_DEVICE, handle)
        _fields(asker, nvml, handle)
        _fabric(asker, nvml, handle)
        _sram(asker, nvml, handle, volatile)
        if volatile:
            asker.ask(_VOLATILE, handle)
            _live(asker, handle)
        links = _links(asker, handle, asker.values.get("nvlink-count", nvml.NVML_NVLINK_MAX_LINKS))
        if asker.values.get("mig-mode", [0])[0] == 1:
            migs = _migs(asker, handle, asker.values.get("mig-max", 0))
    return {"index": index, "values": asker.values, "errors": asker.errors, "links": links, "migs": migs}


def _pci_and_memory(asker: _Asker, nvml: Any, handle: Any, volatile: bool) -> None:
    pci = asker.call("nvmlDeviceGetPciInfo_v3", handle)
    if pci is not None:
        asker.values |= {"pci": pci.busId, "pci-ids": [pci.pciDeviceId, pci.pciSubSystemId]}
    memory = asker.call("nvmlDeviceGetMemoryInfo", handle, nvml.nvmlMemory_v2, as_name="nvmlDeviceGetMemoryInfo_v2")
    if memory is not None:
        asker.values["memory-reserved"] = memory.reserved
    else:
        memory = asker.call("nvmlDeviceGetMemoryInfo", handle)
    bar1 = asker.call("nvmlDeviceGetBAR1MemoryInfo", handle)
    for key, total, used in (
        ("memory", memory and memory.total, memory and memory.used),
        ("bar1", bar1 and bar1.bar1Total, bar1 and bar1.bar1Used),
    ):
        if total is not None:
            asker.values[f"{key}-total"] = total
            if volatile:
                asker.values[f"{key}-used"] = used


def _fields(asker: _Asker, nvml: Any, handle: Any) -> None:
    answers = asker.call("nvmlDeviceGetFieldValues", handle, list(_FIELDS.values()))
    for key, answer in zip(_FIELDS, answers or (), strict=False):
        if answer.nvmlReturn == 0:
            # nvmlValueType_t: which member of the union holds the value
            member = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")[min(answer.valueType, 6)]
            asker.values[key] = getattr(answer.value, member)


def _fabric(asker: _Asker, nvml: Any, handle: Any) -> None:
    """State, status, clique, health mask and cluster UUID, by the newest structure this driver knows."""
    for name, function in (
        ("c_nvmlGpuFabricInfo_v3_t", "nvmlDeviceGetGpuFabricInfoV"),
        ("c_nvmlGpuFabricInfo_v2_t", "nvmlDeviceGetGpuFabricInfoV"),
        ("c_nvmlGpuFabricInfo_t", "nvmlDeviceGetGpuFabricInfo"),
    ):
        info = _filled(asker, nvml, name, function, handle)
        if info is not None:
            asker.values["fabric"] = [info.state, info.status, info.cliqueId]
            asker.values["fabric-cluster"] = bytes(info.clusterUuid).hex()
            if hasattr(info, "healthMask"):
                asker.values["fabric-health"] = info.healthMask
            return


def _sram(asker: _Asker, nvml: Any, handle: Any, volatile: bool) -> None:
    info = _filled(asker, nvml, "c_nvmlEccSramErrorStatus_v1_t", "nvmlDeviceGetSramEccErrorStatus", handle)
    if info is not None:
        asker.values["sram-threshold-exceeded"] = info.bThresholdExceeded
        if volatile:
            asker.values["sram-errors"] = [info.aggregateCor, info.aggregateUncParity, info.aggregateUncSecDed]


def _filled(asker: _Asker, nvml: Any, structure: str, function: str, handle: Any) -> Any:
    """The structure as the function filled it; None when this binding or driver does not have it."""
    made: Structure | None = getattr(nvml, structure, lambda: None)()
    return made if made is not None and asker.call(function, handle, byref(made)) == 0 else None


def _live(asker: _Asker, handle: Any) -> None:
    utilization = asker.call("nvmlDeviceGetUtilizationRates", handle)
    if utilization is not None:
        asker.values["utilization"] = [utilization.gpu, utilization.memory]
    for cause, key in enumerate(("retired-single-bit", "retired-double-bit")):
        pages = asker.call("nvmlDeviceGetRetiredPages", handle, cause)
        if pages is not None:
            asker.values[key] = len(pages)
    histogram = asker.call("nvmlDeviceGetRowRemapperHistogram", handle)
    if histogram is not None:
        names = ("max", "high", "partial", "low", "none")
        asker.values["remapper-histogram"] = [getattr(histogram, name) for name in names]


def _links(asker: _Asker, handle: Any, count: int) -> list[dict[str, int]]:
    links = []
    for index in range(count):
        state = asker.call("nvmlDeviceGetNvLinkState", handle, index)
        if state is None:
            continue
        link = {"index": index, "state": state}
        # An inactive link has no version and no other end; asking some drivers about it is an error.
        for key, function in (
            ("version", "nvmlDeviceGetNvLinkVersion"),
            ("remote", "nvmlDeviceGetNvLinkRemoteDeviceType"),
        ):
            answer = asker.call(function, handle, index) if state else None
            if answer is not None:
                link[key] = answer
        links.append(link)
    return links


def _migs(asker: _Asker, handle: Any, most: int) -> list[dict[str, Any]]:
    migs = []
    for index in range(most):
        mig = asker.call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if mig is None:
            continue
        found = {
            "name": asker.call("nvmlDeviceGetName", mig),
            "uuid": asker.call("nvmlDeviceGetUUID", mig),
            "gi": asker.call("nvmlDeviceGetGpuInstanceId", mig),
            "ci": asker.call("nvmlDeviceGetComputeInstanceId", mig),
        }
        attributes = asker.call("nvmlDeviceGetAttributes_v2", mig)
        if attributes is not None:
            found["slices"] = [attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount]
            found["memory"] = attributes.memorySizeMB
        migs.append({key: value for key, value in found.items() if value is not None})
    return migs
