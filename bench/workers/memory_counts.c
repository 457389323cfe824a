/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What can be counted: registrations of regions larger than huge, what an LRU of four
 * keeps, and what is held after a peak that comes and goes as a whole.
 */
#include "memory_mrpool.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)
#define N_SAME 1000
#define N_LAYOUTS 10
#define N_KEPT 4
#define PEAK_LIVE (64 * MIB)
#define PEAK_RESERVE (16 * MIB)
#define PEAK_LEAST 64
#define N_PEAK_MAX ((size_t)1 << 18)

static bool count_same(void)
{
    static struct counting_rail counts;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context = NULL;
    struct mrp_provider *rail;
    struct mrp_pool *pool;

    params.rails = &rail;
    params.n_rails = 1;
    if (mrp_context_create(NULL, &context) != MRP_OK ||
        counting_rail_create(context, &counts, &rail) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK) {
        return sections_fail(context, "1,000 times the same size");
    }
    for (int i = 0; i < N_SAME; i++) {
        struct mrp_region *region = mrp_region_alloc(pool, MIB + 1);

        if (region == NULL) {
            return sections_fail(context, "1,000 times the same size");
        }
        mrp_region_free(region);
    }
    memory_tell_value(
        "same-size-registrations", 1, "count", (double)atomic_load(&counts.n_registered));
    mrp_context_destroy(context);
    return true;
}

/* Ten sizes, none of which an idle one of another could serve. */
static bool count_layouts(void)
{
    static struct counting_rail counts;
    struct mrp_context_params kept = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context = NULL;
    struct mrp_region *regions[N_LAYOUTS];
    struct mrp_provider *rail;
    struct mrp_pool *pool;
    enum mrp_status status;
    size_t n, n_before;

    kept.retained_count = N_KEPT;
    kept.retained_size = 4096 * MIB;
    params.max_bytes = 4096 * MIB;
    params.rails = &rail;
    params.n_rails = 1;
    if (mrp_context_create(&kept, &context) != MRP_OK ||
        counting_rail_create(context, &counts, &rail) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK) {
        return sections_fail(context, "ten layouts");
    }
    for (n = 0; n < N_LAYOUTS; n++) {
        regions[n] = mrp_region_alloc(pool, (2 + 3 * n) * MIB);
        if (regions[n] == NULL) {
            return sections_fail(context, "ten layouts");
        }
    }
    n_before = atomic_load(&counts.n_registered);
    for (n = 0; n < N_LAYOUTS; n++) {
        mrp_region_free(regions[n]);
    }
    memory_tell_value("layouts-registered", 1, "count", (double)n_before);
    memory_tell_value(
        "layouts-deregistered", 1, "count", (double)atomic_load(&counts.n_deregistered));
    memory_tell_value("layouts-kept", 1, "count",
        (double)atomic_load(&counts.n_registered) -
            (double)atomic_load(&counts.n_deregistered));
    status = mrp_context_destroy(context);
    memory_tell_value("layouts-leaked", 1, "count",
        status == MRP_OK ? (double)atomic_load(&counts.n_registered) -
                (double)atomic_load(&counts.n_deregistered)
                         : 1);
    return true;
}

/* -- after a peak -- */

static struct mrp_region **take_mixed(
    struct mrp_pool *pool, size_t size, size_t *n, uint64_t *random)
{
    struct mrp_region **regions = calloc(N_PEAK_MAX, sizeof *regions);
    size_t taken = 0;

    *n = 0;
    while (regions != NULL && taken < size && *n < N_PEAK_MAX) {
        size_t least, wanted;

        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        least = (size_t)PEAK_LEAST << (*random >> 20) % 14; /* to 512 KiB */
        wanted = least + (*random >> 32) % least;
        regions[*n] = mrp_region_alloc(pool, wanted);
        if (regions[*n] == NULL) {
            break;
        }
        (*n)++;
        taken += wanted;
    }
    return regions;
}

static bool count_peak(size_t reserve, const char *name)
{
    static struct counting_rail counts;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_pool_stats pool_stats = MRP_POOL_STATS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_region **steady, **peak;
    struct mrp_context *context = NULL;
    size_t n_steady, n_peak, largest, live = 0;
    uint64_t random = 88172645463325252u;
    struct mrp_provider *rail;
    struct mrp_pool *pool;

    params.max_bytes = 1024 * MIB;
    params.chunk_max = 16 * MIB;
    params.rails = &rail;
    params.n_rails = 1;
    if (mrp_context_create(NULL, &context) != MRP_OK ||
        counting_rail_create(context, &counts, &rail) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK) {
        return sections_fail(context, "after a peak");
    }
    steady = take_mixed(pool, PEAK_LIVE, &n_steady, &random);
    peak = take_mixed(pool, 2 * PEAK_LIVE, &n_peak, &random);
    largest = sections_largest_chunk(context);
    mrp_region_free_many(peak, n_peak, NULL);
    mrp_thread_flush(pool);
    mrp_pool_trim(pool, reserve, NULL);
    mrp_context_stats(context, &stats);
    mrp_pool_stats(pool, &pool_stats);
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        live += pool_stats.tiers[tier].live_size;
    }
    live += pool_stats.large_size;
    memory_tell_value(name, 1, "chunks",
        ((double)stats.chunk_size - (double)live - (double)reserve) / (double)largest);
    mrp_region_free_many(steady, n_steady, NULL);
    free(steady);
    free(peak);
    mrp_context_destroy(context);
    return true;
}

bool section_counts(const struct memory_arguments *arguments)
{
    (void)arguments;
    return count_same() && count_layouts() && count_peak(0, "after-peak-beyond-live") &&
        count_peak(PEAK_RESERVE, "after-peak-beyond-reserve");
}
