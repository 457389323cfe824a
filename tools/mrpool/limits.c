/* SPDX-License-Identifier: BSD-3-Clause */
#include "limits.h"

#include <stdio.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define MEMLOCK_SMALL (64 * MIB) /* half of what a pool wants for one of its chunks */
#define MAPS_USUAL 65530 /* DEFAULT_MAX_MAP_COUNT of the kernel */

void tool_size_write(char *text, size_t text_size, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)size;
    size_t unit = 0;

    if (size == MRP_UNLIMITED) {
        snprintf(text, text_size, "unlimited");
        return;
    }
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(text, text_size, value == (double)(size_t)value ? "%.0f %s" : "%.1f %s",
        value, units[unit]);
}

bool tool_memlock_is_small(size_t memlock_limit)
{
    return memlock_limit != MRP_UNLIMITED && memlock_limit < MEMLOCK_SMALL;
}

static bool may_raise_memlock(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != limit.rlim_max;
}

static void judge_memlock(const struct mrp_system *system, struct tool_limit *limit)
{
    tool_size_write(limit->text, sizeof(limit->text), limit->value);
    if (system->memlock_limit == MRP_UNLIMITED) {
        limit->remark = "pinned memory ends only where RAM does";
        return;
    }
    limit->remark = "all pinned memory of this process together";
    if (!tool_memlock_is_small(system->memlock_limit)) {
        return;
    }
    limit->level = TOOL_LEVEL_SMALL;
    limit->remark = "too small for pinning: all pinned memory of this process together";
    limit->remedy = may_raise_memlock()
        ? "ulimit -l $(ulimit -Hl), up to the hard limit; beyond it as root: \"* - "
          "memlock unlimited\" in /etc/security/limits.conf, LimitMEMLOCK=infinity in a "
          "systemd unit, --ulimit memlock=-1 for a container"
        : "ulimit -l unlimited as root, or for good: \"* - memlock unlimited\" in "
          "/etc/security/limits.conf, LimitMEMLOCK=infinity in a systemd unit, --ulimit "
          "memlock=-1 for a container";
}

static void judge_locked(const struct mrp_system *system, struct tool_limit *limit)
{
    (void)system;
    tool_size_write(limit->text, sizeof(limit->text), limit->value);
    limit->remark = "by this process (VmLck)";
}

static void judge_memory(const struct mrp_system *system, struct tool_limit *limit)
{
    (void)system;
    tool_size_write(limit->text, sizeof(limit->text), limit->value);
    limit->remark =
        "RAM, or the cgroup's limit if less; by default a pool takes at most half";
}

static void judge_page(const struct mrp_system *system, struct tool_limit *limit)
{
    (void)system;
    tool_size_write(limit->text, sizeof(limit->text), limit->value);
}

static void judge_huge_2m(const struct mrp_system *system, struct tool_limit *limit)
{
    snprintf(limit->text, sizeof(limit->text), "%zu free of %zu", system->huge_2m_free,
        system->huge_2m_total);
    if (system->huge_2m_free > 0) {
        limit->remark = "chunks are mapped on them first";
        return;
    }
    limit->level = TOOL_LEVEL_NOTE;
    limit->remark = "none: chunks take smaller pages, up to 20 times dearer to pin";
    limit->remedy = "sysctl -w vm.nr_hugepages=512 (1 GiB; best soon after boot)";
}

static void judge_huge_1g(const struct mrp_system *system, struct tool_limit *limit)
{
    snprintf(limit->text, sizeof(limit->text), "%zu free of %zu", system->huge_1g_free,
        system->huge_1g_total);
    limit->remark = "used only with MRPOOL_PAGES=1g";
}

static void judge_transparent(const struct mrp_system *system, struct tool_limit *limit)
{
    snprintf(
        limit->text, sizeof(limit->text), "%s", system->transparent_huge ? "on" : "off");
    if (system->transparent_huge) {
        limit->remark = "where there are no huge pages set aside";
        return;
    }
    limit->level = TOOL_LEVEL_NOTE;
    limit->remark = "chunks fall back to base pages";
    limit->remedy = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
}

static void judge_maps(const struct mrp_system *system, struct tool_limit *limit)
{
    snprintf(limit->text, sizeof(limit->text), "%zu", limit->value);
    limit->remark = "mappings of a process; a chunk or a pinned buffer takes one or two";
    if (system->max_map_count != 0 && system->max_map_count < MAPS_USUAL) {
        limit->level = TOOL_LEVEL_SMALL;
        limit->remedy = "sysctl -w vm.max_map_count=262144";
    }
}

static void judge_nodes(const struct mrp_system *system, struct tool_limit *limit)
{
    snprintf(limit->text, sizeof(limit->text), "%zu", limit->value);
    limit->remark = system->n_nodes > 1
        ? "bind a backend to the node of its network card (mrp_backend_params.node)"
        : "nothing to bind";
}

size_t tool_limits_judge(
    const struct mrp_system *system, struct tool_limit limits[TOOL_LIMITS_MAX])
{
    const struct {
        const char *key, *label;
        size_t value;
        void (*judge)(const struct mrp_system *system, struct tool_limit *limit);
    } rows[] = {
        {"memlock_limit", "memlock limit", system->memlock_limit, judge_memlock},
        {"locked_size", "locked now", system->locked_size, judge_locked},
        {"memory_size", "memory", system->memory_size, judge_memory},
        {"page_size", "base page", system->page_size, judge_page},
        {"huge_2m_free", "2 MiB pages", system->huge_2m_free, judge_huge_2m},
        {"huge_1g_free", "1 GiB pages", system->huge_1g_free, judge_huge_1g},
        {"transparent_huge", "transparent huge", system->transparent_huge,
            judge_transparent},
        {"max_map_count", "mappings", system->max_map_count, judge_maps},
        {"numa_nodes", "NUMA nodes", system->n_nodes, judge_nodes},
    };
    size_t n = sizeof(rows) / sizeof(rows[0]);

    for (size_t i = 0; i < n; i++) {
        limits[i] = (struct tool_limit){
            rows[i].key, rows[i].label, rows[i].value, "", TOOL_LEVEL_OK, "", ""};
        rows[i].judge(system, &limits[i]);
    }
    return n;
}

const char *tool_level_name(enum tool_level level)
{
    static const char *const names[] = {"ok", "note", "small"};

    return names[level];
}
