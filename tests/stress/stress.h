/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the stress tests share: threads that start together, failures noted from any
 * thread, regions whose contents tell their owner, a pool over a counting provider that
 * is checked when it goes.
 *
 * CMocka's assertions belong to the main thread. Elsewhere STRESS_CHECK notes the first
 * failure, and stress_run fails for it once all threads have ended.
 */
#ifndef MRP_STRESS_H
#define MRP_STRESS_H

#include "base/align.h"
#include "base/atomic.h"
#include "base/clock.h"
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "support/test_providers.h"
#include "support/test_system.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STRESS_THREADS 8

/** Rounds to do: `count` as it stands natively, a fifth under sanitizers, a fiftieth under
 *  Valgrind, times MRP_STRESS_SCALE of the environment, in per cent. */
static inline size_t stress_rounds(size_t count)
{
    const char *scale = getenv("MRP_STRESS_SCALE"), *under = getenv("MRP_TEST_UNDER");

    if (under != NULL && strcmp(under, "valgrind") == 0) {
        count /= 50;
    } else if (test_is_watched()) {
        count /= 5;
    }
    return mrp_max(scale == NULL ? count : count * strtoul(scale, NULL, 10) / 100, 1);
}

/* -- failures -- */

static atomic_int stress_failed; /* 0: no, 1: being noted, 2: noted */
static char stress_failure[1024];

static void stress_note(const char *file, int line, const char *what)
{
    int expected = 0;

    if (atomic_compare_exchange_strong(&stress_failed, &expected, 1)) {
        snprintf(stress_failure, sizeof stress_failure,
            "%s:%d: %.300s; last error of the thread: %.500s", file, line, what,
            mrp_error_last()->text);
        atomic_store(&stress_failed, 2);
    }
}

