/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_region_adopt: outside memory becomes the pool's, and comes back when it goes.
 */
#include "outside_memory.h"
#include "recording_backend.h"

static void adopt__gives_a_live_region_with_its_contents(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct outside outside = outside_map(f, 3 * MRP_MIB, 0);
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region, *found;
    struct mrp_region_info info;
    struct mrp_pool_stats stats;
    struct mrp_token token;

    params.n_rails = 3;
    params.headroom = 100; /* of the pool's own blocks only */
    pool_fixture_create(f, &params);
    memset(outside.address, 5, outside.size);
    region = outside_adopt(f, &outside);
    info = pool_fixture_query(region);
    assert_int_equal(info.kind, MRP_REGION_ADOPTED);
    assert_int_equal(info.tier, -1);
    assert_ptr_equal(info.address, outside.address);
    assert_int_equal(info.size, outside.size);
    assert_int_equal(info.capacity, outside.size);
    assert_int_equal(outside.address[0] + outside.address[outside.size - 1], 10);
    for (unsigned rail = 0; rail < 3; rail++) {
        assert_int_equal(
            mrp_resolve(f->pool, outside.address + 1000, 10, rail, &wire), MRP_OK);
        assert_int_equal(wire.bytes_left, outside.size - 1000);
        assert_int_equal(f->networks[rail].n_live, 1);
    }
    assert_ptr_equal(
        mrp_region_find(f->pool, outside.address + outside.size - 1), region);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    assert_int_equal(mrp_token_resolve(f->pool, &token, &found), MRP_OK);
    assert_ptr_equal(found, region);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.mapped_size, outside.size);
    assert_int_equal(stats.n_large, 1);
    assert_int_equal(stats.large_size, outside.size);
    assert_int_equal(stats.n_registrations, 1);
    pool_fixture_check_registrations(f, 3);
    pool_fixture_free(region);
    pool_fixture_check_registrations(f, 3);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
    assert_int_equal(outside.n_released, 0);
    outside_destroy_pool(f);
    assert_int_equal(outside.n_released, 1);
    assert_int_equal(outside.n_live, 0);
}

static void adopt__is_idle_memory_after_its_free(void **state)
{
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 4 * MRP_MIB, 0);
    struct mrp_region *region, *small;

    pool_fixture_create(f, NULL);
    pool_fixture_free(outside_adopt(f, &outside));
    for (size_t i = 0; i < 10; i++) {
        region = pool_fixture_alloc(f, 3 * MRP_MIB + i * MRP_MIB / 10);
        assert_ptr_equal(mrp_region_address(region), outside.address);
        assert_int_equal(pool_fixture_query(region).kind, MRP_REGION_ADOPTED);
        pool_fixture_free(region);
    }
    assert_int_equal(f->networks[0].n_register, 1);
    small = pool_fixture_alloc(f, 2 * MRP_MIB); /* less than three quarters of it */
    assert_int_equal(f->networks[0].n_register, 2);
    assert_int_equal(outside.n_released, 0);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(outside.n_released, 1);
    assert_int_equal(outside.n_live, 1); /* of the small one: deregistered before */
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 2 * MRP_MIB);
    assert_null(mrp_region_find(f->pool, outside.address));
    pool_fixture_free(small);
}

/* Its next owner gets what any region of the pool has: room, and an aligned payload. */
static void adopt__serves_later_with_the_pools_room(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct outside outside = outside_map(f, 4 * MRP_MIB, 777);
    struct mrp_region *region;
    char *address;

    params.headroom = 1000;
    params.tailroom = 500;
    params.alignment = 4096;
    pool_fixture_create(f, &params);
    region = outside_adopt(f, &outside);
    assert_ptr_equal(mrp_region_address(region), outside.address);
    pool_fixture_free(region);
    region = pool_fixture_alloc(f, 3 * MRP_MIB + MRP_MIB / 2);
    assert_int_equal(pool_fixture_query(region).kind, MRP_REGION_ADOPTED);
    address = mrp_region_address(region);
    assert_int_equal((uintptr_t)address % 4096, 0);
    assert_true(address - outside.address >= 1000);
    assert_true(
        address + mrp_region_capacity(region) + 500 <= outside.address + outside.size);
    assert_ptr_equal(mrp_region_find(f->pool, address), region);
    memset(address - 1000, 1, 1000 + mrp_region_capacity(region) + 500);
    pool_fixture_free(region);
    /* as much as there is but for what aligning the payload takes */
    region = pool_fixture_alloc(
        f, outside.size - f->pool->classes.lead - f->pool->classes.tailroom);
    assert_int_equal(pool_fixture_query(region).kind, MRP_REGION_LARGE);
    pool_fixture_free(region);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(outside.n_released, 1);
}

