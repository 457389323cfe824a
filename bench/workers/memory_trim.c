/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What mrp_pool_trim costs: with nothing to give, with free regions scattered among live
 * ones, with 1 GiB to give; and unpinning and unmapping the same chunks by hand.
 */
#include "memory_mrpool.h"
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define REGION_SIZE ((size_t)64 << 10)
#define SMALL_SIZE 1024
#define N_SMALL 100000
#define LIVE_EVERY 64 /* so that no slab of them is free: they have 128 regions or more */
#define CHUNKS_MAX 256
#define HUGE_SIZE ((size_t)2 << 20)

static struct {
    size_t sizes[CHUNKS_MAX];
    size_t n;
} plan;

static void note_chunk(const struct mrp_registration_info *info, void *user)
{
    (void)user;
    if (plan.n < CHUNKS_MAX) {
        plan.sizes[plan.n++] = info->size;
    }
}

static enum mrp_status open_pool(size_t size, enum mrp_pages pages,
    struct mrp_context **context, struct mrp_pool **pool)
{
    struct mrp_context_params kept = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_backend_params memory = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *host;
    enum mrp_status status;

    kept.retained_size = 2 * size; /* trim gives it back, not the free */
    status = mrp_context_create(&kept, context);
    memory.pages = pages;
    memory.prefault = 1;
    params.max_bytes = 2 * size;
    params.rails = &host;
    params.n_rails = 1;
    params.decay_ms = UINT32_MAX;
    if (status == MRP_OK) {
        status = mrp_backend_create(*context, "mmap", &memory, &params.backend);
    }
    if (status == MRP_OK) {
        status = mrp_provider_open(*context, "host", NULL, &host);
    }
    return status == MRP_OK ? mrp_pool_create(*context, &params, pool) : status;
}

/* -- nothing to give -- */

static double time_trim(struct mrp_pool *pool, size_t keep, size_t *released)
{
    double start = worker_wall_ns();

    mrp_pool_trim(pool, keep, released);
    return worker_wall_ns() - start;
}

static bool trim_idle(const struct memory_arguments *arguments)
{
    struct mrp_region **regions = calloc(N_SMALL, sizeof *regions);
    size_t wanted = arguments->quick ? N_SMALL / 10 : N_SMALL, n, released;
    struct mrp_context *context = NULL;
    struct mrp_pool *pool;

    if (regions == NULL ||
        open_pool((size_t)256 << 20, MRP_PAGES_DEFAULT, &context, &pool) != MRP_OK) {
        free(regions);
        return sections_fail(context, "trim, nothing to give");
    }
    n = sections_fill(pool, SMALL_SIZE, wanted, regions);
    mrp_thread_flush(pool);
    mrp_pool_trim(pool, 0, NULL);
    for (unsigned i = 0; i < arguments->repetitions; i++) {
        memory_tell_value("trim-nothing", 1, "ns", time_trim(pool, 0, &released));
    }
    for (size_t i = 0; i < n; i++) {
        if (i % LIVE_EVERY != 0) {
            mrp_region_free(regions[i]);
        }
    }
    mrp_thread_flush(pool);
    for (unsigned i = 0; i < arguments->repetitions; i++) {
        memory_tell_value("trim-scattered", 1, "ns", time_trim(pool, 0, &released));
    }
    for (size_t i = 0; i < n; i += LIVE_EVERY) {
        mrp_region_free(regions[i]);
    }
    free(regions);
    mrp_context_destroy(context);
    return true;
}

/* -- 1 GiB to give -- */

static bool trim_once(struct mrp_context *context, struct mrp_pool *pool,
    struct mrp_region **regions, size_t n, const char *kind)
{
    size_t got = sections_fill(pool, REGION_SIZE, n, regions), released = 0;
    char name[32];
    double cpu, ns;

