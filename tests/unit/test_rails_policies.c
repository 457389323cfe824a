/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rails that do not have every chunk: lazy ones, those that are far, and memory that is
 * registered with some.
 */
#include "rails.h"

static void lazy__registers_what_is_ensured_and_nothing_else(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *one, *other, *slice;
    static unsigned char memory[5000];

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    one = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, NULL, &other), MRP_OK);
    assert_int_equal(mrp_region_slice(one, 64, 64, &slice), MRP_OK);
    assert_int_equal(f->networks[1].n_register, 0);
    refuse_keys(f, one, 1, MRP_ERR_UNSUPPORTED, "mrp_region_ensure");
    assert_int_equal(f->networks[1].n_register, 0);
    assert_int_equal(mrp_region_ensure(slice, 3), MRP_OK);
    check_keys(f, one, 1, f->rails[1]);
    check_keys(f, slice, 1, f->rails[1]);
    refuse_keys(f, other, 1, MRP_ERR_UNSUPPORTED, "mrp_region_ensure");
    assert_int_equal(mrp_region_ensure(one, 2), MRP_OK);
    assert_int_equal(f->networks[1].n_register, 1);
    assert_int_equal(query(f, 1).n_registrations, 1);
    assert_int_equal(query(f, 1).policy, MRP_RAIL_LAZY);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_refused(mrp_region_ensure(one, 0), MRP_ERR_INVALID, "rail_mask is 0");
    assert_refused(mrp_region_ensure(one, 4), MRP_ERR_UNSUPPORTED, "rail 2: pool");
    assert_refused(mrp_region_ensure(one, (uint64_t)1 << 63), MRP_ERR_UNSUPPORTED, "63");
    pool_fixture_free(slice);
    pool_fixture_free(one);
    assert_int_equal(mrp_region_ensure(one, 2), MRP_ERR_STALE);
    one = pool_fixture_alloc(f, 2 * MRP_MIB); /* the same chunk, from the idle ones */
    check_keys(f, one, 1, f->rails[1]);
    assert_int_equal(f->networks[1].n_register, 1);
    pool_fixture_free(one);
    pool_fixture_free(other);
}

static void ensure__is_all_or_nothing(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    uint32_t policies[] = {MRP_RAIL_LAZY, MRP_RAIL_LAZY, MRP_RAIL_LAZY};
    struct mrp_region *region;

    params.n_rails = 3;
    params.rail_policies = policies;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_ensure(region, 1), MRP_OK);
    test_provider_fail_next(&f->networks[2], 1, 1, MRP_ERR_REGISTER);
    assert_refused(mrp_region_ensure(region, 7), MRP_ERR_REGISTER, "fails as told");
    assert_int_equal(f->networks[0].n_live, 1); /* that was there before */
    assert_int_equal(f->networks[1].n_live, 0);
    assert_int_equal(f->networks[1].n_register, 1);
    assert_int_equal(query(f, 2).n_failures, 1);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_region_ensure(region, 7), MRP_OK);
    check_keys(f, region, 2, f->rails[2]);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(region);
}

/* A network whose device is on a node, as far as it says. */
static enum mrp_status register_nothing(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    (void)request;
    registration->native = state;
    return MRP_OK;
}

static enum mrp_status deregister_nothing(
    void *state, const struct mrp_registration *registration)
{
    assert_ptr_equal(registration->native, state);
    return MRP_OK;
}

static void query_node(void *state, struct mrp_provider_info *info)
{
    info->node = *(int *)state;
}

static const struct mrp_provider_ops ops = {
    .struct_size = sizeof ops,
    .abi = MRP_PROVIDER_ABI,
    .module = "node",
    .purpose = "is on a node",
    .register_memory = register_nothing,
    .deregister_memory = deregister_nothing,
    .query = query_node,
};