static void adopt__needs_no_release(void **state)
{
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 2 * MRP_MIB, 0);
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    assert_int_equal(
        mrp_region_adopt(f->pool, outside.address, outside.size, NULL, &region), MRP_OK);
    pool_fixture_free(region);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(f->networks[0].n_live, 0);
    outside.address[0] = 1;
    outside_unmap(&outside);
}

/* On every rail or on none; and then the memory is the caller's still. */
static void adopt__failing_on_any_rail_leaves_none(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct outside outside = outside_map(f, 2 * MRP_MIB, 0);
    struct mrp_region *region = NULL;

    params.n_rails = 3;
    pool_fixture_create(f, &params);
    for (size_t rail = 0; rail < 3; rail++) {
        test_provider_fail_next(&f->networks[rail], 1, 2, MRP_ERR_REGISTER);
        assert_refused(
            outside_try(f->pool, &outside, &region), MRP_ERR_REGISTER, "fails as told");
        test_provider_fail_next(&f->networks[rail], 1, 1, MRP_ERR_SYSTEM);
        assert_refused(
            outside_try(f->pool, &outside, &region), MRP_ERR_SYSTEM, "fails as told");
        assert_null(region);
        pool_fixture_check_registrations(f, 3);
        assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
        assert_none(mrp_region_find(f->pool, outside.address), MRP_ERR_NOT_FOUND, "");
        assert_int_equal(outside.n_released, 0);
        outside.address[0] = 1;
    }
    region = outside_adopt(f, &outside);
    pool_fixture_free(region);
    outside_destroy_pool(f);
}

static enum mrp_status refuse(struct mrp_region *region, void *user, void *is_refusing)
{
    (void)user;
    assert_non_null(mrp_region_address(region));
    return *(bool *)is_refusing ? mrp_fail(MRP_ERR_SYSTEM, 3, "not now") : MRP_OK;
}

static void adopt__failing_region_init_leaves_the_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct outside outside = outside_map(f, 2 * MRP_MIB, 0);
    struct mrp_region *region = NULL;
    bool is_refusing = true;

    params.user_size = 8;
    params.region_init = refuse;
    params.region_init_user = &is_refusing;
    pool_fixture_create(f, &params);
    assert_refused(outside_try(f->pool, &outside, &region), MRP_ERR_SYSTEM, "not now");
    assert_null(region);
    assert_int_equal(outside.n_released, 0);
    pool_fixture_check_registrations(f, 1);
    is_refusing = false;
    pool_fixture_free(outside_adopt(f, &outside));
    outside_destroy_pool(f);
}

static void adopt__counts_against_the_budgets(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct outside first = outside_map(f, 5 * MRP_MIB, 0);
    struct outside second = outside_map(f, 4 * MRP_MIB, 0);
    struct mrp_region *region = NULL, *other = NULL;

    params.max_bytes = 8 * MRP_MIB;
    pool_fixture_create(f, &params);
    region = outside_adopt(f, &first);
    assert_refused(
        outside_try(f->pool, &second, &other), MRP_ERR_LIMIT, "at most 8388608");
    assert_none(mrp_region_alloc(f->pool, 4 * MRP_MIB), MRP_ERR_LIMIT, "8388608");
    pool_fixture_free(region);
    other = outside_adopt(f, &second); /* for which the idle one goes */
    assert_int_equal(first.n_released, 1);
    pool_fixture_free(other);
    region = pool_fixture_alloc(f, 8 * MRP_MIB);
    assert_int_equal(second.n_released, 1);
    pool_fixture_free(region);
}

