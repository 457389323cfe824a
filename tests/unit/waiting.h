/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of waiting share: requests that threads of their own stand in line with.
 *
 *     request_begin(&a, f, 4096, 60000);      returns when it stands in line
 *     ...                                     make room
 *     request_get(&a)                         its region, or NULL and a.error
 */
#ifndef WAITING_H
#define WAITING_H

#include "small_chunks.h"
#include "thread_cache.h"

#include <time.h>

#define LONG_MS 60000 /* never to be reached: a hang is the failure */

struct request {
    struct partner partner;
    struct mrp_pool *pool;
    size_t size;
    uint32_t wait_ms;
    struct mrp_region *region;
    struct mrp_error error;
    uint64_t waited_ms;
    size_t order; /* of its end: from 1 on */
};

static atomic_size_t n_ended;

static inline uint64_t clock_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static inline void pause_ms(long milliseconds)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

static inline void request_run(void *argument)
{
    struct request *request = argument;
    struct mrp_region_request wish = MRP_REGION_REQUEST_INIT;
    uint64_t begin = clock_ms();

    wish.wait_ms = request->wait_ms;
    mrp_error_clear();
    request->region = mrp_region_alloc_with(request->pool, request->size, &wish);
    request->error = *mrp_error_last();
    request->waited_ms = clock_ms() - begin;
    request->order = atomic_fetch_add(&n_ended, 1) + 1;
}

static inline size_t n_waiting(struct mrp_pool *pool)
{
    return pool_fixture_stats(pool).n_waiting;
}

/* Returns when one more stands in line. */
static inline void request_begin(
    struct request *request, struct pool_fixture *f, size_t size, uint32_t wait_ms)
{
    size_t before = n_waiting(f->pool);
    uint64_t end = clock_ms() + LONG_MS;

    memset(request, 0, sizeof *request);
    request->pool = f->pool;
    request->size = size;
    request->wait_ms = wait_ms;
    partner_start(&request->partner);
    partner_begin(&request->partner, request_run, request);
    while (n_waiting(f->pool) == before && clock_ms() < end) {
        assert_int_equal(request->order, 0);
        pause_ms(1);
    }
    pause_ms(20); /* its first tries are over */
}

static inline bool request_is_over(struct request *request)
{
    return partner_ends_within(&request->partner, 30);
}

static inline struct mrp_region *request_end(struct request *request)
{
    partner_wait(&request->partner);
    partner_stop(&request->partner);
    return request->region;
}

static inline struct mrp_region *request_get(struct request *request)
{
    if (request_end(request) == NULL) {
        fail_msg("a request for %zu bytes: %s", request->size, request->error.text);
    }
    return request->region;
}

#endif
