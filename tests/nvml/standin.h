/* What the parts of the stand-in share: the scenario, and functions that differ in nothing but name and key. */
#ifndef STANDIN_H
#define STANDIN_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvml_types.h"

#define OURS __attribute__((visibility("hidden")))

enum { MOST_GPUS = 64, MOST_MIGS = 16, TEXT = 256, SYSTEM = -1 };

struct nvmlDevice {
    int gpu, mig; /* mig is -1 for a whole GPU */
};

OURS extern int initialised;
OURS extern struct nvmlDevice gpus[MOST_GPUS], migs[MOST_GPUS][MOST_MIGS];

/* The value of a key for a GPU or for SYSTEM; NULL when the scenario does not say. */
OURS const char *find(int gpu, const char *key);
OURS void load(void);
/* What the scenario wants this call to do instead of answering; NVML_SUCCESS means answer. */
OURS nvmlReturn_t behave(int gpu, const char *function);
OURS nvmlReturn_t text(int gpu, const char *key, char *out, unsigned size);
OURS unsigned long long number(int gpu, const char *key, unsigned long long otherwise);
OURS nvmlReturn_t whole(int gpu, const char *key, unsigned *out);
/* `key = A B`: two numbers */
OURS nvmlReturn_t pair(int gpu, const char *key, unsigned *first, unsigned *second);
/* `mig.0 = PROFILE GPU-INSTANCE COMPUTE-INSTANCE UUID`; buffers of 32 and 96 characters */
OURS int mig_of(nvmlDevice_t device, char *profile, unsigned *gi, unsigned *ci, char *uuid);

#define ENTER(gpu)                                                                                                    \
    do {                                                                                                              \
        nvmlReturn_t instead = initialised ? behave((gpu), __func__) : NVML_ERROR_UNINITIALIZED;                      \
        if (instead != NVML_SUCCESS)                                                                                  \
            return instead;                                                                                           \
    } while (0)

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

#endif
