/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Idle memory gives way to registrations, where it has some that are wanted, and only
 * there: of a rail that is full, and of the budgets of the context.
 */
#include "rails.h"

#define SIZE (12 * MRP_MIB)

/* -- a rail that is full -- */

/* A pool with a lazy rail of the fixture's that may hold two. */
static void create_lazy(struct pool_fixture *f, bool never_free)
{
    struct mrp_pool_params params = pool_fixture_params(f);
    uint32_t lazy = MRP_RAIL_LAZY;

    params.rail_policies = &lazy;
    params.max_registrations = 2;
    params.never_free = never_free;
    pool_fixture_create(f, &params);
}

static struct mrp_region *register_one(struct pool_fixture *f)
{
    static unsigned char memory[5000];
    struct mrp_region_register_params params = MRP_REGION_REGISTER_PARAMS_INIT;
    struct mrp_region *region = NULL;

    params.rails = 1;
    mrp_error_clear();
    mrp_region_register(f->pool, memory, sizeof memory, &params, &region);
    return region;
}

/* Idle chunks: as many as asked for, the second one registered where wanted. */
static void make_idle(struct pool_fixture *f, size_t n, bool is_one_registered)
{
    struct mrp_region *regions[4];

    for (size_t i = 0; i < n; i++) {
        regions[i] = pool_fixture_alloc(f, SIZE << i);
    }
    if (is_one_registered) {
        assert_int_equal(mrp_region_ensure(regions[1], 1), MRP_OK);
    }
    for (size_t i = 0; i < n; i++) {
        pool_fixture_free(regions[i]);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, n);
}

static void full__evicts_no_idle_memory_without_a_registration(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[2];

    create_lazy(f, false);
    make_idle(f, 3, false);
    regions[0] = register_one(f);
    regions[1] = register_one(f);
    assert_non_null(regions[1]);
    assert_none(
        register_one(f), MRP_ERR_LIMIT, "holds 2 of 2 registrations on rail 0 (first)");
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 3);
    assert_int_equal(pool_fixture_stats(f->pool).n_evictions, 0);
    pool_fixture_free(regions[0]);
    pool_fixture_free(regions[1]);
}

static void full__evicts_what_is_registered(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[2];

    create_lazy(f, false);
    make_idle(f, 3, true);
    regions[0] = register_one(f);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 3);
    regions[1] = register_one(f);
    assert_non_null(regions[1]);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 2);
    assert_int_equal(pool_fixture_stats(f->pool).idle_size, SIZE + 4 * SIZE);
    assert_int_equal(f->networks[0].n_deregister, 1);
    pool_fixture_free(regions[0]);
    pool_fixture_free(regions[1]);
}

/* -- mrp_region_ensure -- */

static void ensure__evicts_what_is_registered_there(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *live[3];

    create_lazy(f, false);
    for (size_t i = 0; i < 3; i++) {
        live[i] = pool_fixture_alloc(f, 4 * SIZE + i * SIZE);
    }
    make_idle(f, 3, true);
    assert_int_equal(mrp_region_ensure(live[0], 1), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 3);
    mrp_error_clear();
    assert_int_equal(mrp_region_ensure(live[1], 1), MRP_OK);
    assert_int_equal(mrp_error_last()->status, MRP_OK); /* nobody was refused */
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 2);
    assert_int_equal(pool_fixture_stats(f->pool).idle_size, SIZE + 4 * SIZE);
    assert_refused(mrp_region_ensure(live[2], 1), MRP_ERR_LIMIT,
        "holds 2 of 2 registrations on rail 0 (first)");
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 2);
    for (size_t i = 0; i < 3; i++) {
        pool_fixture_free(live[i]);
    }
}

static void ensure__evicts_nothing_that_is_never_freed(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *live[2];

    create_lazy(f, true);
    for (size_t i = 0; i < 2; i++) {
        live[i] = pool_fixture_alloc(f, 4 * SIZE + i * SIZE);
    }
    make_idle(f, 2, true);
    assert_int_equal(mrp_region_ensure(live[0], 1), MRP_OK);
    assert_refused(mrp_region_ensure(live[1], 1), MRP_ERR_LIMIT, "2 of 2");
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 2);
    for (size_t i = 0; i < 2; i++) {
        pool_fixture_free(live[i]);
    }
}

