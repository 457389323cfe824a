/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of trim, decay and waiting share: a pool of chunks of 1 MiB, regions held
 * by the dozen, and what all of it costs the system.
 *
 * A slab of such a chunk is 16 KiB, or one block where that is more: 4 regions of 4 KiB,
 * 256 of 64 bytes, one of 64 KiB.
 */
#ifndef SMALL_CHUNKS_H
#define SMALL_CHUNKS_H

#include "mrpool/thread.h"
#include "pool/pool.h"
#include "support/pool_fixture.h"

#define CHUNK MRP_MIB
#define PAGES_OF(n_chunks) ((n_chunks) * (CHUNK / 4096)) /* regions of 4 KiB */

static inline struct mrp_pool_params small_chunks_params(
    struct pool_fixture *f, size_t n_chunks)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = n_chunks * CHUNK;
    params.chunk_min = CHUNK;
    params.chunk_max = CHUNK;
    params.decay_ms = UINT32_MAX;
    return params;
}

static inline void small_chunks_create(struct pool_fixture *f, size_t n_chunks)
{
    struct mrp_pool_params params = small_chunks_params(f, n_chunks);

    pool_fixture_create(f, &params);
}

static inline void take_all(
    struct pool_fixture *f, struct mrp_region **regions, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        regions[i] = pool_fixture_alloc(f, size);
    }
}

/* Into the depot, past this thread's caches. */
static inline void give_all(
    struct pool_fixture *f, struct mrp_region *const *regions, size_t n)
{
    size_t n_freed = 0;

    assert_int_equal(mrp_region_free_many(regions, n, &n_freed), MRP_OK);
    assert_int_equal(n_freed, n);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
}

static inline size_t trim(struct pool_fixture *f, size_t keep)
{
    size_t released = SIZE_MAX;

    if (mrp_pool_trim(f->pool, keep, &released) != MRP_OK) {
        fail_msg("mrp_pool_trim: %s", mrp_error_last()->text);
    }
    if (mrp_pool_check(f->pool) != MRP_OK) {
        fail_msg("mrp_pool_check after a trim: %s", mrp_error_last()->text);
    }
    return released;
}

static inline struct mrp_context_stats context_stats(struct pool_fixture *f)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    return stats;
}

/* Bytes that pool, context and network hold: the same, in so many chunks. */
static inline void check_held(struct pool_fixture *f, size_t n_chunks)
{
    struct mrp_context_stats context = context_stats(f);
    struct mrp_pool_stats stats = pool_fixture_stats(f->pool);

    assert_int_equal(stats.mapped_size, n_chunks * CHUNK);
    assert_int_equal(stats.n_registrations, n_chunks);
    assert_int_equal(stats.n_chunks + stats.n_idle + stats.n_large, n_chunks);
    assert_int_equal(context.charged_size, n_chunks * CHUNK);
    assert_int_equal(context.n_charged, n_chunks);
    assert_int_equal(context.n_chunks, n_chunks);
    assert_int_equal(f->networks[0].n_live, n_chunks);
    assert_int_equal(f->networks[0].live_size, n_chunks * CHUNK);
}

#endif
