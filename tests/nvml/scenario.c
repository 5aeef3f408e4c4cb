/* Reads a scenario and answers from it; the format is told in nvml.c. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include "standin.h"

enum { MOST_ENTRIES = 4096 };

typedef struct {
    int first, last; /* GPUs it belongs to; SYSTEM for none */
    char key[TEXT], value[TEXT];
} entry_t;

static entry_t entries[MOST_ENTRIES];
static int entry_count;

const char *find(int gpu, const char *key) {
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

void load(void) {
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

nvmlReturn_t behave(int gpu, const char *function) {
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

nvmlReturn_t text(int gpu, const char *key, char *out, unsigned size) {
    const char *value = find(gpu, key);
    if (!value)
        return NVML_ERROR_NOT_SUPPORTED;
    if (strlen(value) >= size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(out, value);
    return NVML_SUCCESS;
}

unsigned long long number(int gpu, const char *key, unsigned long long otherwise) {
    const char *value = find(gpu, key);
    return value ? strtoull(value, NULL, 0) : otherwise;
}

nvmlReturn_t whole(int gpu, const char *key, unsigned *out) {
    if (!find(gpu, key))
        return NVML_ERROR_NOT_SUPPORTED;
    *out = (unsigned)number(gpu, key, 0);
    return NVML_SUCCESS;
}

nvmlReturn_t pair(int gpu, const char *key, unsigned *first, unsigned *second) {
    const char *value = find(gpu, key);
    return value && sscanf(value, "%u %u", first, second) == 2 ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

int mig_of(nvmlDevice_t device, char *profile, unsigned *gi, unsigned *ci, char *uuid) {
    char key[TEXT];
    snprintf(key, sizeof key, "mig.%d", device->mig);
    const char *value = find(device->gpu, key);
    return value && sscanf(value, "%31s %u %u %95s", profile, gi, ci, uuid) == 4;
}
