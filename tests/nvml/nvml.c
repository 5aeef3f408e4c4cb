/*
 * A stand-in for NVIDIA's management library: NVML's real names, structures and error numbers, answers from a file.
 *
 * It proves the calls we make and what we make of the answers, not NVIDIA's driver. The answers come from the file
 * named by NVML_STANDIN_SCENARIO, or else from `<this library>.scenario` beside it, read at nvmlInit:
 *
 *     driver = 570.133.20        # what belongs to no GPU
 *     count = 8
 *     [0-7]                      # what follows belongs to these GPUs; a later line wins over an earlier one
 *     name = NVIDIA H100 80GB HBM3
 *     nvmlDeviceGetSerial = !4   # a call that fails with this nvmlReturn_t
 *     * = !15                    # every call about these GPUs fails
 *
 * After `!` stands an error number, `hang` (the call never returns), `crash` (SIGSEGV) or `wait PATH` (the call
 * returns once PATH exists). A key that is not there makes its call return NVML_ERROR_NOT_SUPPORTED.
 * nvml_newer.c has the functions that came after driver 470; left out, the library is an old driver's.
 */
#include "standin.h"

int initialised;
struct nvmlDevice gpus[MOST_GPUS], migs[MOST_GPUS][MOST_MIGS];

/* ---- the library and the system ---- */

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    load();
    for (int i = 0; i < MOST_GPUS; i++) {
        gpus[i] = (struct nvmlDevice){i, -1};
        for (int j = 0; j < MOST_MIGS; j++)
            migs[i][j] = (struct nvmlDevice){i, j};
    }
    if (find(SYSTEM, "noise")) {
        printf("%s\n", find(SYSTEM, "noise"));
        fflush(stdout);
        fprintf(stderr, "%s\n", find(SYSTEM, "noise"));
    }
    nvmlReturn_t instead = behave(SYSTEM, __func__);
    initialised = instead == NVML_SUCCESS;
    return instead;
}

nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    ENTER(SYSTEM);
    initialised = 0;
    return NVML_SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    return result == NVML_SUCCESS ? "Success" : "Unknown Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned size) {
    ENTER(SYSTEM);
    return text(SYSTEM, "driver", out, size);
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    ENTER(SYSTEM);
    return text(SYSTEM, "nvml", out, size);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *out) {
    ENTER(SYSTEM);
    return whole(SYSTEM, "cuda", (unsigned *)out);
}

nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *out) { return nvmlSystemGetCudaDriverVersion_v2(out); }

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *out) {
    ENTER(SYSTEM);
    *out = (unsigned)number(SYSTEM, "count", 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *out) {
    if (index >= MOST_GPUS || index >= number(SYSTEM, "count", 0))
        return NVML_ERROR_INVALID_ARGUMENT;
    ENTER((int)index);
    *out = &gpus[index];
    return NVML_SUCCESS;
}

static void fill_pci(int gpu, const char *key, nvmlPciInfo_t *out) {
    unsigned function;
    memset(out, 0, sizeof *out);
    snprintf(out->busId, sizeof out->busId, "%s", find(gpu, key) ? find(gpu, key) : "");
    sscanf(out->busId, "%x:%x:%x.%x", &out->domain, &out->bus, &out->device, &function);
    snprintf(out->busIdLegacy, sizeof out->busIdLegacy, "%04X:%02X:%02X.0", out->domain & 0xffff, out->bus & 0xff,
             out->device & 0xff);
    out->pciDeviceId = (unsigned)number(gpu, "pci-device", 0);
    out->pciSubSystemId = (unsigned)number(gpu, "pci-subsystem", 0);
}

nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned *out) {
    ENTER(SYSTEM);
    *out = (unsigned)number(SYSTEM, "excluded", 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlGetExcludedDeviceInfoByIndex(unsigned index, nvmlExcludedDeviceInfo_t *out) {
    char key[TEXT];
    ENTER(SYSTEM);
    memset(out, 0, sizeof *out);
    snprintf(key, sizeof key, "excluded.%u", index);
    fill_pci(SYSTEM, key, &out->pciInfo);
    return NVML_SUCCESS;
}

/* ---- one GPU ---- */

TEXT_OF(nvmlDeviceGetSerial, "serial")
TEXT_OF(nvmlDeviceGetBoardPartNumber, "part-number")
TEXT_OF(nvmlDeviceGetVbiosVersion, "vbios")
TEXT_OF(nvmlDeviceGetInforomImageVersion, "inforom-image")
NUMBER_OF(nvmlDeviceGetArchitecture, "architecture")
NUMBER_OF(nvmlDeviceGetBrand, "brand")
NUMBER_OF(nvmlDeviceGetMinorNumber, "minor")
NUMBER_OF(nvmlDeviceGetDisplayMode, "display-mode")
NUMBER_OF(nvmlDeviceGetDisplayActive, "display-active")
NUMBER_OF(nvmlDeviceGetPersistenceMode, "persistence-mode")
NUMBER_OF(nvmlDeviceGetComputeMode, "compute-mode")
NUMBER_OF(nvmlDeviceGetNumGpuCores, "cores")
NUMBER_OF(nvmlDeviceGetMemoryBusWidth, "memory-bus-width")
NUMBER_OF(nvmlDeviceGetVirtualizationMode, "virtualization-mode")
NUMBER_OF(nvmlDeviceGetAccountingMode, "accounting-mode")
NUMBER_OF(nvmlDeviceGetMultiGpuBoard, "multi-gpu-board")
NUMBER_OF(nvmlDeviceGetPowerManagementLimit, "power-limit")
NUMBER_OF(nvmlDeviceGetPowerManagementDefaultLimit, "power-limit-default")
NUMBER_OF(nvmlDeviceGetEnforcedPowerLimit, "power-limit-enforced")
NUMBER_OF(nvmlDeviceGetPowerUsage, "power-usage")
NUMBER_OF(nvmlDeviceGetDefaultEccMode, "ecc-default")
NUMBER_OF(nvmlDeviceGetRetiredPagesPendingStatus, "retired-pending")
NUMBER_OF(nvmlDeviceGetMaxPcieLinkGeneration, "pcie-generation-max")
NUMBER_OF(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie-generation-gpu-max")
NUMBER_OF(nvmlDeviceGetCurrPcieLinkGeneration, "pcie-generation")
NUMBER_OF(nvmlDeviceGetMaxPcieLinkWidth, "pcie-width-max")
NUMBER_OF(nvmlDeviceGetCurrPcieLinkWidth, "pcie-width")
NUMBER_OF(nvmlDeviceGetPcieReplayCounter, "pcie-replays")
NUMBER_OF(nvmlDeviceGetPerformanceState, "performance-state")
NUMBER_OF(nvmlDeviceGetMaxMigDeviceCount, "mig-max")
PAIR_OF(nvmlDeviceGetPowerManagementLimitConstraints, "power-limit-range")
PAIR_OF(nvmlDeviceGetEccMode, "ecc-mode")
PAIR_OF(nvmlDeviceGetMigMode, "mig-mode")
INDEXED_OF(nvmlDeviceGetMaxClockInfo, "clock-max")
INDEXED_OF(nvmlDeviceGetClockInfo, "clock")
INDEXED_OF(nvmlDeviceGetApplicationsClock, "application-clock")
INDEXED_OF(nvmlDeviceGetDefaultApplicationsClock, "application-clock-default")
INDEXED_OF(nvmlDeviceGetTemperatureThreshold, "threshold")
INDEXED_OF(nvmlDeviceGetTemperature, "temperature")

nvmlReturn_t nvmlDeviceGetInforomVersion(nvmlDevice_t device, unsigned object, char *out, unsigned size) {
    char key[TEXT];
    ENTER(device->gpu);
    snprintf(key, sizeof key, "inforom.%u", object);
    return text(device->gpu, key, out, size);
}

nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    ENTER(device->gpu);
    return pair(device->gpu, "compute-capability", (unsigned *)major, (unsigned *)minor);
}

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *out) {
    ENTER(device->gpu);
    if (!find(device->gpu, "pci"))
        return NVML_ERROR_NOT_SUPPORTED;
    fill_pci(device->gpu, "pci", out);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out) {
    ENTER(device->gpu);
    if (!find(device->gpu, "memory-total"))
        return NVML_ERROR_NOT_SUPPORTED;
    out->total = number(device->gpu, "memory-total", 0);
    out->used = number(device->gpu, "memory-used", 0) + number(device->gpu, "memory-reserved", 0);
    out->free = out->total - out->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *out) {
    ENTER(device->gpu);
    if (!find(device->gpu, "bar1-total"))
        return NVML_ERROR_NOT_SUPPORTED;
    out->bar1Total = number(device->gpu, "bar1-total", 0);
    out->bar1Used = number(device->gpu, "bar1-used", 0);
    out->bar1Free = out->bar1Total - out->bar1Used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out) {
    ENTER(device->gpu);
    return pair(device->gpu, "utilization", &out->gpu, &out->memory);
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *out) {
    ENTER(device->gpu);
    if (!find(device->gpu, "clock-event-reasons"))
        return NVML_ERROR_NOT_SUPPORTED;
    *out = number(device->gpu, "clock-event-reasons", 0);
    return NVML_SUCCESS;
}
