/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who is called back, and when: with each room that comes once, never without one, and not
 * missed by those who stand behind somebody who has lost interest.
 */
#include "support/pool_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define PATIENCE_MS 10000 /* until a call that should come is given up */
#define QUIET_MS 300 /* in which a call that should not come would have come */

/* A request that is called back. */
struct caller {
    struct mrp_waiter waiter; /* first */
    struct mrp_pool *pool;
    size_t size;
    bool asks_again; /* when there is room to grow */
    atomic_int n_calls;
};

static void called(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    struct caller *caller = (struct caller *)waiter;

    atomic_fetch_add(&caller->n_calls, 1);
    if (status == MRP_ERR_AGAIN && caller->asks_again) {
        if (mrp_region_alloc_async(caller->pool, caller->size, waiter, &region) !=
            MRP_OK) {
            region = NULL;
        }
    }
    if (region != NULL) {
        mrp_region_free(region);
    }
}

static void stand_in_line(struct caller *caller, struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region;

    caller->waiter = (struct mrp_waiter)MRP_WAITER_INIT(called, NULL);
    caller->pool = pool;
    caller->size = size;
    atomic_store(&caller->n_calls, 0);
    assert_int_equal(
        mrp_region_alloc_async(pool, size, &caller->waiter, &region), MRP_ERR_AGAIN);
}

static bool is_called(struct caller *caller)
{
    for (int ms = 0; ms < PATIENCE_MS && atomic_load(&caller->n_calls) == 0; ms++) {
        usleep(1000);
    }
    return atomic_load(&caller->n_calls) > 0;
}

static void create(struct pool_fixture *f, size_t max_bytes, size_t chunk)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = max_bytes;
    params.chunk_min = params.chunk_max = chunk;
    params.preset = MRP_PRESET_SHARED;
    pool_fixture_create(f, &params);
}

/* A client does as it is told, and asks again: only room may make it do so. */
static void call__comes_with_room_alone(void **state)
{
    struct caller caller = {.asks_again = true};
    struct pool_fixture *f = *state;
    struct mrp_region *held, *small;

    create(f, 4 * MRP_MIB, MRP_MIB);
    held = pool_fixture_alloc(f, 2 * MRP_MIB);
    small = pool_fixture_alloc(f, 2 * MRP_MIB - 1);
    stand_in_line(&caller, f->pool, 3 * MRP_MIB);
    usleep(QUIET_MS * 1000);
    assert_int_equal(atomic_load(&caller.n_calls), 0);
    pool_fixture_free(small); /* room, but not enough: one call, one try */
    assert_true(is_called(&caller));
    usleep(QUIET_MS * 1000);
    assert_in_range(atomic_load(&caller.n_calls), 1, 4);
    atomic_store(&caller.n_calls, 0);
    pool_fixture_free(held);
    assert_true(is_called(&caller));
    mrp_waiter_cancel(&caller.waiter);
}

/* The elder of a class is called back and does not ask again: the next one is told, too. */
static void call__goes_on_to_those_behind(void **state)
{
    struct caller elder = {.asks_again = false}, next = {.asks_again = true};
    struct pool_fixture *f = *state;
    struct mrp_region *regions[2048], *held;
    size_t n = 0;

    create(f, 8 * MRP_MIB, 4 * MRP_MIB);
    held = pool_fixture_alloc(f, 4 * MRP_MIB);
    while (n < 2048 && (regions[n] = mrp_region_alloc(f->pool, 4096)) != NULL) {
        n++;
    }
    stand_in_line(&elder, f->pool, 8192);
    stand_in_line(&next, f->pool, 8192);
    pool_fixture_free(held);
    assert_true(is_called(&elder));
    assert_true(is_called(&next));
    mrp_waiter_cancel(&elder.waiter);
    mrp_waiter_cancel(&next.waiter);
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
}

/* -- beside a charge that is taken back -- */

static atomic_bool is_registering, may_fail;

static void hold_registration(struct test_provider *network, void *address, size_t size)
{
    (void)network;
    (void)address;
    (void)size;
    atomic_store(&is_registering, true);
    while (!atomic_load(&may_fail)) {
        usleep(1000);
    }
}

static void *fail_to_grow(void *pool)
{
    return mrp_region_alloc(pool, 6 * MRP_MIB);
}

/* One request is refused while another one's registration, that has taken the budget, is
 * still to fail: it is told then. */
static void refused_beside(struct pool_fixture *f, struct mrp_pool *waits_in, size_t size)
{
    struct caller caller = {.asks_again = true};
    pthread_t thread;
    void *region;

    atomic_store(&is_registering, false);
    atomic_store(&may_fail, false);
    f->networks[0].on_register = hold_registration;
    test_provider_fail_next(&f->networks[0], 1, 8, MRP_ERR_REGISTER);
    assert_int_equal(pthread_create(&thread, NULL, fail_to_grow, f->pool), 0);
    while (!atomic_load(&is_registering)) {
        usleep(1000);
    }
    stand_in_line(&caller, waits_in, size);
    atomic_store(&may_fail, true);
    assert_int_equal(pthread_join(thread, &region), 0);
    assert_null(region);
    assert_true(is_called(&caller));
    f->networks[0].on_register = NULL;
    mrp_waiter_cancel(&caller.waiter);
}

static void call__after_a_charge_of_the_pool_that_failed(void **state)
{
    struct pool_fixture *f = *state;

    create(f, 6 * MRP_MIB, MRP_MIB);
    refused_beside(f, f->pool, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(call__comes_with_room_alone),
        POOL_TEST(call__goes_on_to_those_behind),
        POOL_TEST(call__after_a_charge_of_the_pool_that_failed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
