/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Decay: idle memory goes when it has been idle for long, by way of calls that are slow
 * anyhow. How soon is not tested: not before its time, and within ten seconds.
 */
#include "small_chunks.h"

#include <time.h>

#define PAGE 4096
#define EVENTUALLY_MS 60000 /* a busy machine under a tool */

static struct mrp_region *regions[4 * PAGES_OF(1)];

static uint64_t now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static void pause_ms(long milliseconds)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

static void create(struct pool_fixture *f, uint32_t decay_ms, size_t reserve)
{
    struct mrp_pool_params params = small_chunks_params(f, 16);

    params.decay_ms = decay_ms;
    params.reserve = reserve;
    pool_fixture_create(f, &params);
}

/* n chunks are free, none of them idle yet. */
static void make_free(struct pool_fixture *f, size_t n_chunks)
{
    take_all(f, regions, PAGES_OF(n_chunks), PAGE);
    give_all(f, regions, PAGES_OF(n_chunks));
}

/* What a program does that does not grow: some magazines full, of another size. */
static void go_on(struct pool_fixture *f)
{
    take_all(f, regions, 400, 64);
    give_all(f, regions, 400);
    pause_ms(5);
}

/* Until no more than so many bytes are idle or mapped; false: for a minute in vain. */
static bool shrinks_to(struct pool_fixture *f, size_t mapped_size)
{
    uint64_t end = now_ms() + EVENTUALLY_MS;

    while (pool_fixture_stats(f->pool).mapped_size > mapped_size && now_ms() < end) {
        go_on(f);
    }
    return pool_fixture_stats(f->pool).mapped_size <= mapped_size;
}

static void decay__gives_back_what_is_idle_for_long(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *live;

    create(f, 20, 0);
    live = pool_fixture_alloc(f, 64); /* keeps the first chunk */
    take_all(f, regions, 400, 64);
    give_all(f, regions, 400);
    make_free(f, 4);
    assert_true(pool_fixture_stats(f->pool).mapped_size >= 4 * CHUNK);
    assert_true(shrinks_to(f, CHUNK));
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    check_held(f, 1);
    give_all(f, &live, 1);
}

static void decay__gives_back_idle_large_ones(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *live;

    create(f, 20, 0);
    live = pool_fixture_alloc(f, 64);
    take_all(f, regions, 3, 3 * CHUNK);
    give_all(f, regions, 3);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 3);
    assert_true(shrinks_to(f, CHUNK));
    check_held(f, 1);
    give_all(f, &live, 1);
}

/* By requests that are larger than huge alone. */
static void decay__goes_on_in_calls_for_large_ones(void **state)
{
    struct pool_fixture *f = *state;
    uint64_t end = now_ms() + EVENTUALLY_MS;

    create(f, 20, 0);
    make_free(f, 4);
    while (pool_fixture_stats(f->pool).mapped_size > 3 * CHUNK && now_ms() < end) {
        struct mrp_region *region = pool_fixture_alloc(f, 3 * CHUNK);

        pool_fixture_free(region);
        pause_ms(5);
    }
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 3 * CHUNK);
}

static void decay__takes_nothing_before_its_time(void **state)
{
    static const uint32_t limit = 1500;
    struct pool_fixture *f = *state;
    uint64_t freed;

    create(f, limit, 0);
    take_all(f, regions, 2, 2 * CHUNK);
    freed = now_ms();
    give_all(f, regions, 2);
    for (size_t i = 0; i < 40; i++) {
        go_on(f);
        if (f->networks[0].n_deregister > 0) {
            assert_true(now_ms() - freed >= limit - 20); /* a coarse clock */
        }
    }
}

static void decay__leaves_the_reserve(void **state)
{
    struct pool_fixture *f = *state;

    create(f, 20, 2 * CHUNK);
    make_free(f, 4);
    assert_true(shrinks_to(f, 3 * CHUNK));
    for (size_t i = 0; i < 60; i++) {
        go_on(f);
    }
    assert_in_range(pool_fixture_stats(f->pool).mapped_size, 2 * CHUNK, 3 * CHUNK);
}

static void decay__never(void **state)
{
    struct pool_fixture *f = *state;

    create(f, UINT32_MAX, 0);
    take_all(f, regions, 2, 2 * CHUNK);
    give_all(f, regions, 2);
    make_free(f, 4);
    for (size_t i = 0; i < 40; i++) {
        go_on(f);
    }
    assert_int_equal(f->networks[0].n_deregister, 0);
}

static void decay__never_of_a_pool_that_never_frees(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 16);

    params.decay_ms = 10;
    params.never_free = true;
    pool_fixture_create(f, &params);
    take_all(f, regions, 2, 2 * CHUNK);
    give_all(f, regions, 2);
    make_free(f, 4);
    for (size_t i = 0; i < 40; i++) {
        go_on(f);
    }
    assert_int_equal(f->networks[0].n_deregister, 0);
}

/* A free is quick: idle memory waits for a call that is not. */
static void decay__is_not_paid_by_single_frees(void **state)
{
    struct pool_fixture *f = *state;

    create(f, 20, 0);
    take_all(f, regions, 100, PAGE);
    take_all(f, regions + 100, 2, 2 * CHUNK);
    give_all(f, regions + 100, 2);
    pause_ms(100);
    for (size_t i = 0; i < 50; i++) { /* less than a magazine */
        pool_fixture_free(regions[i]);
        pause_ms(2);
    }
    assert_int_equal(f->networks[0].n_deregister, 0);
    give_all(f, regions + 50, 50);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(decay__gives_back_what_is_idle_for_long),
        POOL_TEST(decay__gives_back_idle_large_ones),
        POOL_TEST(decay__goes_on_in_calls_for_large_ones),
        POOL_TEST(decay__takes_nothing_before_its_time),
        POOL_TEST(decay__leaves_the_reserve),
        POOL_TEST(decay__never),
        POOL_TEST(decay__never_of_a_pool_that_never_frees),
        POOL_TEST(decay__is_not_paid_by_single_frees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