static void adopt__wrong_arguments_are_refused(void **state)
{
    struct mrp_region_adopt_params params = MRP_REGION_ADOPT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 4 * MRP_MIB, 0);
    struct mrp_region *region = NULL;
    char *p = outside.address;

    pool_fixture_create(f, NULL);
    assert_refused(mrp_region_adopt(f->pool, NULL, 2 * MRP_MIB, NULL, &region),
        MRP_ERR_INVALID, "cannot adopt 2097152 bytes");
    assert_refused(mrp_region_adopt(f->pool, p, 0, NULL, &region), MRP_ERR_INVALID,
        "cannot adopt 0 bytes");
    assert_refused(mrp_region_adopt(f->pool, p, SIZE_MAX, NULL, &region), MRP_ERR_INVALID,
        "past the end");
    assert_refused(mrp_region_adopt(f->pool, p, MRP_MIB, NULL, &region), MRP_ERR_INVALID,
        "huge tier, 1048576 bytes");
    assert_refused(mrp_region_adopt(f->pool, p, 2 * MRP_MIB, NULL, NULL), MRP_ERR_INVALID,
        "region is NULL");
    assert_refused(mrp_region_adopt(NULL, p, 2 * MRP_MIB, NULL, &region), MRP_ERR_STALE,
        "the pool is NULL");
    params.struct_size = 3;
    assert_refused(mrp_region_adopt(f->pool, p, 2 * MRP_MIB, &params, &region),
        MRP_ERR_INVALID, "struct_size is 3");
    assert_null(region);
    assert_int_equal(f->networks[0].n_register, 0);
    outside_unmap(&outside);
}

static void adopt__what_a_pool_has_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 4 * MRP_MIB, 0);
    struct mrp_region *region, *user, *large, *other = NULL;

    pool_fixture_create(f, NULL);
    assert_int_equal(
        mrp_region_register(f->pool, outside.address, 1000, NULL, &user), MRP_OK);
    region = outside_adopt(f, &outside); /* over what is the caller's all the same */
    large = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_refused(
        mrp_region_adopt(f->pool, outside.address + 100, 2 * MRP_MIB, NULL, &other),
        MRP_ERR_INVALID, "has the 4194304 bytes");
    assert_refused(mrp_region_adopt(f->pool, mrp_region_address(large),
                       mrp_region_capacity(large), NULL, &other),
        MRP_ERR_INVALID, "already");
    assert_null(other);
    pool_fixture_free(user);
    pool_fixture_free(large);
    pool_fixture_free(region);
    outside_destroy_pool(f);
}

static void adopt__is_for_host_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_backend_ops ops = *recording_ops();
    struct recording_backend recorder = {.network = NULL};
    struct outside outside = outside_map(f, 4 * MRP_MIB, 0);
    struct mrp_region *region = NULL;

    ops.memory_kind = MRP_MEMORY_CUDA;
    assert_int_equal(
        mrp_backend_create_custom(f->context, "device", &ops, &recorder, &params.backend),
        MRP_OK);
    params.n_rails = 0;
    pool_fixture_create(f, &params);
    assert_refused(
        outside_try(f->pool, &outside, &region), MRP_ERR_UNSUPPORTED, "host memory");
    assert_null(region);
    outside_unmap(&outside);
    outside_destroy_pool(f);
    assert_int_equal(mrp_backend_destroy(params.backend), MRP_OK);
}

static void adopt__leaves_no_more_than_retention_keeps(void **state)
{
    struct mrp_retention_params bounds = MRP_RETENTION_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct outside outside[4];
    size_t n_released = 0;

    bounds.max_count = 2;
    bounds.max_size = 100 * MRP_MIB;
    assert_int_equal(mrp_context_retain(f->context, &bounds), MRP_OK);
    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 4; i++) {
        outside[i] = outside_map(f, (2 + i) * MRP_MIB, 0);
        pool_fixture_free(outside_adopt(f, &outside[i]));
    }
    for (size_t i = 0; i < 4; i++) {
        n_released += outside[i].n_released;
    }
    assert_int_equal(n_released, 2);
    assert_int_equal(outside[0].n_released + outside[1].n_released, 2);
    outside_destroy_pool(f);
    assert_int_equal(outside[2].n_released + outside[3].n_released, 2);
}

/* -- how it ends -- */

struct leak_note {
    size_t n_leaks;
    const void *address;
    char origin[64];
};

static void note_leak(const struct mrp_leak *leak, void *user)
{
    struct leak_note *note = user;

    note->n_leaks++;
    note->address = leak->address;
    snprintf(note->origin, sizeof note->origin, "%s", leak->origin);
}

