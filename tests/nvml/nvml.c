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
 * Built with -DSTANDIN_OLD it lacks the functions that came after driver 470, as an old driver does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nvml_types.h"

enum { MOST_ENTRIES = 4096, MOST_GPUS = 64, MOST_MIGS = 16, TEXT = 256, SYSTEM = -1 };

typedef struct {
    int first, last; /* GPUs it belongs to; SYSTEM for none */
    char key[TEXT], value[TEXT];
} entry_t;

struct nvmlDevice {
    int gpu, mig; /* mig is -1 for a whole GPU */
};

static entry_t entries[MOST_ENTRIES];
static int entry_count;
static int initialised;
static struct nvmlDevice gpus[MOST_GPUS], migs[MOST_GPUS][MOST_MIGS];

static const char *find(int gpu, const char *key) {
    for (int i = entry_count - 1; i >= 0; i--)
        if (gpu >= entries[i].first && gpu <= entries[i].last && !strcmp(entries[i].key, key))
            return entries[i].value;
    return NULL;
}

static char *trim(char *text) {
    while (*text == ' ' || *text == '\t')
        text++;
    for (char *end = text + strlen(text); end > text && strchr(" \t\r\n", end[-1]);)
        *--end = 0;
    return text;
}

static void load(void) {
    char path[4096], line[2 * TEXT];
    const char *named = getenv("NVML_STANDIN_SCENARIO");
    Dl_info self;
    int first = SYSTEM, last = SYSTEM;

    if (named)
        snprintf(path, sizeof path, "%s", named);
    else if (dladdr((void *)load, &self))
        snprintf(path, sizeof path, "%s.scenario", self.dli_fname);
    else
        return;
    FILE *file = fopen(path, "r");
    entry_count = 0;
    while (file && entry_count < MOST_ENTRIES && fgets(line, sizeof line, file)) {
        char *text = trim(line), *equals = strchr(text, '=');
        if (*text == '#' || !*text)
            continue;
        if (*text == '[') {
            int found = sscanf(text, "[%d-%d]", &first, &last);
            if (found == 1)
                last = first;
            else if (found < 1)
                first = last = SYSTEM;
        } else if (equals) {
            entry_t *entry = &entries[entry_count++];
            *equals = 0;
            entry->first = first;
            entry->last = last;
            snprintf(entry->key, TEXT, "%s", trim(text));
            snprintf(entry->value, TEXT, "%s", trim(equals + 1));
        }
    }
    if (file)
        fclose(file);
}

/* What the scenario wants this call to do instead of answering; NVML_SUCCESS means answer. */
static nvmlReturn_t behave(int gpu, const char *function) {
    const char *wanted = find(gpu, function);
    if ((!wanted || *wanted != '!') && gpu != SYSTEM)
        wanted = find(gpu, "*");
    if (!wanted || *wanted != '!')
        return NVML_SUCCESS;
    if (!strcmp(wanted, "!hang"))
        for (;;)
            pause();
    if (!strcmp(wanted, "!crash"))
        raise(SIGSEGV);
    if (!strncmp(wanted, "!wait ", 6)) {
        while (access(wanted + 6, F_OK))
            usleep(2000);
        return NVML_SUCCESS;
    }
    return atoi(wanted + 1);
}

#define ENTER(gpu)                                                                                                    \
    do {                                                                                                              \
        nvmlReturn_t instead = initialised ? behave((gpu), __func__) : NVML_ERROR_UNINITIALIZED;                      \
        if (instead != NVML_SUCCESS)                                                                                  \
            return instead;                                                                                           \
    } while (0)

static nvmlReturn_t text(int gpu, const char *key, char *out, unsigned size) {
    const char *value = find(gpu, key);
    if (!value)
        return NVML_ERROR_NOT_SUPPORTED;
    if (strlen(value) >= size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, value);
    return NVML_SUCCESS;
}

static unsigned long long number(int gpu, const char *key, unsigned long long otherwise) {
    const char *value = find(gpu, key);
    return value ? strtoull(value, NULL, 0) : otherwise;
}

static nvmlReturn_t whole(int gpu, const char *key, unsigned *out) {
    if (!find(gpu, key))
        return NVML_ERROR_NOT_SUPPORTED;
    *out = (unsigned)number(gpu, key, 0);
    return NVML_SUCCESS;
}