/** In any thread: false, and noted, when the condition does not hold. */
#define STRESS_CHECK(condition) \
    ((condition) ? true : (stress_note(__FILE__, __LINE__, #condition), false))

static inline bool stress_goes_on(void)
{
    return atomic_load_explicit(&stress_failed, memory_order_relaxed) == 0;
}

#define STRESS_LONGEST (15 * MRP_SECOND)

static uint64_t stress_end; /* of the rounds of this stress_run() */

/** The same, for rounds of which there may be fewer: those in which regions go from thread
 *  to thread take a hundred times as long on a machine that is busy with other things. */
static inline bool stress_has_time(void)
{
    return stress_goes_on() && mrp_clock_coarse() < stress_end;
}

/* -- threads -- */

struct stress_thread {
    pthread_t thread;
    pthread_barrier_t *start;
    void (*work)(struct stress_thread *);
    void *shared;
    size_t number;
    uint64_t seed;
};

/** A sequence of its own for each thread, the same in every run. */
static inline uint32_t stress_random(struct stress_thread *thread)
{
    thread->seed = thread->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(thread->seed >> 33);
}

static inline void *stress_thread_main(void *argument)
{
    struct stress_thread *thread = argument;

    pthread_barrier_wait(thread->start);
    thread->work(thread);
    return NULL;
}

/** Run `work` in n threads that start together, up to 64; fail if any of them failed. */
static inline void stress_run(
    size_t n_threads, void (*work)(struct stress_thread *), void *shared)
{
    struct stress_thread threads[64];
    pthread_barrier_t start;

    assert_in_range(n_threads, 1, 64);
    pthread_barrier_init(&start, NULL, (unsigned)n_threads);
    stress_end = mrp_clock_coarse() + STRESS_LONGEST;
    for (size_t i = 0; i < n_threads; i++) {
        threads[i] = (struct stress_thread){
            .start = &start, .work = work, .shared = shared, .number = i, .seed = i + 1};
        assert_int_equal(
            pthread_create(&threads[i].thread, NULL, stress_thread_main, &threads[i]), 0);
    }
    for (size_t i = 0; i < n_threads; i++) {
        pthread_join(threads[i].thread, NULL);
    }
    pthread_barrier_destroy(&start);
    if (atomic_exchange(&stress_failed, 0) != 0) {
        fail_msg("%s", stress_failure);
    }
}

/* -- contents -- */

/* Every word of the first and the last 512 bytes, and one a page between. */
static inline size_t stress_next_word(size_t offset, size_t size)
{
    if (offset < 512 || offset + 512 >= size) {
        return offset + 8;
    }
    return mrp_max(mrp_min(offset + 4096, (size - 512) & ~(size_t)7), offset + 8);
}

/** Mark the region as `owner`'s. */
static inline void stress_fill(struct mrp_region *region, uint64_t owner)
{
    char *bytes = mrp_region_address(region);
    size_t size = mrp_region_capacity(region);

    for (size_t i = 0; i + 8 <= size; i = stress_next_word(i, size)) {
        memcpy(bytes + i, &owner, 8);
    }
}

/** Whether it is still marked so: nobody else has taken it for his. */
static inline bool stress_is_intact(struct mrp_region *region, uint64_t owner)
{
    const char *bytes = mrp_region_address(region);
    size_t size = mrp_region_capacity(region);

    if (bytes == NULL) {
        return false;
    }
    for (size_t i = 0; i + 8 <= size; i = stress_next_word(i, size)) {
        if (memcmp(bytes + i, &owner, 8) != 0) {
            return false;
        }
    }
    return true;
}

/* -- a pool and what it stands on -- */

struct stress_world {
    struct mrp_context *context;
    struct test_provider network;
    struct mrp_provider *rail;
    struct mrp_backend *backend; /* base pages, touched by the test alone */
    struct mrp_pool *pool;
};

/** Everything but the pool. */
static inline void stress_create_context(
    struct stress_world *world, const struct mrp_context_params *params)
{
    struct mrp_backend_params backend_params = MRP_BACKEND_PARAMS_INIT;

    memset(world, 0, sizeof *world);
    test_provider_init(&world->network);
    assert_int_equal(mrp_context_create(params, &world->context), MRP_OK);
    assert_int_equal(mrp_provider_create(world->context, "network", test_provider_ops(),
                         &world->network, &world->rail),
        MRP_OK);
    backend_params.pages = MRP_PAGES_4K;
    backend_params.prefault = -1;
    assert_int_equal(
        mrp_backend_create(world->context, "mmap", &backend_params, &world->backend),
        MRP_OK);
}

/** Another pool over the world's rail and backend. */
static inline struct mrp_pool *stress_add_pool(
    struct stress_world *world, const struct mrp_pool_params *given)
{
    struct mrp_pool_params params = *given;
    struct mrp_pool *pool;

    params.backend = world->backend;
    params.rails = &world->rail;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    return STRESS_CHECK(mrp_pool_create(world->context, &params, &pool) == MRP_OK) ? pool
                                                                                   : NULL;
}

static inline void stress_create(
    struct stress_world *world, const struct mrp_pool_params *params)
{
    stress_create_context(world, NULL);
    world->pool = stress_add_pool(world, params);
    assert_non_null(world->pool);
}

static inline struct mrp_pool_stats stress_stats(struct mrp_pool *pool)
{
    struct mrp_pool_stats stats = {.struct_size = sizeof stats};

    assert_int_equal(mrp_pool_stats(pool, &stats), MRP_OK);
    return stats;
}

/** Every region that was cut is free, once, and no thread has caches. What remains of the
 * calling thread's has been flushed. */
static inline struct mrp_pool_stats stress_check_rest(struct mrp_pool *pool)
{
    struct mrp_pool_stats stats;

    if (mrp_pool_check(pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    stats = stress_stats(pool);
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        assert_int_equal(stats.tiers[tier].n_live, 0);
        assert_int_equal(stats.tiers[tier].n_free, stats.tiers[tier].n_regions);
        assert_int_equal(stats.tiers[tier].n_cached, 0);
    }
    assert_int_equal(stats.n_large, 0);
    assert_int_equal(stats.n_slices, 0);
    assert_int_equal(stats.n_threads, 0);
    assert_int_equal(stats.cached_size, 0);
    return stats;
}

/** The pool is whole, and the network holds one registration a chunk. */
static inline void stress_check_pool(struct stress_world *world)
{
    if (mrp_pool_check(world->pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    assert_int_equal(
        stress_stats(world->pool).n_registrations, atomic_load(&world->network.n_live));
}

/** Nothing is broken, live, leaked or still registered. */
static inline void stress_destroy(struct stress_world *world)
{
    if (world->pool != NULL) {
        stress_check_pool(world);
        if (mrp_pool_destroy(world->pool) != MRP_OK) {
            fail_msg("%s", mrp_error_last()->text);
        }
    }
    assert_int_equal(mrp_context_destroy(world->context), MRP_OK);
    assert_string_equal(world->network.first_error, "");
    assert_int_equal(atomic_load(&world->network.n_live), 0);
    test_provider_fini(&world->network);
}

#endif
