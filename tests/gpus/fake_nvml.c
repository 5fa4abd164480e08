/* Stands in for libnvidia-ml.so.1. Its devices are the lines of the file that FAKE_NVML names, read at every call:

       gpu TOTAL USED NAME        a GPU; `cut` as USED has it cut into the instances that follow
       mig TOTAL USED NAME        an instance of the GPU before

   in bytes. `-` as USED does not say it, `lost` is a GPU that is gone, `hang` is a driver that never answers.
   Signatures and codes are those of nvml.h. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { LINES_MAX = 32 };

typedef struct { char kind[8], used[32], name[96]; unsigned long long total; } line_t;
typedef struct { unsigned long long total, free, used; } memory_t;

static int read_lines(line_t *lines) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    int count = 0;
    if (!file) return -1;
    while (count < LINES_MAX && fscanf(file, "%7s %llu %31s %95[^\n]", lines[count].kind, &lines[count].total,
                                       lines[count].used, lines[count].name) == 4)
        count++;
    fclose(file);
    return count;
}

/* The number of the line with the index-th device of a kind, from a line on; instances end at the next GPU. */
static int find(const char *kind, int from, unsigned index) {
    line_t lines[LINES_MAX];
    int count = read_lines(lines);
    for (int at = from; at < count; at++) {
        if (!strcmp(kind, "mig") && !strcmp(lines[at].kind, "gpu")) return -1;
        if (!strcmp(lines[at].kind, kind) && index-- == 0) return at;
    }
    return -1;
}

/* A handle is the number of its line, plus one. */
static int line_of(void *handle, line_t *line) {
    line_t lines[LINES_MAX];
    int count = read_lines(lines), at = (int)(intptr_t)handle - 1;
    if (at < 0 || at >= count) return INVALID_ARGUMENT;
    *line = lines[at];
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    line_t lines[LINES_MAX];
    (void)flags;
    return read_lines(lines) < 0 ? DRIVER_NOT_LOADED : SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) { (void)code; return "an error of the fake"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    for (*count = 0; find("gpu", 0, *count) >= 0;) ++*count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    int at = find("gpu", 0, index);
    line_t line;
    if (at < 0) return INVALID_ARGUMENT;
    *handle = (void *)(intptr_t)(at + 1);
    return line_of(*handle, &line) == SUCCESS && !strcmp(line.used, "lost") ? GPU_IS_LOST : SUCCESS;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    line_t line;
    if (line_of(handle, &line) != SUCCESS) return INVALID_ARGUMENT;
    *current = *pending = !strcmp(line.used, "cut");
    return *current || strstr(line.name, "A100") ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { (void)handle; *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
    int at = find("mig", (int)(intptr_t)handle, index / 2); /* With holes, as real ones have. */
    if (index % 2 || at < 0) return NOT_FOUND;
    *instance = (void *)(intptr_t)(at + 1);
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    line_t line;
    if (line_of(handle, &line) != SUCCESS) return INVALID_ARGUMENT;
    snprintf(name, length, "%s", line.name);
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    line_t line;
    if (line_of(handle, &line) != SUCCESS) return INVALID_ARGUMENT;
    if (!strcmp(line.used, "hang")) for (;;) pause();
    if (line.used[0] < '0' || line.used[0] > '9') return NOT_SUPPORTED;
    memory->total = line.total;
    memory->used = strtoull(line.used, NULL, 10);
    memory->free = memory->total - memory->used;
    return SUCCESS;
}