/* `key = A B`: two numbers */
static nvmlReturn_t pair(int gpu, const char *key, unsigned *first, unsigned *second) {
    const char *value = find(gpu, key);
    return value && sscanf(value, "%u %u", first, second) == 2 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

/* Functions that differ in nothing but their name and key. */
#define TEXT_OF(function, key)                                                                                        \
    nvmlReturn_t function(nvmlDevice_t device, char *out, unsigned size) {                                            \
        ENTER(device->gpu);                                                                                           \
        return text(device->gpu, key, out, size);                                                                     \
    }
#define NUMBER_OF(function, key)                                                                                      \
    nvmlReturn_t function(nvmlDevice_t device, unsigned *out) {                                                       \
        ENTER(device->gpu);                                                                                           \
        return whole(device->gpu, key, out);                                                                          \
    }
#define PAIR_OF(function, key)                                                                                        \
    nvmlReturn_t function(nvmlDevice_t device, unsigned *first, unsigned *second) {                                   \
        ENTER(device->gpu);                                                                                           \
        return pair(device->gpu, key, first, second);                                                                 \
    }
/* One number for each value of an enumeration: `key.0`, `key.1`, ... */
#define INDEXED_OF(function, key)                                                                                     \
    nvmlReturn_t function(nvmlDevice_t device, unsigned index, unsigned *out) {                                       \
        char name[TEXT];                                                                                              \
        ENTER(device->gpu);                                                                                           \
        snprintf(name, sizeof name, "%s.%u", key, index);                                                             \
        return whole(device->gpu, name, out);                                                                         \
    }

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

/* ---- memory errors ---- */

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, unsigned error, unsigned counter,
                                         unsigned long long *out) {
    char key[TEXT];
    ENTER(device->gpu);
    if (!find(device->gpu, "ecc-mode"))
        return NVML_ERROR_NOT_SUPPORTED;
    snprintf(key, sizeof key, "ecc-errors.%u.%u", error, counter);
    *out = number(device->gpu, key, 0);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected,
                                       unsigned *pending, unsigned *failed) {
    ENTER(device->gpu);
    const char *value = find(device->gpu, "remapped-rows");
    return value && sscanf(value, "%u %u %u %u", corrected, uncorrected, pending, failed) == 4
               ? NVML_SUCCESS
               : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, nvmlRowRemapperHistogramValues_t *out) {
    ENTER(device->gpu);
    const char *value = find(device->gpu, "remapper-histogram");
    return value && sscanf(value, "%u %u %u %u %u", &out->max, &out->high, &out->partial, &out->low, &out->none) == 5
               ? NVML_SUCCESS
               : NVML_ERROR_NOT_SUPPORTED;
}

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, unsigned cause, unsigned *count,
                                       unsigned long long *addresses) {
    char key[TEXT];
    unsigned pages, room = *count;
    ENTER(device->gpu);
    snprintf(key, sizeof key, "retired-pages.%u", cause);
    if (whole(device->gpu, key, &pages) != NVML_SUCCESS)
        return NVML_ERROR_NOT_SUPPORTED;
    *count = pages;
    if (room < pages)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < pages; i++)
        addresses[i] = 0x1000ull * (i + 1);
    return NVML_SUCCESS;
}

/* ---- NVLink and the fields that have no function of their own ---- */

static int has_link(int gpu, unsigned link) { return link < number(gpu, "nvlink-count", 0); }

static nvmlReturn_t of_link(int gpu, unsigned link, const char *what, unsigned *out) {
    char key[TEXT];
    if (link >= NVML_NVLINK_MAX_LINKS)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!has_link(gpu, link))
        return NVML_ERROR_NOT_SUPPORTED;
    snprintf(key, sizeof key, "nvlink-%s.%u", what, link);
    if (find(gpu, key))
        return whole(gpu, key, out);
    snprintf(key, sizeof key, "nvlink-%s", what);
    return whole(gpu, key, out);
}

nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, unsigned *out) {
    ENTER(device->gpu);
    return of_link(device->gpu, link, "state", out);
}

nvmlReturn_t nvmlDeviceGetNvLinkVersion(nvmlDevice_t device, unsigned link, unsigned *out) {
    ENTER(device->gpu);
    return of_link(device->gpu, link, "version", out);
}

nvmlReturn_t nvmlDeviceGetNvLinkRemoteDeviceType(nvmlDevice_t device, unsigned link, unsigned *out) {
    ENTER(device->gpu);
    return of_link(device->gpu, link, "remote", out);
}

nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count, nvmlFieldValue_t *values) {
    ENTER(device->gpu);
    for (int i = 0; i < count; i++) {
        char key[TEXT];
        unsigned value = 0;
        snprintf(key, sizeof key, "field.%u", values[i].fieldId);
        values[i].nvmlReturn = whole(device->gpu, key, &value);
        values[i].valueType = NVML_VALUE_TYPE_UNSIGNED_INT;
        values[i].value.uiVal = value;
    }
    return NVML_SUCCESS;
}

/* ---- MIG: `mig.0 = PROFILE GPU-INSTANCE COMPUTE-INSTANCE UUID` ---- */

static int mig_of(nvmlDevice_t device, char *profile, unsigned *gi, unsigned *ci, char *uuid) {
    char key[TEXT];
    snprintf(key, sizeof key, "mig.%d", device->mig);
    const char *value = find(device->gpu, key);
    return value && sscanf(value, "%31s %u %u %95s", profile, gi, ci, uuid) == 4;
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index, nvmlDevice_t *out) {
    char profile[32], uuid[96];
    unsigned gi, ci;
    ENTER(device->gpu);
    if (index >= MOST_MIGS)
        return NVML_ERROR_INVALID_ARGUMENT;
    *out = &migs[device->gpu][index];
    return mig_of(*out, profile, &gi, &ci, uuid) ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *out, unsigned size) {
    char profile[32], uuid[96];
    unsigned gi, ci;
    ENTER(device->gpu);
    nvmlReturn_t result = text(device->gpu, "name", out, size);
    if (result == NVML_SUCCESS && device->mig >= 0 && mig_of(device, profile, &gi, &ci, uuid))
        snprintf(out + strlen(out), size - strlen(out), " MIG %s", profile);
    return result;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *out, unsigned size) {
    char profile[32], uuid[96];
    unsigned gi, ci;
    ENTER(device->gpu);
    if (device->mig < 0)
        return text(device->gpu, "uuid", out, size);
    if (!mig_of(device, profile, &gi, &ci, uuid))
        return NVML_ERROR_NOT_FOUND;
    snprintf(out, size, "%s", uuid);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *out) {
    char profile[32], uuid[96];
    unsigned ci;
    ENTER(device->gpu);
    return mig_of(device, profile, out, &ci, uuid) ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *out) {
    char profile[32], uuid[96];
    unsigned gi;
    ENTER(device->gpu);
    return mig_of(device, profile, &gi, out, uuid) ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

#ifndef STANDIN_OLD
/* ---- what an old driver's library does not have ---- */

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
#endif
