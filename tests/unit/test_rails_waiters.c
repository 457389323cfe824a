/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who was refused for a full rail, or for memory that a network kept, is called back when
 * that is over. Nothing else makes room here: a call that does not come is never made up
 * for.
 */
#include "gate.h"

struct caller {
    struct mrp_waiter waiter; /* first */
    sem_t is_called;
    struct mrp_pool *pool;
    size_t size;
};

static void called(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    struct caller *caller = (struct caller *)waiter;

    /* "there may be room": asked again, as a client does */
    if (status == MRP_ERR_AGAIN &&
        mrp_region_alloc_async(caller->pool, caller->size, waiter, &region) != MRP_OK) {
        return;
    }
    if (region != NULL) {
        mrp_region_free(region);
    }
    sem_post(&caller->is_called);
}

static void stand_in_line(struct caller *caller, struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region;

    caller->waiter = (struct mrp_waiter)MRP_WAITER_INIT(called, NULL);
    caller->pool = pool;
    caller->size = size;
    sem_init(&caller->is_called, 0, 0);
    assert_refused(
        mrp_region_alloc_async(pool, size, &caller->waiter, &region), MRP_ERR_AGAIN, "");
    assert_int_not_equal(sem_trywait(&caller->is_called), 0);
}

/* By the call that made room, before it returned. */
static void check_called(struct caller *caller)
{
    assert_int_equal(sem_trywait(&caller->is_called), 0);
}

/* Room for one registration on each rail. */
static void create_narrow(struct pool_fixture *f)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_registrations = 1;
    params.max_bytes = 64 * MRP_MIB;
    pool_fixture_create(f, &params);
}

static void fail__calls_who_waits_for_the_rail(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct caller caller;

    create_narrow(f);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    stand_in_line(&caller, f->pool, 3 * MRP_MIB);
    assert_int_equal(mrp_pool_rail_fail(f->pool, 0, "port 1 is down"), MRP_OK);
    check_called(&caller);
    pool_fixture_free(region);
}

static void remove__calls_who_waits_for_the_rail(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct caller caller;

    create_narrow(f);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    stand_in_line(&caller, f->pool, 3 * MRP_MIB);
    assert_int_equal(mrp_pool_rail_remove(f->pool, 0), MRP_OK);
    check_called(&caller);
    pool_fixture_free(region);
}

/* The charge that refused him ends with the rail, and the chunk stays without it. */
static void growth__that_loses_its_rail_calls_who_waits_beside_it(void **state)
{
    struct pool_fixture *f = *state;
    struct beside growth = {.size = 2 * MRP_MIB};
    struct caller caller;
    struct gate gate;

    create_narrow(f);
    gate_init(&gate, 1);
    gate_at(&f->networks[0], &gate);
    test_provider_fail_next(&f->networks[0], 1, 0, MRP_ERR_UNAVAILABLE);
    beside_begin(&growth, f, beside_alloc);
    gate_await(&gate);
    stand_in_line(&caller, f->pool, 3 * MRP_MIB);
    gate_open(&gate);
    assert_int_equal(beside_end(&growth), MRP_OK);
    check_called(&caller);
    pool_fixture_free(growth.region);
}

static void query_far(void *state, struct mrp_provider_info *info)
{
    (void)state;
    info->traits = MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS;
    info->access = MRP_ACCESS_ALL;
    info->memory_kinds = 1U << MRP_MEMORY_HOST;
    info->key_size = sizeof(uint64_t);
    info->max_registrations = 1;
    info->node = MRP_NODE(1);
}