static void adopt__live_ones_are_released_when_the_pool_goes(void **state)
{
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct leak_note note = {.n_leaks = 0};
    struct mrp_context *context;
    struct mrp_region *region;
    struct outside outside = outside_map(NULL, 2 * MRP_MIB, 0);
    struct mrp_pool *pool;

    (void)state;
    context_params.on_leak = note_leak;
    context_params.on_leak_user = &note;
    assert_int_equal(mrp_context_create(&context_params, &context), MRP_OK);
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    assert_int_equal(outside_try(pool, &outside, &region), MRP_OK);
    assert_refused(mrp_pool_destroy(pool), MRP_ERR_LEAKED, "from mrp_region_adopt");
    assert_int_equal(note.n_leaks, 1);
    assert_ptr_equal(note.address, outside.address);
    assert_string_equal(note.origin, "mrp_region_adopt");
    assert_int_equal(outside.n_released, 1);
    assert_refused(mrp_region_free(region), MRP_ERR_STALE, "");
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* The network may still write there: it is released when its provider has closed. */
static void adopt__failing_deregistration_parks_it(void **state)
{
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 2 * MRP_MIB, 0);
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    pool_fixture_create(f, NULL);
    pool_fixture_free(outside_adopt(f, &outside));
    f->networks[0].deregister_fail_at = 1;
    f->networks[0].deregister_fail_count = 1;
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(outside.n_released, 0);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_parked, 1);
    assert_int_equal(stats.parked_size, outside.size);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    outside_destroy_pool(f);
    assert_int_equal(outside.n_released, 0);
    f->networks[0].n_live = 0; /* it has lost that one */
    assert_int_equal(mrp_provider_close(f->rails[0]), MRP_OK);
    assert_int_equal(outside.n_released, 1);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_parked, 0);
}

/* Undoing a failed adoption may fail, too: the memory stays the caller's. */
static void adopt__failing_to_undo_releases_nothing(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct outside outside = outside_map(f, 2 * MRP_MIB, 0);
    struct mrp_region *region = NULL;

    params.n_rails = 2;
    pool_fixture_create(f, &params);
    test_provider_fail_next(&f->networks[1], 1, 1, MRP_ERR_SYSTEM);
    f->networks[0].deregister_fail_at = 1;
    f->networks[0].deregister_fail_count = 1;
    assert_refused(
        outside_try(f->pool, &outside, &region), MRP_ERR_SYSTEM, "fails as told");
    assert_null(region);
    outside_destroy_pool(f);
    f->networks[0].n_live = 0;
    assert_int_equal(mrp_provider_close(f->rails[0]), MRP_OK);
    assert_int_equal(outside.n_released, 0);
    outside.address[0] = 1;
    outside_unmap(&outside);
}

static void adopt__grows_and_shrinks_like_any(void **state)
{
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 2 * MRP_MIB, 0);
    struct mrp_region *region, *resized;

    pool_fixture_create(f, NULL);
    region = outside_adopt(f, &outside);
    memset(outside.address, 6, outside.size);
    assert_int_equal(mrp_region_realloc(region, 5, &resized), MRP_OK);
    assert_ptr_equal(resized, region);
    assert_int_equal(mrp_region_realloc(region, outside.size, &resized), MRP_OK);
    assert_int_equal(mrp_region_realloc(region, 4 * MRP_MIB, &resized), MRP_OK);
    assert_ptr_not_equal(resized, region);
    assert_int_equal(((char *)mrp_region_address(resized))[outside.size - 1], 6);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
    pool_fixture_free(resized);
    outside_destroy_pool(f);
}

static void adopt__under_all_checks(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    for (enum mrp_checks checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        struct outside outside = outside_map(f, 2 * MRP_MIB, 64);
        struct mrp_region *region;

        params.checks = checks;
        pool_fixture_create(f, &params);
        region = outside_adopt(f, &outside);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        pool_fixture_free(region);
        assert_refused(mrp_region_free(region), MRP_ERR_STALE, "is free");
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        region = pool_fixture_alloc(f, outside.size);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        pool_fixture_free(region);
        outside_destroy_pool(f);
        assert_int_equal(outside.n_released, 1);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(adopt__gives_a_live_region_with_its_contents),
        POOL_TEST(adopt__is_idle_memory_after_its_free),
        POOL_TEST(adopt__serves_later_with_the_pools_room),
        POOL_TEST(adopt__needs_no_release),
        POOL_TEST(adopt__failing_on_any_rail_leaves_none),
        POOL_TEST(adopt__failing_region_init_leaves_the_memory),
        POOL_TEST(adopt__counts_against_the_budgets),
        POOL_TEST(adopt__wrong_arguments_are_refused),
        POOL_TEST(adopt__what_a_pool_has_is_refused),
        POOL_TEST(adopt__is_for_host_memory),
        POOL_TEST(adopt__leaves_no_more_than_retention_keeps),
        POOL_TEST(adopt__live_ones_are_released_when_the_pool_goes),
        POOL_TEST(adopt__failing_deregistration_parks_it),
        POOL_TEST(adopt__failing_to_undo_releases_nothing),
        POOL_TEST(adopt__grows_and_shrinks_like_any),
        POOL_TEST(adopt__under_all_checks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
