/* SPDX-License-Identifier: BSD-3-Clause */
#include "footprint.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "VmSize:   1234 kB" of /proc/self/status, in bytes. */
static void read_sizes(struct bench_footprint *footprint)
{
    const struct {
        const char *name;
        long *size;
    } fields[] = {{"VmSize:", &footprint->mapped_size},
        {"VmRSS:", &footprint->resident_size}, {"VmLck:", &footprint->locked_size}};
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];

    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
            size_t length = strlen(fields[i].name);

            if (strncmp(line, fields[i].name, length) == 0) {
                *fields[i].size = strtol(line + length, NULL, 10) * 1024;
            }
        }
    }
    fclose(file);
}

static long count_mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    char part[512];
    long count = 0;

    if (file == NULL) {
        return 0;
    }
    while (fgets(part, sizeof part, file) != NULL) {
        count += strchr(part, '\n') != NULL;
    }
    fclose(file);
    return count;
}

static long count_files(void)
{
    DIR *folder = opendir("/proc/self/fd");
    long count = 0;

    if (folder == NULL) {
        return 0;
    }
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count - 3; /* ".", ".." and the folder itself */
}

void bench_footprint_take(struct bench_footprint *footprint)
{
    struct mallinfo2 heap = mallinfo2();

    *footprint = (struct bench_footprint){
        .heap_size = (long)(heap.uordblks + heap.hblkhd),
        .n_files = count_files(),
        .n_mappings = count_mappings(),
    };
    read_sizes(footprint);
}
