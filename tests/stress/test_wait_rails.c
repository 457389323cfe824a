/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Requests at the limit while the pool's rails come and go, and their providers with them:
 * whether a request can ever be met is asked of rails that are there.
 */
#include "stress.h"

struct load {
    struct stress_world world;
    struct mrp_region *held;
    size_t rounds;
    atomic_bool is_over;
};

static void never_called(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    (void)waiter;
    (void)region;
    (void)status;
}

static void come_and_go(struct load *load)
{
    struct test_provider network;

    test_provider_init(&network);
    network.traits |= MRP_PROVIDER_PINS;
    while (!atomic_load(&load->is_over)) {
        struct mrp_provider *provider;
        unsigned rail;

        if (!STRESS_CHECK(mrp_provider_create(load->world.context, "passing",
                              test_provider_ops(), &network, &provider) == MRP_OK) ||
            !STRESS_CHECK(mrp_pool_rail_add(load->world.pool, provider, MRP_RAIL_LAZY,
                              &rail) == MRP_OK) ||
            !STRESS_CHECK(mrp_pool_rail_remove(load->world.pool, rail) == MRP_OK) ||
            !STRESS_CHECK(mrp_provider_close(provider) == MRP_OK)) {
            break;
        }
    }
    test_provider_fini(&network);
}

static void ask(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    if (thread->number == 0) {
        come_and_go(load);
        return;
    }
    request.wait_ms = 1;
    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct mrp_waiter waiter = MRP_WAITER_INIT(never_called, NULL);
        struct mrp_region *region;

        STRESS_CHECK(mrp_region_alloc_async(load->world.pool, 2 * MRP_MIB, &waiter,
                         &region) == MRP_ERR_AGAIN);
        STRESS_CHECK(mrp_waiter_cancel(&waiter) == MRP_OK);
        if (round % 16 == 0) {
            STRESS_CHECK(
                mrp_region_alloc_with(load->world.pool, 2 * MRP_MIB, &request) == NULL);
        }
    }
    atomic_store(&load->is_over, true);
}

static void line__beside_rails_that_come_and_go(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(5000)};

    (void)state;
    params.max_bytes = 4 * MRP_MIB;
    stress_create(&load.world, &params);
    load.held = mrp_region_alloc(load.world.pool, 3 * MRP_MIB);
    assert_non_null(load.held);
    stress_run(2, ask, &load);
    assert_int_equal(mrp_region_free(load.held), MRP_OK);
    stress_destroy(&load.world);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(line__beside_rails_that_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