/* A rail is charged before it is known that the memory is far from it. */
static void growth__far_from_a_rail_calls_who_waits_beside_it(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_backend_params here = MRP_BACKEND_PARAMS_INIT;
    struct mrp_provider_ops ops = *test_provider_ops();
    struct beside growth = {.size = 2 * MRP_MIB};
    struct mrp_provider *provider;
    struct test_provider far;
    struct caller caller;
    struct gate gate;

    here.pages = MRP_PAGES_4K;
    here.node = MRP_NODE(0);
    if (mrp_backend_create(f->context, "mmap", &here, &params.backend) != MRP_OK) {
        print_message("SKIP: growth__far_from_a_rail_calls_who_waits_beside_it: %s\n",
            mrp_error_last()->text);
        return;
    }
    ops.query = query_far;
    test_provider_init(&far);
    assert_int_equal(
        mrp_provider_create(f->context, "far", &ops, &far, &provider), MRP_OK);
    pool_fixture_create(f, &params);
    assert_int_equal(add(f, provider, MRP_RAIL_NEAR), 1);
    gate_init(&gate, 1);
    gate_at(&f->networks[0], &gate);
    beside_begin(&growth, f, beside_alloc);
    gate_await(&gate);
    stand_in_line(&caller, f->pool, 3 * MRP_MIB);
    gate_open(&gate);
    assert_int_equal(beside_end(&growth), MRP_OK);
    check_called(&caller);
    assert_int_equal(far.n_register, 0);
    pool_fixture_free(growth.region);
    remove_rail(f, 1);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    test_provider_fini(&far);
}

static void ensure__that_fails_calls_who_waits_beside_it(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region_register_params only = MRP_REGION_REGISTER_PARAMS_INIT;
    static unsigned char memory[5000];
    struct test_provider few;
    struct mrp_provider *provider;
    struct beside ensure = {.rail = 1};
    struct caller caller;
    struct gate gate;

    params.max_bytes = 64 * MRP_MIB;
    pool_fixture_create(f, &params);
    test_provider_init(&few);
    few.max_registrations = 1;
    gate_init(&gate, 1);
    gate_at(&few, &gate);
    assert_int_equal(
        mrp_provider_create(f->context, "few", test_provider_ops(), &few, &provider),
        MRP_OK);
    assert_int_equal(add(f, provider, MRP_RAIL_EAGER), 1);
    only.rails = 1;
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, &only, &ensure.region),
        MRP_OK);
    test_provider_fail_next(&few, 1, 1, MRP_ERR_REGISTER);
    beside_begin(&ensure, f, beside_ensure);
    gate_await(&gate);
    stand_in_line(
        &caller, f->pool, 3 * MRP_MIB); /* with both rails: the second is full */
    gate_open(&gate);
    beside_refused(&ensure, MRP_ERR_REGISTER, "fails as told");
    check_called(&caller);
    pool_fixture_free(ensure.region);
    remove_rail(f, 1);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    assert_string_equal(few.first_error, "");
    test_provider_fini(&few);
}

/* Memory that a removed rail keeps counts against the context's budgets until its provider
 * closes; that is the way to get it back, and who waits for it hears of it. */
static void close__calls_who_waits_for_memory_that_was_kept(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_params narrow = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_backend_params plain = MRP_BACKEND_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct test_provider network;
    struct mrp_region *region;
    struct mrp_pool *pool;
    struct caller caller;

    (void)f;
    narrow.max_bytes = 16 * MRP_MIB;
    assert_int_equal(mrp_context_create(&narrow, &context), MRP_OK);
    plain.pages = MRP_PAGES_4K;
    plain.prefault = -1;
    assert_int_equal(
        mrp_backend_create(context, "mmap", &plain, &params.backend), MRP_OK);
    test_provider_init(&network);
    assert_int_equal(
        mrp_provider_create(context, "network", test_provider_ops(), &network, &provider),
        MRP_OK);
    params.rails = &provider;
    params.n_rails = 1;
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    region = mrp_region_alloc(pool, 12 * MRP_MIB);
    assert_non_null(region);
    network.deregister_fail_at = 1;
    assert_refused(mrp_pool_rail_remove(pool, 0), MRP_ERR_REGISTER, "as told");
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_trim(pool, 0, NULL), MRP_OK);
    stand_in_line(&caller, pool, 8 * MRP_MIB);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    check_called(&caller);
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    test_provider_fini(&network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(fail__calls_who_waits_for_the_rail),
        POOL_TEST(remove__calls_who_waits_for_the_rail),
        POOL_TEST(growth__that_loses_its_rail_calls_who_waits_beside_it),
        POOL_TEST(growth__far_from_a_rail_calls_who_waits_beside_it),
        POOL_TEST(ensure__that_fails_calls_who_waits_beside_it),
        POOL_TEST(close__calls_who_waits_for_memory_that_was_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
