/* What a GPU has several of: memory errors, NVLinks, MIG devices; and the fields that have no function. */
#include "standin.h"

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

/* ---- MIG ---- */

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
