/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_system_query: the limits of the machine that pinned memory runs into.
 */
#include "base/align.h"
#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CAP_IPC_LOCK_BIT 14 /* capability(7): CAP_IPC_LOCK */

/* First line of a small file; false when it cannot be read. */
static bool read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");
    bool ok;

    if (file == NULL) {
        return false;
    }
    ok = fgets(line, (int)size, file) != NULL;
    fclose(file);
    return ok;
}

static size_t read_number(const char *path)
{
    char line[64];

    return read_line(path, line, sizeof line) ? strtoull(line, NULL, 10) : 0;
}

/* The number after "Name:" in a /proc file, in the given base; 0 when absent. */
static unsigned long long read_field(const char *path, const char *name, int base)
{
    FILE *file = fopen(path, "re");
    unsigned long long value = 0;
    size_t length = strlen(name);
    char line[256];

    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            value = strtoull(line + length + 1, NULL, base);
            break;
        }
    }
    fclose(file);
    return value;
}

/* The kernel asks for the capability in the initial user namespace: in another one
 * (rootless containers) having it lifts nothing. */
static bool may_lock_without_limit(void)
{
    unsigned long long inside, outside, count;
    char line[64];

    if ((read_field("/proc/self/status", "CapEff", 16) >> CAP_IPC_LOCK_BIT & 1) == 0) {
        return false;
    }
    return !read_line("/proc/self/uid_map", line, sizeof line) ||
        (sscanf(line, "%llu %llu %llu", &inside, &outside, &count) == 3 && inside == 0 &&
            outside == 0 && count == UINT32_MAX);
}

static size_t memlock_limit(void)
{
    struct rlimit limit;

    if (may_lock_without_limit() || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        limit.rlim_cur == RLIM_INFINITY) {
        return MRP_UNLIMITED;
    }
    return (size_t)limit.rlim_cur;
}

/* Limit of this process's own memory cgroup, version 2 or 1; SIZE_MAX when there is none.
 */
static size_t cgroup_limit(void)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[4096], path[4400], value[64];
    size_t limit = SIZE_MAX;

    if (file == NULL) {
        return limit;
    }
    while (fgets(line, sizeof line, file) != NULL) {
        bool v1 = strstr(line, ":memory:") != NULL;
        char *group = strrchr(line, ':');

        if (group == NULL || (!v1 && strncmp(line, "0::", 3) != 0)) {
            continue;
        }
        group[strcspn(group, "\n")] = '\0';
        snprintf(path, sizeof path, "/sys/fs/cgroup%s%s/%s", v1 ? "/memory" : "",
            group + 1, v1 ? "memory.limit_in_bytes" : "memory.max");
        if (read_line(path, value, sizeof value) && value[0] >= '0' && value[0] <= '9') {
            limit = mrp_min(limit, strtoull(value, NULL, 10));
        }
    }
    fclose(file);
    return limit;
}

/* Nodes in a list like "0-1,3". */
static size_t count_nodes(void)
{
    char line[1024];
    size_t n_nodes = 0;
    char *next = line;

    if (!read_line("/sys/devices/system/node/has_memory", line, sizeof line)) {
        return 1;
    }
    while (*next >= '0' && *next <= '9') {
        unsigned long first = strtoul(next, &next, 10), last = first;

        if (*next == '-') {
            last = strtoul(next + 1, &next, 10);
        }
        n_nodes += last >= first ? last - first + 1 : 0;
        next += *next == ',';
    }
    return n_nodes == 0 ? 1 : n_nodes;
}

static bool has_transparent_huge_pages(void)
{
    char line[128];

    return read_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof line) &&
        strstr(line, "[never]") == NULL;
}

enum mrp_status mrp_system_query(struct mrp_system *system)
{
#define HUGE_PAGES "/sys/kernel/mm/hugepages/hugepages-"
    struct mrp_system found = MRP_SYSTEM_INIT;
    size_t ram = (size_t)read_field("/proc/meminfo", "MemTotal", 10) * MRP_KIB;

    found.page_size = (size_t)sysconf(_SC_PAGESIZE);
    found.memory_size = mrp_min(ram, cgroup_limit());
    found.memlock_limit = memlock_limit();
    found.locked_size = (size_t)read_field("/proc/self/status", "VmLck", 10) * MRP_KIB;
    found.pinned_size = (size_t)read_field("/proc/self/status", "VmPin", 10) * MRP_KIB;
    found.huge_page_size =
        (size_t)read_field("/proc/meminfo", "Hugepagesize", 10) * MRP_KIB;
    found.huge_2m_total = read_number(HUGE_PAGES "2048kB/nr_hugepages");
    found.huge_2m_free = read_number(HUGE_PAGES "2048kB/free_hugepages");
    found.huge_1g_total = read_number(HUGE_PAGES "1048576kB/nr_hugepages");
    found.huge_1g_free = read_number(HUGE_PAGES "1048576kB/free_hugepages");
    found.transparent_huge = has_transparent_huge_pages();
    found.max_map_count = read_number("/proc/sys/vm/max_map_count");
    found.n_nodes = count_nodes();
    return mrp_info_write(system, &found, sizeof found, "mrp_system");
#undef HUGE_PAGES
}
