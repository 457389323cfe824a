/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of thread caches share: a look into a thread's caches, and threads that
 * do one thing after the other when they are told.
 *
 *     partner_start(&a);
 *     partner_do(&a, fill, &work);       fill(&work) in thread a; returns when it is done
 *     partner_stop(&a);                  the thread ends; fails for what CHECK noted
 */
#ifndef THREAD_CACHE_H
#define THREAD_CACHE_H

#include "pool/cache.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

/* -- failures in other threads -- */

static atomic_int check_line;
static char check_text[512];

static inline bool check_that(bool condition, int line, const char *what)
{
    int none = 0;

    if (!condition && atomic_compare_exchange_strong(&check_line, &none, line)) {
        snprintf(check_text, sizeof check_text, "%.200s; last error: %.250s", what,
            mrp_error_last()->text);
    }
    return condition;
}

/* In any thread: false, and noted, when it does not hold. */
#define CHECK(condition) check_that((condition), __LINE__, #condition)

/* In the test's own thread, when the others have ended or stand still. */
static inline void check_fail(void)
{
    int line = atomic_exchange(&check_line, 0);

    if (line != 0) {
        fail_msg("in another thread, line %d: %s", line, check_text);
    }
}

/* -- threads -- */

struct partner {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    void (*job)(void *argument); /* NULL: none, or done */
    void *argument;
    bool ends;
};

static inline void *partner_main(void *argument)
{
    struct partner *partner = argument;

    pthread_mutex_lock(&partner->mutex);
    for (;;) {
        while (partner->job == NULL && !partner->ends) {
            pthread_cond_wait(&partner->changed, &partner->mutex);
        }
        if (partner->job == NULL) {
            break;
        }
        pthread_mutex_unlock(&partner->mutex);
        partner->job(partner->argument);
        pthread_mutex_lock(&partner->mutex);
        partner->job = NULL;
        pthread_cond_broadcast(&partner->changed);
    }
    pthread_mutex_unlock(&partner->mutex);
    return NULL;
}

static inline void partner_start(struct partner *partner)
{
    memset(partner, 0, sizeof *partner);
    pthread_mutex_init(&partner->mutex, NULL);
    pthread_cond_init(&partner->changed, NULL);
    assert_int_equal(pthread_create(&partner->thread, NULL, partner_main, partner), 0);
}

/* Begin a job; it may take until partner_wait. */
static inline void partner_begin(
    struct partner *partner, void (*job)(void *argument), void *argument)
{
    pthread_mutex_lock(&partner->mutex);
    partner->job = job;
    partner->argument = argument;
    pthread_cond_broadcast(&partner->changed);
    pthread_mutex_unlock(&partner->mutex);
}

/* Whether the job has ended after so many milliseconds at most. */
static inline bool partner_ends_within(struct partner *partner, long milliseconds)
{
    struct timespec until;
    bool is_done;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += milliseconds / 1000;
    until.tv_nsec += milliseconds % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&partner->mutex);
    while (partner->job != NULL &&
        pthread_cond_timedwait(&partner->changed, &partner->mutex, &until) == 0) {
    }
    is_done = partner->job == NULL;
    pthread_mutex_unlock(&partner->mutex);
    return is_done;
}

static inline void partner_wait(struct partner *partner)
{
    assert_true(partner_ends_within(partner, 60000));
    check_fail();
}

static inline void partner_do(
    struct partner *partner, void (*job)(void *argument), void *argument)
{
    partner_begin(partner, job, argument);
    partner_wait(partner);
}

static inline void partner_stop(struct partner *partner)
{
    pthread_mutex_lock(&partner->mutex);
    partner->ends = true;
    pthread_cond_broadcast(&partner->changed);
    pthread_mutex_unlock(&partner->mutex);
    pthread_join(partner->thread, NULL);
    pthread_cond_destroy(&partner->changed);
    pthread_mutex_destroy(&partner->mutex);
    check_fail();
}

/* -- pools -- */

/* The test's pool: with caches of a fair size, whatever the environment says. */
static inline void cache_create(
    struct pool_fixture *f, enum mrp_checks checks, size_t thread_cache_size)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = 512 * MRP_MIB;
    params.checks = (uint32_t)checks;
    params.thread_cache_size = thread_cache_size == 0 ? 16 * MRP_MIB : thread_cache_size;
    pool_fixture_create(f, &params);
}

static inline const struct mrp_size_class *cache_class(
    const struct mrp_pool *pool, size_t size)
{
    return &pool->classes.classes[mrp_class_of(&pool->classes, size)];
}

static inline struct mrp_depot *cache_depot(struct mrp_pool *pool, size_t size)
{
    return &pool->depots[mrp_class_of(&pool->classes, size)];
}

/* -- what a thread has -- */

/* The calling thread's. */
static inline struct mrp_cache_slot *cache_slot(const struct mrp_pool *pool)
{
    return &mrp_bins_v1->slots[pool->cache_slot];
}

/* Free regions for `size` that the calling thread keeps. */
static inline size_t cache_count(const struct mrp_pool *pool, size_t size)
{
    const struct mrp_size_class *class = cache_class(pool, size);

    return pool->cache_slot == MRP_NO_SLOT
        ? 0
        : mrp_bin_count(cache_slot(pool), class->bin, class->magazine_capacity);
}

/* Bytes of blocks of all classes. */
static inline size_t cache_bytes(
    const struct mrp_pool *pool, const struct mrp_cache_slot *slot)
{
    size_t bytes = 0;

    for (size_t i = 0; i < pool->classes.n_classes; i++) {
        const struct mrp_size_class *class = &pool->classes.classes[i];

        bytes +=
            class->block_size * mrp_bin_count(slot, class->bin, class->magazine_capacity);
    }
    return bytes;
}

static inline size_t cache_count_stack(struct mrp_links links, struct mrp_stack *stack)
{
    uint32_t next = (uint32_t)mrp_load_acquire(&stack->head);
    size_t n = 0;

    for (; next != 0; next = mrp_load_relaxed(mrp_link(links, next - 1))) {
        n++;
    }
    return n;
}

/* Magazines on the class's stacks, and single regions. */
static inline size_t cache_n_full(struct mrp_pool *pool, size_t size)
{
    return cache_count_stack(mrp_magazine_links(pool), &cache_depot(pool, size)->full);
}

static inline size_t cache_n_empty(struct mrp_pool *pool, size_t size)
{
    return cache_count_stack(mrp_magazine_links(pool), &cache_depot(pool, size)->empty);
}

static inline size_t cache_n_loose(struct mrp_pool *pool, size_t size)
{
    return cache_count_stack(mrp_region_links(pool), &cache_depot(pool, size)->loose);
}

#endif