/* -- mrp_pool_rail_add -- */

/* Which of the chunks is idle does not matter: the walk meets it before or after. */
static void add__gives_up_idle_chunks_that_have_no_room(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_registrations = 2;
    params.n_rails = 0;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 4; i++) {
        struct mrp_region *regions[4];

        for (size_t j = 0; j < 4; j++) {
            regions[j] = pool_fixture_alloc(f, SIZE + j * SIZE);
        }
        pool_fixture_free(regions[i]);
        pool_fixture_free(regions[(i + 1) % 4]);
        mrp_error_clear();
        assert_int_equal(add(f, f->rails[0], MRP_RAIL_EAGER), 0);
        assert_int_equal(mrp_error_last()->status, MRP_OK);
        assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
        pool_fixture_check_registrations(f, 1);
        assert_int_equal(f->networks[0].n_live, 2);
        remove_rail(f, 0);
        pool_fixture_free(regions[(i + 2) % 4]);
        pool_fixture_free(regions[(i + 3) % 4]);
        assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    }
}

/* -- budgets of the context -- */

/* Of two pools that share a context the second's idle memory is in the way. */
struct world {
    struct pool_fixture f;
    struct mrp_pool *other;
};

static void create_world(
    struct world *world, const struct mrp_context_params *limits, uint32_t traits)
{
    struct pool_fixture *f = &world->f;
    struct mrp_pool_params params;

    memset(world, 0, sizeof *world);
    assert_int_equal(mrp_context_create(limits, &f->context), MRP_OK);
    for (size_t i = 0; i < 2; i++) {
        test_provider_init(&f->networks[i]);
        f->networks[i].traits |= traits;
        assert_int_equal(mrp_provider_create(f->context, NULL, test_provider_ops(),
                             &f->networks[i], &f->rails[i]),
            MRP_OK);
    }
    params = pool_fixture_params(f);
    assert_int_equal(mrp_pool_create(f->context, &params, &world->other), MRP_OK);
    params.n_rails = 0;
    pool_fixture_create(f, &params);
}

static void end_world(struct world *world)
{
    assert_int_equal(mrp_pool_check(world->f.pool), MRP_OK);
    assert_int_equal(mrp_pool_check(world->other), MRP_OK);
    assert_int_equal(mrp_context_destroy(world->f.context), MRP_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(world->f.networks[i].first_error, "");
        test_provider_fini(&world->f.networks[i]);
    }
}

static void leave_idle(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(pool, size);

    assert_non_null(region);
    assert_int_equal(mrp_region_free(region), MRP_OK);
}

/* Three registrations, two of them of the other pool's idle chunks. */
static void registrations__of_idle_memory_give_way(bool is_lazy)
{
    struct mrp_context_params limits = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_region *live[3], *idle[2];
    struct world world;
    unsigned rail = 9;

    limits.max_registrations = 3;
    create_world(&world, &limits, 0);
    leave_idle(world.f.pool, 4 * SIZE); /* without any: to stay, or to go by itself */
    for (size_t i = 0; i < 3; i++) {
        live[i] = pool_fixture_alloc(&world.f, SIZE);
    }
    for (size_t i = 0; i < 2; i++) {
        idle[i] = mrp_region_alloc(world.other, SIZE);
        assert_non_null(idle[i]);
    }
    assert_int_equal(mrp_region_free(idle[0]), MRP_OK);
    assert_int_equal(mrp_region_free(idle[1]), MRP_OK);
    if (is_lazy) {
        assert_int_equal(add(&world.f, world.f.rails[1], MRP_RAIL_LAZY), 0);
        assert_int_equal(mrp_region_ensure(live[0], 1), MRP_OK);
        assert_int_equal(pool_fixture_stats(world.other).n_idle, 2);
        assert_int_equal(mrp_region_ensure(live[1], 1), MRP_OK);
        assert_int_equal(pool_fixture_stats(world.other).n_idle, 1);
        assert_int_equal(mrp_region_ensure(live[2], 1), MRP_OK);
        assert_int_equal(pool_fixture_stats(world.f.pool).n_idle, 1);
    } else {
        assert_int_equal(
            mrp_pool_rail_add(world.f.pool, world.f.rails[1], MRP_RAIL_EAGER, &rail),
            MRP_OK);
    }
    assert_int_equal(pool_fixture_stats(world.other).n_idle, 0);
    assert_int_equal(world.f.networks[1].n_live, 3);
    for (size_t i = 0; i < 3; i++) {
        pool_fixture_free(live[i]);
    }
    end_world(&world);
}

