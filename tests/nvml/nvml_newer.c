/* What an old driver's library does not have: functions that came after driver 470. */
#include "standin.h"

nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *out) {
    ENTER(device->gpu);
    return text(device->gpu, "gsp-version", out, NVML_GSP_FIRMWARE_VERSION_BUF_SIZE);
}

PAIR_OF(nvmlDeviceGetGspFirmwareMode, "gsp-mode")

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *out) {
    ENTER(device->gpu);
    if (!find(device->gpu, "clock-event-reasons"))
        return NVML_ERROR_NOT_SUPPORTED;
    *out = number(device->gpu, "clock-event-reasons", 0);
    return NVML_SUCCESS;
}

#define VERSIONED(pointer, number)                                                                                    \
    if ((pointer)->version != ((unsigned)sizeof *(pointer) | (number) << 24))                                         \
    return NVML_ERROR_ARGUMENT_VERSION_MISMATCH

nvmlReturn_t nvmlDeviceGetAddressingMode(nvmlDevice_t device, nvmlDeviceAddressingMode_t *out) {
    ENTER(device->gpu);
    VERSIONED(out, 1u);
    return whole(device->gpu, "addressing-mode", &out->value);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *out) {
    ENTER(device->gpu);
    VERSIONED(out, 2u);
    if (!find(device->gpu, "memory-total"))
        return NVML_ERROR_NOT_SUPPORTED;
    out->total = number(device->gpu, "memory-total", 0);
    out->reserved = number(device->gpu, "memory-reserved", 0);
    out->used = number(device->gpu, "memory-used", 0);
    out->free = out->total - out->reserved - out->used;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *out) {
    unsigned value;
    char key[TEXT];
    ENTER(device->gpu);
    VERSIONED(out, 1u);
    snprintf(key, sizeof key, "temperature.%u", out->sensorType);
    nvmlReturn_t result = whole(device->gpu, key, &value);
    out->temperature = (int)value;
    return result;
}

nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, nvmlEccSramErrorStatus_t *out) {
    ENTER(device->gpu);
    VERSIONED(out, 1u);
    if (!find(device->gpu, "sram-threshold-exceeded"))
        return NVML_ERROR_NOT_SUPPORTED;
    out->aggregateUncParity = number(device->gpu, "sram-parity", 0);
    out->aggregateUncSecDed = number(device->gpu, "sram-secded", 0);
    out->aggregateCor = number(device->gpu, "sram-corrected", 0);
    return whole(device->gpu, "sram-threshold-exceeded", &out->bThresholdExceeded);
}

/* `fabric = STATE STATUS CLIQUE HEALTH-MASK`, `fabric-cluster = 32 hexadecimal digits` */
static nvmlReturn_t fabric(int gpu, unsigned char *cluster, nvmlReturn_t *status, unsigned *clique,
                           unsigned char *state, unsigned *health) {
    const char *value = find(gpu, "fabric"), *digits = find(gpu, "fabric-cluster");
    unsigned read_state, read_status, byte;
    if (!value || sscanf(value, "%u %u %u %x", &read_state, &read_status, clique, health) != 4)
        return NVML_ERROR_NOT_SUPPORTED;
    *state = (unsigned char)read_state;
    *status = (nvmlReturn_t)read_status;
    memset(cluster, 0, NVML_GPU_FABRIC_UUID_LEN);
    for (int i = 0; digits && i < NVML_GPU_FABRIC_UUID_LEN && sscanf(digits + 2 * i, "%2x", &byte) == 1; i++)
        cluster[i] = (unsigned char)byte;
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfo(nvmlDevice_t device, nvmlGpuFabricInfo_t *out) {
    unsigned health;
    ENTER(device->gpu);
    return fabric(device->gpu, out->clusterUuid, &out->status, &out->cliqueId, &out->state, &health);
}

nvmlReturn_t nvmlDeviceGetGpuFabricInfoV(nvmlDevice_t device, nvmlGpuFabricInfo_v2_t *out) {
    ENTER(device->gpu);
    if (number(device->gpu, "fabric-version", 2) < 2)
        return NVML_ERROR_FUNCTION_NOT_FOUND;
    VERSIONED(out, 2u); /* as a driver of the 12.4 generation, which does not know version 3 */
    return fabric(device->gpu, out->clusterUuid, &out->status, &out->cliqueId, &out->state, &out->healthMask);
}

nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *out) {
    char profile[32], uuid[96];
    unsigned gi, ci, compute, slices, gigabytes;
    ENTER(device->gpu);
    memset(out, 0, sizeof *out);
    if (!mig_of(device, profile, &gi, &ci, uuid))
        return NVML_ERROR_NOT_SUPPORTED;
    if (sscanf(profile, "%uc.%ug.%ugb", &compute, &slices, &gigabytes) != 3) {
        if (sscanf(profile, "%ug.%ugb", &slices, &gigabytes) != 2)
            return NVML_ERROR_UNKNOWN;
        compute = slices;
    }
    out->gpuInstanceSliceCount = slices;
    out->computeInstanceSliceCount = compute;
    out->memorySizeMB = gigabytes * 1024ull;
    return NVML_SUCCESS;
}

/* `conf-compute = ENVIRONMENT FEATURE DEVTOOLS MULTI-GPU READY` */
static int conf_compute(unsigned *environment, unsigned *feature, unsigned *tools, unsigned *multi, unsigned *ready) {
    const char *value = find(SYSTEM, "conf-compute");
    return value && sscanf(value, "%u %u %u %u %u", environment, feature, tools, multi, ready) == 5;
}

nvmlReturn_t nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t *out) {
    unsigned multi, ready;
    ENTER(SYSTEM);
    return conf_compute(&out->environment, &out->ccFeature, &out->devToolsMode, &multi, &ready)
               ? NVML_SUCCESS
               : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_t *out) {
    unsigned ready;
    ENTER(SYSTEM);
    VERSIONED(out, 1u);
    return conf_compute(&out->environment, &out->ccFeature, &out->devToolsMode, &out->multiGpuMode, &ready)
               ? NVML_SUCCESS
               : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlSystemGetConfComputeGpusReadyState(unsigned *out) {
    unsigned environment, feature, tools, multi;
    ENTER(SYSTEM);
    return conf_compute(&environment, &feature, &tools, &multi, out) ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}
