/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Two threads at one rail: what the second does while the first is inside the network.
 */
#include "gate.h"
#include "standing_clock.h"

#include "pool/pool.h"

/* -- a chunk is ensured -- */

/* The registration under way is the rail's: who removes the rail waits for it, and the
 * provider does not go under it. */
static void remove__waits_for_a_chunk_that_is_ensured(void **state)
{
    struct pool_fixture *f = *state;
    struct beside ensure = {.rail = 1}, removal = {.rail = 1};
    struct gate gate;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    ensure.region = pool_fixture_alloc(f, 2 * MRP_MIB);
    gate_init(&gate, 1);
    gate_at(&f->networks[1], &gate);
    beside_begin(&ensure, f, beside_ensure);
    gate_await(&gate);
    beside_begin(&removal, f, beside_remove);
    await_state(f, 1, MRP_RAIL_LEAVING);
    assert_true(beside_goes_on(&removal));
    assert_refused(mrp_provider_close(f->rails[1]), MRP_ERR_BUSY, "serves 1 pools");
    gate_open(&gate);
    assert_int_equal(beside_end(&removal), MRP_OK);
    beside_end(&ensure);
    assert_int_not_equal(ensure.status, MRP_OK); /* "is leaving", or "has no rail" */
    assert_int_equal(f->networks[1].n_register, 1);
    assert_int_equal(f->networks[1].n_live, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    check_keys(f, ensure.region, 0, f->rails[0]);
    pool_fixture_free(ensure.region);
}

/* A second one that wants the same waits, and finds it done. */
static void ensure__of_two_threads_registers_once(void **state)
{
    struct pool_fixture *f = *state;
    struct beside first = {.rail = 1}, second = {.rail = 1};
    struct gate gate;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    first.region = second.region = pool_fixture_alloc(f, 2 * MRP_MIB);
    gate_init(&gate, 1);
    gate_at(&f->networks[1], &gate);
    beside_begin(&first, f, beside_ensure);
    gate_await(&gate);
    beside_begin(&second, f, beside_ensure);
    assert_true(beside_goes_on(&second));
    gate_open(&gate);
    assert_int_equal(beside_end(&first), MRP_OK);
    assert_int_equal(beside_end(&second), MRP_OK);
    assert_int_equal(f->networks[1].n_register, 1);
    check_keys(f, first.region, 1, f->rails[1]);
    pool_fixture_free(first.region);
}

/* MRP_OK would promise keys that are refused. */
static void ensure__says_that_the_rail_failed_meanwhile(void **state)
{
    struct pool_fixture *f = *state;
    struct beside ensure = {.rail = 1};
    struct gate gate;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    ensure.region = pool_fixture_alloc(f, 2 * MRP_MIB);
    gate_init(&gate, 1);
    gate_at(&f->networks[1], &gate);
    beside_begin(&ensure, f, beside_ensure);
    gate_await(&gate);
    assert_int_equal(mrp_pool_rail_fail(f->pool, 1, "port 1 is down"), MRP_OK);
    gate_open(&gate);
    beside_refused(&ensure, MRP_ERR_UNAVAILABLE, "port 1 is down");
    refuse_keys(f, ensure.region, 1, MRP_ERR_UNAVAILABLE, "port 1 is down");
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(ensure.region);
}

static void ensure_1_and_2(void *argument)
{
    struct beside *beside = argument;

    mrp_error_clear();
    beside->status = mrp_region_ensure(beside->region, 6);
    beside->error = *mrp_error_last();
}

/* A key that somebody has seen is in use: of several rails none is shown before the last is
 * there, so that nothing is taken back which was shown. */
static void ensure__shows_no_key_before_all_are_there(void **state)
{
    struct pool_fixture *f = *state;
    struct beside both = {.rail = 1}, one = {.rail = 1};
    struct gate gate;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    assert_int_equal(add(f, f->rails[2], MRP_RAIL_LAZY), 2);
    both.region = one.region = pool_fixture_alloc(f, 2 * MRP_MIB);
    test_provider_fail_next(&f->networks[2], 1, 1, MRP_ERR_REGISTER);
    gate_init(&gate, 1);
    gate_at(&f->networks[2], &gate);
    beside_begin(&both, f, ensure_1_and_2);
    gate_await(&gate);
    assert_int_equal(f->networks[1].n_live, 1);
    refuse_keys(f, both.region, 1, MRP_ERR_UNSUPPORTED, "mrp_region_ensure first");
    beside_begin(&one, f, beside_ensure);
    assert_true(beside_goes_on(&one));
    gate_open(&gate);
    beside_refused(&both, MRP_ERR_REGISTER, "fails as told");
    assert_int_equal(beside_end(&one), MRP_OK); /* it has done it itself */
    assert_int_equal(f->networks[1].n_register, 2);
    assert_int_equal(f->networks[1].n_live, 1);
    check_keys(f, one.region, 1, f->rails[1]);
    f->networks[2].fail_at = 0;
    assert_int_equal(mrp_region_ensure(both.region, 6), MRP_OK);
    check_keys(f, both.region, 1, f->rails[1]);
    check_keys(f, both.region, 2, f->rails[2]);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(both.region);
}

/* Of two rails the one fails that has been registered with already. */
static void ensure__looks_at_all_rails_in_the_end(void **state)
{
    struct pool_fixture *f = *state;
    struct beside both = {.rail = 1};
    struct gate gate;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    assert_int_equal(add(f, f->rails[2], MRP_RAIL_LAZY), 2);
    both.region = pool_fixture_alloc(f, 2 * MRP_MIB);
    gate_init(&gate, 1);
    gate_at(&f->networks[2], &gate);
    beside_begin(&both, f, ensure_1_and_2);
    gate_await(&gate);
    assert_int_equal(mrp_pool_rail_fail(f->pool, 1, "port 1 is down"), MRP_OK);
    gate_open(&gate);
    beside_refused(&both, MRP_ERR_UNAVAILABLE, "port 1 is down");
    assert_int_equal(f->networks[1].n_live, 0);
    assert_int_equal(f->networks[2].n_live, 0);
    refuse_keys(f, both.region, 2, MRP_ERR_UNSUPPORTED, "mrp_region_ensure first");
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(both.region);
}

/* What fills the rail is going: that is waited for, a second at most, and the clock stands
 * until it has gone. */
static void ensure__waits_for_what_a_trim_gives_up(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct beside trim = {.rail = 0}, ensure = {.rail = 0};
    uint32_t lazy = MRP_RAIL_LAZY;
    struct mrp_region *registered;
    struct gate gate;
    bool goes_on;

    params.rail_policies = &lazy;
    params.max_registrations = 1;
    params.decay_ms = UINT32_MAX;
    pool_fixture_create(f, &params);
    registered = pool_fixture_alloc(f, 2 * MRP_MIB);
    ensure.region = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_int_equal(mrp_region_ensure(registered, 1), MRP_OK);
    pool_fixture_free(registered);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
    gate_init(&gate, 1);
    gate_at_deregister(&f->networks[0], &gate);
    beside_begin(&trim, f, beside_trim);
    gate_await(&gate);
    stand_still();
    beside_begin(&ensure, f, beside_ensure);
    goes_on = beside_goes_on(&ensure);
    gate_open(&gate);
    if (beside_end(&ensure) != MRP_OK) {
        print_error("beside the trim: %s\n", ensure.error.text);
    }
    go_on_again();
    assert_int_equal(beside_end(&trim), MRP_OK);
    f->networks[0].on_deregister = NULL; /* the gate goes before the fixture */
    assert_int_equal(ensure.status, MRP_OK);
    assert_true(goes_on);
    check_keys(f, ensure.region, 0, f->rails[0]);
    assert_int_equal(f->networks[0].n_live, 1);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(ensure.region);
}

/* -- a rail joins -- */

/* Nobody sees a key of a rail that may not come to be. */
static void add__shows_no_key_before_all_are_there(void **state)
{
    struct pool_fixture *f = *state;
    struct beside joining = {.provider = f->rails[1], .policy = MRP_RAIL_EAGER};
    struct mrp_region *first, *last, *grown;
    struct gate gate;

    pool_fixture_create(f, NULL);
    first = pool_fixture_alloc(f, 2 * MRP_MIB);
    last = pool_fixture_alloc(f, 3 * MRP_MIB);
    for (int is_refused = 1; is_refused >= 0; is_refused--) {
        /* the second of the walk; the one that is grown beside it is the third */
        if (is_refused) {
            test_provider_fail_next(&f->networks[1], 3, 1, MRP_ERR_REGISTER);
        } else {
            f->networks[1].fail_at = 0;
        }
        gate_init(&gate, 2);
        gate_at(&f->networks[1], &gate);
        beside_begin(&joining, f, beside_add);
        gate_await(&gate);
        assert_int_equal(query(f, 1).state, MRP_RAIL_JOINING);
        refuse_keys(f, first, 1, MRP_ERR_UNSUPPORTED, "is joining");
        assert_refused(mrp_region_ensure(first, 2), MRP_ERR_UNSUPPORTED, "is joining");
        grown = pool_fixture_alloc(f, 5 * MRP_MIB); /* registered there, and not shown */
        assert_int_equal(f->networks[1].n_live, 2);
        refuse_keys(f, grown, 1, MRP_ERR_UNSUPPORTED, "is joining");
        check_keys(f, grown, 0, f->rails[0]);
        gate_open(&gate);
        if (is_refused) {
            beside_refused(&joining, MRP_ERR_REGISTER, "fails as told");
            assert_int_equal(f->networks[1].n_live, 0);
            refuse_keys(f, first, 1, MRP_ERR_UNSUPPORTED, "has 1 rails");
        } else {
            assert_int_equal(beside_end(&joining), MRP_OK);
            check_keys(f, first, 1, f->rails[1]);
            check_keys(f, last, 1, f->rails[1]);
            check_keys(f, grown, 1, f->rails[1]);
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        pool_fixture_free(grown);
        assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    }
    pool_fixture_free(first);
    pool_fixture_free(last);
}

/* It cannot join, as is found out at the end; until then others get their memory. */
static void add__of_a_rail_with_no_room_refuses_nobody_else(void **state)
{
    struct pool_fixture *f = *state;
    struct beside joining = {.policy = MRP_RAIL_EAGER};
    struct mrp_region *regions[2], *grown;
    struct test_provider few;
    struct gate gate;

    pool_fixture_create(f, NULL);
    test_provider_init(&few);
    few.max_registrations = 1;
    gate_init(&gate, 1);
    gate_at(&few, &gate);
    assert_int_equal(mrp_provider_create(
                         f->context, "few", test_provider_ops(), &few, &joining.provider),
        MRP_OK);
    regions[0] = pool_fixture_alloc(f, 2 * MRP_MIB);
    regions[1] = pool_fixture_alloc(f, 3 * MRP_MIB);
    pool_fixture_free(pool_fixture_alloc(f, 4 * MRP_MIB)); /* idle, and to stay so */
    beside_begin(&joining, f, beside_add);
    gate_await(&gate);
    grown = mrp_region_alloc(f->pool, 20 * MRP_MIB);
    gate_open(&gate);
    beside_refused(&joining, MRP_ERR_LIMIT, "max_registrations");
    if (grown == NULL) {
        fail_msg("beside the joining rail: %s", mrp_error_last()->text);
    }
    assert_int_equal(pool_fixture_stats(f->pool).idle_size, 4 * MRP_MIB);
    assert_int_equal(few.n_register, 1);
    pool_fixture_check_registrations(f, 1);
    pool_fixture_free(grown);
    pool_fixture_free(regions[0]);
    pool_fixture_free(regions[1]);
    assert_int_equal(mrp_provider_close(joining.provider), MRP_OK);
    assert_string_equal(few.first_error, "");
    test_provider_fini(&few);
}

/* -- a rail fails while its keys are asked for -- */

static void beside_pack(void *argument)
{
    struct beside *beside = argument;
    unsigned char buffer[4096];
    size_t size = sizeof buffer;

    beside->status = mrp_region_key_pack(beside->region, 3, buffer, &size);
    beside->error = *mrp_error_last();
}

static void beside_native(void *argument)
{
    struct beside *beside = argument;
    unsigned char buffer[4096];
    size_t size = sizeof buffer;

    beside->status = mrp_region_native_key(beside->region, 1, buffer, &size);
    beside->error = *mrp_error_last();
}

/* It has seen that the rail works, and waits for what guards the registrations. */
static void keys__say_that_the_rail_failed_meanwhile(void **state)
{
    static void (*const asks[])(void *) = {beside_pack, beside_native};
    struct pool_fixture *f = *state;
    pthread_mutex_t *guard;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    guard = &f->pool->context->chunks.mutex;
    for (size_t i = 0; i < 2; i++) {
        struct beside keys = {.region = region};

        assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
        pthread_mutex_lock(guard);
        beside_begin(&keys, f, asks[i]);
        assert_true(beside_goes_on(&keys));
        assert_int_equal(mrp_pool_rail_fail(f->pool, 1, "port 1 is down"), MRP_OK);
        pthread_mutex_unlock(guard);
        beside_refused(&keys, MRP_ERR_UNAVAILABLE, "port 1 is down");
        remove_rail(f, 1);
    }
    pool_fixture_free(region);
}

/* -- a request meets a rail that ends -- */

/* Statuses that a device gives which is going, short of saying that it is gone. */
static const enum mrp_status last_words[] = {MRP_ERR_SYSTEM, MRP_ERR_INVALID,
    MRP_ERR_UNSUPPORTED, MRP_ERR_AGAIN, MRP_ERR_LIMIT, MRP_ERR_REGISTER};

static void growth__does_not_fail_for_a_rail_that_ends(
    struct pool_fixture *f, bool is_removed)
{
    struct beside growth = {.size = 3 * MRP_MIB}, removal = {.rail = 1};
    struct mrp_region *idle;
    struct gate gate;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < sizeof last_words / sizeof *last_words; i++) {
        f->networks[1].on_register = NULL;
        assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
        idle = pool_fixture_alloc(f, 20 * MRP_MIB);
        pool_fixture_free(idle);
        gate_init(&gate, 1);
        gate_at(&f->networks[1], &gate);
        test_provider_fail_next(&f->networks[1], 1, 0, last_words[i]);
        beside_begin(&growth, f, beside_alloc);
        gate_await(&gate);
        if (is_removed) {
            beside_begin(&removal, f, beside_remove);
            await_state(f, 1, MRP_RAIL_LEAVING);
        } else {
            assert_int_equal(mrp_pool_rail_fail(f->pool, 1, "cable out"), MRP_OK);
        }
        gate_open(&gate);
        if (beside_end(&growth) != MRP_OK) {
            fail_msg("%s: %s", mrp_status_name(last_words[i]), growth.error.text);
        }
        assert_int_equal(
            is_removed ? beside_end(&removal) : mrp_pool_rail_remove(f->pool, 1), MRP_OK);
        f->networks[1].fail_at = 0;
        assert_int_equal(gate.n_calls, 1);
        assert_int_equal(pool_fixture_stats(f->pool).idle_size, 20 * MRP_MIB);
        pool_fixture_check_registrations(f, 1);
        pool_fixture_free(growth.region);
        assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    }
}

static void growth__does_not_fail_for_a_rail_that_has_failed(void **state)
{
    growth__does_not_fail_for_a_rail_that_ends(*state, false);
}

static void growth__does_not_fail_for_a_rail_that_leaves(void **state)
{
    growth__does_not_fail_for_a_rail_that_ends(*state, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(remove__waits_for_a_chunk_that_is_ensured),
        POOL_TEST(ensure__of_two_threads_registers_once),
        POOL_TEST(ensure__says_that_the_rail_failed_meanwhile),
        POOL_TEST(ensure__shows_no_key_before_all_are_there),
        POOL_TEST(ensure__looks_at_all_rails_in_the_end),
        POOL_TEST(ensure__waits_for_what_a_trim_gives_up),
        POOL_TEST(add__shows_no_key_before_all_are_there),
        POOL_TEST(add__of_a_rail_with_no_room_refuses_nobody_else),
        POOL_TEST(growth__does_not_fail_for_a_rail_that_has_failed),
        POOL_TEST(growth__does_not_fail_for_a_rail_that_leaves),
        POOL_TEST(keys__say_that_the_rail_failed_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
