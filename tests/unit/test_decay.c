/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Decay: idle memory goes when it has been idle for long, by way of calls that are slow
 * anyhow.
 */
#include "small_chunks.h"
#include "standing_clock.h"

#define PAGE 4096
#define DECAY_MS 800
#define TICK_MS (DECAY_MS / 8) /* how often the pool looks */

static struct mrp_region *regions[4 * PAGES_OF(1)];

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

/* Time passes, and a program does what does not grow: some magazines full, of another size. */
static void go_on(struct pool_fixture *f, uint64_t milliseconds)
{
    coarse_ms += milliseconds;
    take_all(f, regions, 400, 64);
    give_all(f, regions, 400);
}

/* What is free now goes until so many bytes are mapped: nothing before its time, and then one
 * chunk at each look. */
static void check_shrinks(struct pool_fixture *f, size_t n_going, size_t mapped_size)
{
    uint64_t passed = 0, longest = DECAY_MS + (n_going + 3) * TICK_MS;
    size_t before = pool_fixture_stats(f->pool).n_released;

    assert_true(pool_fixture_stats(f->pool).mapped_size > mapped_size);
    for (; passed <= longest; passed += TICK_MS) {
        struct mrp_pool_stats stats = pool_fixture_stats(f->pool);

        assert_true(passed > DECAY_MS || stats.n_released == before);
        assert_true(stats.n_released <= before + passed / TICK_MS);
        go_on(f, TICK_MS);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_released, before + n_going);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, mapped_size);
}

static void decay__gives_back_what_is_idle_for_long(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *live;

    create(f, DECAY_MS, 0);
    live = pool_fixture_alloc(f, 64); /* keeps the first chunk */
    take_all(f, regions, 400, 64);
    give_all(f, regions, 400);
    make_free(f, 4);
    check_shrinks(f, 4, CHUNK);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    check_held(f, 1);
    give_all(f, &live, 1);
}

static void decay__gives_back_idle_large_ones(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *live;

    create(f, DECAY_MS, 0);
    live = pool_fixture_alloc(f, 64);
    take_all(f, regions, 3, 3 * CHUNK);
    give_all(f, regions, 3);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 3);
    check_shrinks(f, 3, CHUNK);
    check_held(f, 1);
    give_all(f, &live, 1);
}

/* By requests that are larger than huge alone. */
static void decay__goes_on_in_calls_for_large_ones(void **state)
{
    struct pool_fixture *f = *state;

    create(f, DECAY_MS, 0);
    make_free(f, 4);
    for (size_t i = 0; i < 8 + 4 + 3; i++) {
        coarse_ms += TICK_MS;
        pool_fixture_free(pool_fixture_alloc(f, 3 * CHUNK));
    }
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 3 * CHUNK);
}

static void not_called(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    (void)waiter;
    (void)region;
    fail_msg("called back with %s", mrp_status_name(status));
}

/* By a program that has no other calls: an event loop, and one that works in bulk. */
static void check_calls_of_every_kind(struct pool_fixture *f)
{
    struct mrp_waiter waiter = MRP_WAITER_INIT(not_called, NULL);

    for (size_t how = 0; how < 2; how++) {
        take_all(f, regions, 3, 3 * CHUNK);
        give_all(f, regions, 3);
        assert_true(pool_fixture_stats(f->pool).n_idle >= 3);
        for (size_t i = 0; i < 8 + 3 + 3; i++) {
            coarse_ms += TICK_MS;
            for (size_t n = 0; n < 64; n++) {
                if (how == 0) {
                    assert_int_equal(
                        mrp_region_alloc_async(f->pool, 64, &waiter, regions), MRP_OK);
                    pool_fixture_free(regions[0]);
                } else {
                    assert_int_equal(mrp_region_alloc_many(f->pool, 64, 9, regions), 9);
                    assert_int_equal(mrp_region_free_many(regions, 9, NULL), MRP_OK);
                }
            }
        }
        assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    }
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
}

static void decay__goes_on_in_calls_of_every_kind(void **state)
{
    struct pool_fixture *f = *state;

    create(f, DECAY_MS, 0);
    check_calls_of_every_kind(f);
}

/* Nobody counts the owners of the blocks, but descriptors that have served large ones come
 * with a count. */
static void decay__goes_on_where_nothing_is_checked(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 16);

    params.decay_ms = DECAY_MS;
    params.checks = MRP_CHECKS_NONE;
    pool_fixture_create(f, &params);
    take_all(f, regions, 256, 64);
    for (size_t i = 0; i < 256; i++) {
        regions[i]->generation = 1;
    }
    give_all(f, regions, 256);
    check_calls_of_every_kind(f);
}

/* However often the pool looks; and then at the next look. */
static void decay__takes_nothing_before_its_time(void **state)
{
    struct pool_fixture *f = *state;

    create(f, DECAY_MS, 0);
    take_all(f, regions, 2, 2 * CHUNK);
    give_all(f, regions, 2);
    for (uint64_t passed = 5; passed <= DECAY_MS; passed += 5) {
        go_on(f, 5);
        assert_int_equal(f->networks[0].n_deregister, 0);
    }
    go_on(f, TICK_MS);
    assert_int_equal(f->networks[0].n_deregister, 1);
    go_on(f, TICK_MS);
    assert_int_equal(f->networks[0].n_deregister, 2);
}

static void decay__leaves_the_reserve(void **state)
{
    struct pool_fixture *f = *state;

    create(f, DECAY_MS, 2 * CHUNK);
    make_free(f, 4);
    for (size_t i = 0; i < 60; i++) {
        go_on(f, TICK_MS);
        assert_true(pool_fixture_stats(f->pool).mapped_size >= 2 * CHUNK);
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
        go_on(f, UINT32_MAX / 10);
    }
    assert_int_equal(f->networks[0].n_deregister, 0);
}

static void decay__never_of_a_pool_that_never_frees(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 16);

    params.decay_ms = DECAY_MS;
    params.never_free = true;
    pool_fixture_create(f, &params);
    take_all(f, regions, 2, 2 * CHUNK);
    give_all(f, regions, 2);
    make_free(f, 4);
    for (size_t i = 0; i < 40; i++) {
        go_on(f, TICK_MS);
    }
    assert_int_equal(f->networks[0].n_deregister, 0);
}

/* A free is quick: idle memory waits for a call that is not. */
static void decay__is_not_paid_by_single_frees(void **state)
{
    struct pool_fixture *f = *state;

    create(f, DECAY_MS, 0);
    take_all(f, regions, 100, PAGE);
    take_all(f, regions + 100, 2, 2 * CHUNK);
    give_all(f, regions + 100, 2);
    for (size_t i = 0; i < 50; i++) { /* less than a magazine */
        coarse_ms += TICK_MS;
        pool_fixture_free(regions[i]);
    }
    assert_int_equal(f->networks[0].n_deregister, 0);
    give_all(f, regions + 50, 50);
    go_on(f, 0);
    assert_true(f->networks[0].n_deregister > 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(decay__gives_back_what_is_idle_for_long),
        POOL_TEST(decay__gives_back_idle_large_ones),
        POOL_TEST(decay__goes_on_in_calls_for_large_ones),
        POOL_TEST(decay__goes_on_in_calls_of_every_kind),
        POOL_TEST(decay__goes_on_where_nothing_is_checked),
        POOL_TEST(decay__takes_nothing_before_its_time),
        POOL_TEST(decay__leaves_the_reserve),
        POOL_TEST(decay__never),
        POOL_TEST(decay__never_of_a_pool_that_never_frees),
        POOL_TEST(decay__is_not_paid_by_single_frees),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