static void ensure__evicts_for_the_contexts_registrations(void **state)
{
    (void)state;
    registrations__of_idle_memory_give_way(true);
}

static void add__evicts_for_the_contexts_registrations(void **state)
{
    (void)state;
    registrations__of_idle_memory_give_way(false);
}

static void add__evicts_for_the_contexts_pinned_bytes(void **state)
{
    struct mrp_context_params limits = MRP_CONTEXT_PARAMS_INIT;
    struct world world;
    struct mrp_region *live;
    unsigned rail;
    (void)state;

    limits.max_pinned = 2 * SIZE;
    limits.max_bytes = 16 * SIZE;
    create_world(&world, &limits, MRP_PROVIDER_PINS);
    live = pool_fixture_alloc(&world.f, 2 * SIZE);
    leave_idle(world.other, SIZE);
    assert_int_equal(
        mrp_pool_rail_add(world.f.pool, world.f.rails[1], MRP_RAIL_EAGER, &rail), MRP_OK);
    assert_int_equal(pool_fixture_stats(world.other).n_idle, 0);
    pool_fixture_free(live);
    end_world(&world);
}

/* What all idle memory could not make room for is not paid with it. */
static void add__in_vain_evicts_nothing(void **state)
{
    struct mrp_context_params limits = MRP_CONTEXT_PARAMS_INIT;
    struct world world;
    struct mrp_region *live;
    unsigned rail;
    (void)state;

    limits.max_pinned = 2 * SIZE;
    limits.max_bytes = 16 * SIZE;
    create_world(&world, &limits, MRP_PROVIDER_PINS);
    live = pool_fixture_alloc(&world.f, 3 * SIZE);
    leave_idle(world.other, SIZE);
    assert_refused(
        mrp_pool_rail_add(world.f.pool, world.f.rails[1], MRP_RAIL_EAGER, &rail),
        MRP_ERR_LIMIT, "have pinned 12582912 of at most 25165824 bytes");
    assert_int_equal(pool_fixture_stats(world.other).n_idle, 1);
    pool_fixture_free(live);
    end_world(&world);
}

/* Growth: bytes there are enough, so that what has no registration is no use. */
static void growth__evicts_registered_memory_for_registrations(void **state)
{
    struct mrp_context_params limits = MRP_CONTEXT_PARAMS_INIT;
    struct world world;
    struct mrp_region *region;
    (void)state;

    limits.max_registrations = 1;
    create_world(&world, &limits, 0);
    leave_idle(world.f.pool, 4 * SIZE); /* older, and without any */
    leave_idle(world.other, SIZE);
    region = mrp_region_alloc(world.other, 4 * SIZE);
    assert_non_null(region);
    assert_int_equal(pool_fixture_stats(world.f.pool).n_idle, 1);
    assert_int_equal(pool_fixture_stats(world.other).n_idle, 0);
    assert_none(mrp_region_alloc(world.other, 4 * SIZE), MRP_ERR_LIMIT,
        "1 of at most 1 registrations");
    assert_int_equal(pool_fixture_stats(world.f.pool).n_idle, 1);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    end_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(full__evicts_no_idle_memory_without_a_registration),
        POOL_TEST(full__evicts_what_is_registered),
        POOL_TEST(ensure__evicts_what_is_registered_there),
        POOL_TEST(ensure__evicts_nothing_that_is_never_freed),
        POOL_TEST(add__gives_up_idle_chunks_that_have_no_room),
        cmocka_unit_test(ensure__evicts_for_the_contexts_registrations),
        cmocka_unit_test(add__evicts_for_the_contexts_registrations),
        cmocka_unit_test(add__evicts_for_the_contexts_pinned_bytes),
        cmocka_unit_test(add__in_vain_evicts_nothing),
        cmocka_unit_test(growth__evicts_registered_memory_for_registrations),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