    if (got < n) {
        return false;
    }
    plan.n = 0;
    mrp_registration_visit(context, note_chunk, NULL);
    mrp_region_free_many(regions, got, NULL);
    mrp_thread_flush(pool);
    cpu = worker_cpu_ns();
    ns = time_trim(pool, 0, &released);
    cpu = worker_cpu_ns() - cpu;
    snprintf(name, sizeof name, "trim-1g-%s", kind);
    memory_tell_value(name, 1, "ns", ns);
    snprintf(name, sizeof name, "trim-1g-cpu-%s", kind);
    memory_tell_value(name, 1, "ns", cpu);
    snprintf(name, sizeof name, "trim-1g-kept-%s", kind);
    memory_tell_value(name, 1, "bytes",
        (double)(n * REGION_SIZE) - (double)released > 0
            ? (double)(n * REGION_SIZE - released)
            : 0);
    return true;
}

static bool map_chunk(size_t size, bool huge, char **begin, size_t *mapped)
{
    char *address, *aligned;

    *mapped = size + HUGE_SIZE;
    address =
        mmap(NULL, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) {
        return false;
    }
    *begin = address;
    aligned = address + (-(uintptr_t)address & (HUGE_SIZE - 1));
    if (madvise(aligned, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) != 0 &&
        errno != EINVAL) {
        return false;
    }
    if (madvise(aligned, size, MADV_POPULATE_WRITE) != 0) {
        memset(aligned, 0, size);
    }
    return mlock2(aligned, size, 0) == 0;
}

/* The mappings of the last pool, pinned, then unpinned and unmapped. */
static void unmap_by_hand(bool huge, const char *kind)
{
    char *begins[CHUNKS_MAX] = {NULL};
    size_t mapped[CHUNKS_MAX], n = 0;
    char name[32];
    double start;

    while (n < plan.n && map_chunk(plan.sizes[n], huge, &begins[n], &mapped[n])) {
        n++;
    }
    if (n < plan.n) {
        memory_tell_problem("mapping and pinning by hand: %s", strerror(errno));
    }
    start = worker_wall_ns();
    for (size_t i = 0; i < n; i++) {
        char *aligned = begins[i] + (-(uintptr_t)begins[i] & (HUGE_SIZE - 1));

        munlock(aligned, plan.sizes[i]);
        munmap(begins[i], mapped[i]);
    }
    if (n == plan.n) {
        snprintf(name, sizeof name, "unmap-1g-%s", kind);
        memory_tell_value(name, 1, "ns", worker_wall_ns() - start);
    } else if (begins[n] != NULL) {
        munmap(begins[n], mapped[n]);
    }
}

/* Pool and hands in turn, so that what disturbs one disturbs the other. */
static bool trim_much(
    const struct memory_arguments *arguments, enum mrp_pages pages, const char *kind)
{
    size_t size = arguments->quick ? (size_t)32 << 20 : (size_t)1 << 30;
    size_t n = size / REGION_SIZE;
    struct mrp_region **regions = calloc(n, sizeof *regions);
    struct mrp_system system = MRP_SYSTEM_INIT;
    struct mrp_context *context = NULL;
    struct mrp_pool *pool;
    bool is_done = true;

    mrp_system_query(&system);
    if (regions == NULL || open_pool(size, pages, &context, &pool) != MRP_OK) {
        free(regions);
        return sections_fail(context, "trim, 1 GiB to give");
    }
    for (unsigned i = 0; is_done && i < arguments->repetitions; i++) {
        is_done = trim_once(context, pool, regions, n, kind);
        if (is_done) {
            unmap_by_hand(pages != MRP_PAGES_4K && system.transparent_huge, kind);
        }
    }
    free(regions);
    if (!is_done) {
        return sections_fail(context, "trim, 1 GiB to give");
    }
    mrp_context_destroy(context);
    return true;
}

bool section_trim(const struct memory_arguments *arguments)
{
    return trim_idle(arguments) && trim_much(arguments, MRP_PAGES_4K, "4k") &&
        trim_much(arguments, MRP_PAGES_DEFAULT, "default");
}