static void near__registers_what_is_on_its_node(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region_request here = MRP_REGION_REQUEST_INIT;
    struct mrp_provider *near, *far, *unknown;
    int nodes[] = {MRP_NODE(0), MRP_NODE(1), 0};
    struct mrp_region *bound, *free_one;
    void *desc;

    assert_int_equal(
        mrp_provider_create(f->context, "near", &ops, &nodes[0], &near), MRP_OK);
    assert_int_equal(
        mrp_provider_create(f->context, "far", &ops, &nodes[1], &far), MRP_OK);
    assert_int_equal(
        mrp_provider_create(f->context, "unknown", &ops, &nodes[2], &unknown), MRP_OK);
    pool_fixture_create(f, NULL);
    here.node = MRP_NODE(0);
    bound = mrp_region_alloc_with(f->pool, 2 * MRP_MIB, &here);
    if (bound == NULL) {
        print_message(
            "SKIP: near__registers_what_is_on_its_node: %s\n", mrp_error_last()->text);
        return;
    }
    free_one = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(add(f, near, MRP_RAIL_NEAR), 1);
    assert_int_equal(add(f, far, MRP_RAIL_NEAR), 2);
    assert_int_equal(add(f, unknown, MRP_RAIL_NEAR), 3);
    for (int round = 0; round < 2; round++) { /* what was there, and what comes */
        assert_int_equal(mrp_region_local_desc(bound, 1, &desc), MRP_OK);
        assert_refused(mrp_region_local_desc(bound, 2, &desc), MRP_ERR_UNSUPPORTED,
            "mrp_region_ensure");
        assert_int_equal(mrp_region_local_desc(bound, 3, &desc), MRP_OK);
        assert_int_equal(mrp_region_local_desc(free_one, 1, &desc), MRP_OK);
        assert_int_equal(mrp_region_local_desc(free_one, 2, &desc), MRP_OK);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        if (round == 1) {
            assert_int_equal(mrp_region_ensure(bound, 4), MRP_OK);
            assert_int_equal(mrp_region_local_desc(bound, 2, &desc), MRP_OK);
            assert_int_equal(query(f, 2).n_registrations, 2);
        }
        pool_fixture_free(bound);
        pool_fixture_free(free_one);
        assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
        if (round == 0) {
            bound = mrp_region_alloc_with(f->pool, 2 * MRP_MIB, &here);
            free_one = pool_fixture_alloc(f, 2 * MRP_MIB);
            assert_non_null(bound);
        }
    }
}

/* Where the memory lies is known when it is mapped, and charged before. */
static void near__goes_by_what_the_backend_says(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_backend_params backend = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    static const uint32_t policies[] = {MRP_RAIL_EAGER, MRP_RAIL_NEAR};
    int node = MRP_NODE(1);
    struct mrp_provider *rails[] = {f->rails[0], NULL};
    struct mrp_region *region;
    void *desc;

    backend.pages = MRP_PAGES_4K;
    backend.node = MRP_NODE(0);
    assert_int_equal(
        mrp_provider_create(f->context, "far", &ops, &node, &rails[1]), MRP_OK);
    if (mrp_backend_create(f->context, "mmap", &backend, &params.backend) != MRP_OK) {
        print_message(
            "SKIP: near__goes_by_what_the_backend_says: %s\n", mrp_error_last()->text);
        return;
    }
    params.rails = rails;
    params.n_rails = 2;
    params.rail_policies = policies;
    pool_fixture_create(f, &params);
    region = mrp_region_alloc(f->pool, 2 * MRP_MIB);
    if (region == NULL) {
        print_message(
            "SKIP: near__goes_by_what_the_backend_says: %s\n", mrp_error_last()->text);
        return;
    }
    assert_refused(mrp_region_local_desc(region, 1, &desc), MRP_ERR_UNSUPPORTED,
        "mrp_region_ensure");
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_charged, 1);
    assert_int_equal(mrp_region_ensure(region, 2), MRP_OK);
    pool_fixture_free(region);
}

static void policies__of_the_params_are_checked(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    uint32_t policies[] = {MRP_RAIL_EAGER, 3};
    struct mrp_pool *pool;

    params.n_rails = 2;
    params.rail_policies = policies;
    assert_refused(mrp_pool_create(f->context, &params, &pool), MRP_ERR_INVALID,
        "rail_policies[1] is 3");
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK); /* used by nobody */
}

static void register__takes_a_mask_of_rails(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region_register_params own = MRP_REGION_REGISTER_PARAMS_INIT;
    struct mrp_pool_params params = pool_fixture_params(f);
    uint32_t policies[] = {MRP_RAIL_EAGER, MRP_RAIL_LAZY};
    static unsigned char memory[5000];
    struct mrp_region *region;

    params.n_rails = 2;
    params.rail_policies = policies;
    pool_fixture_create(f, &params);
    own.rails = 2;
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, &own, &region), MRP_OK);
    check_keys(f, region, 1, f->rails[1]);
    refuse_keys(f, region, 0, MRP_ERR_UNSUPPORTED, "mrp_region_ensure");
    assert_int_equal(add(f, f->rails[2], MRP_RAIL_EAGER), 2); /* it stays as asked for */
    refuse_keys(f, region, 2, MRP_ERR_UNSUPPORTED, "mrp_region_ensure");
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_region_ensure(region, 5), MRP_OK);
    check_keys(f, region, 2, f->rails[2]);
    own.rails = 8;
    assert_refused(mrp_region_register(f->pool, memory, sizeof memory, &own, &region),
        MRP_ERR_UNSUPPORTED, "rail 3: pool");
    pool_fixture_free(region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(lazy__registers_what_is_ensured_and_nothing_else),
        POOL_TEST(ensure__is_all_or_nothing),
        POOL_TEST(near__registers_what_is_on_its_node),
        POOL_TEST(near__goes_by_what_the_backend_says),
        POOL_TEST(policies__of_the_params_are_checked),
        POOL_TEST(register__takes_a_mask_of_rails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
