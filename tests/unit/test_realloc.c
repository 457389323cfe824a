/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_region_realloc: in place where it fits, else moved; never at a neighbour's cost.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

static void fill(const struct mrp_region *region, size_t size, unsigned char seed)
{
    unsigned char *bytes = mrp_region_address(region);

    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)(seed + i % 251);
    }
}

static void check_filled(const struct mrp_region *region, size_t size, unsigned char seed)
{
    const unsigned char *bytes = mrp_region_address(region);

    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != (unsigned char)(seed + i % 251)) {
            fail_msg("byte %zu of %zu is %u", i, size, bytes[i]);
        }
    }
}

static struct mrp_region *resize(struct mrp_region *region, size_t size)
{
    struct mrp_region *resized = NULL;

    if (mrp_region_realloc(region, size, &resized) != MRP_OK) {
        fail_msg("realloc to %zu bytes: %s", size, mrp_error_last()->text);
    }
    assert_int_equal(mrp_region_size(resized), size);
    assert_true(mrp_region_capacity(resized) >= size);
    return resized;
}

/* Regression 12: 3K -> 4K -> 1M -> 64, between neighbours. */
static void realloc__leaves_neighbours_alone(void **state)
{
    static const size_t sizes[] = {4096, MRP_MIB, 64, 0, 100, 3 * MRP_MIB, 5 * MRP_MIB,
        2 * MRP_MIB, 3000, MRP_MIB + 1};
    struct pool_fixture *f = *state;
    struct mrp_region *regions[64], *region;
    size_t size = 3072;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 64; i++) {
        regions[i] = pool_fixture_alloc(f, size);
        fill(regions[i], size, (unsigned char)i);
    }
    region = regions[31];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        region = resize(region, sizes[i]);
        check_filled(region, mrp_min(size, sizes[i]), 31);
        fill(region, sizes[i], 31);
        size = sizes[i];
        for (size_t j = 0; j < 64; j++) {
            if (j != 31) {
                check_filled(regions[j], 3072, (unsigned char)j);
            }
        }
    }
    regions[31] = region;
    assert_int_equal(mrp_region_free_many(regions, 64, NULL), MRP_OK);
}

static void realloc__is_in_place_where_it_fits(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *resized;
    void *address;
    size_t capacity;

    pool_fixture_create(f, NULL);
    for (size_t size = 64; size <= 8 * MRP_MIB; size = size * 5 / 2 + 1) {
        region = pool_fixture_alloc(f, size);
        address = mrp_region_address(region);
        capacity = mrp_region_capacity(region);
        assert_int_equal(mrp_region_set_length(region, 7), MRP_OK);
        assert_ptr_equal(resize(region, capacity), region);
        assert_ptr_equal(resize(region, 1), region);
        assert_ptr_equal(resize(region, 0), region);
        assert_ptr_equal(mrp_region_address(region), address);
        assert_int_equal(mrp_region_capacity(region), capacity);
        assert_int_equal(mrp_region_length(region), 7);
        resized = resize(region, capacity + 1);
        assert_ptr_not_equal(resized, region);
        assert_null(mrp_region_address(region)); /* free now */
        assert_int_equal(mrp_region_length(resized), 0);
        pool_fixture_free(resized);
    }
}

static enum mrp_status number(struct mrp_region *region, void *user, void *count)
{
    (void)region;
    *(size_t *)user = ++*(size_t *)count;
    return MRP_OK;
}

/* User data belong to the region, not to the contents. */
static void realloc__moves_no_user_data(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region, *resized;
    size_t count = 0, before;

    params.user_size = sizeof(size_t);
    params.region_init = number;
    params.region_init_user = &count;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 100);
    before = *(size_t *)mrp_region_user(region);
    resized = resize(region, 2 * MRP_MIB);
    assert_int_not_equal(*(size_t *)mrp_region_user(resized), before);
    pool_fixture_free(resized);
}

static void realloc__refuses_what_others_hold(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *slice, *resized = NULL;

    pool_fixture_create(f, NULL);
    for (size_t size = 1000; size <= 2 * MRP_MIB; size *= 2000) {
        region = pool_fixture_alloc(f, size);
        fill(region, size, 3);
        assert_int_equal(mrp_region_retain(region), MRP_OK);
        assert_refused(
            mrp_region_realloc(region, 10, &resized), MRP_ERR_BUSY, "2 references");
        assert_int_equal(mrp_region_release(region), MRP_OK);
        assert_int_equal(mrp_region_slice(region, 10, 20, &slice), MRP_OK);
        assert_refused(
            mrp_region_realloc(region, 9 * MRP_MIB, &resized), MRP_ERR_BUSY, "sliced");
        assert_refused(
            mrp_region_realloc(slice, 20, &resized), MRP_ERR_UNSUPPORTED, "is a slice");
        pool_fixture_free(slice);
        assert_null(resized);
        assert_int_equal(mrp_region_size(region), size);
        check_filled(region, size, 3);
        pool_fixture_free(resize(region, 9 * MRP_MIB));
    }
}

static void realloc__refuses_registered_memory(void **state)
{
    static char memory[1000];
    struct pool_fixture *f = *state;
    struct mrp_region *region, *resized = NULL;

    pool_fixture_create(f, NULL);
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, NULL, &region), MRP_OK);
    assert_refused(mrp_region_realloc(region, 10, &resized), MRP_ERR_UNSUPPORTED,
        "registered memory");
    assert_null(resized);
    assert_int_equal(mrp_region_size(region), sizeof memory);
    pool_fixture_free(region);
}

static void realloc__wrong_arguments_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *resized = NULL;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    assert_refused(mrp_region_realloc(region, 10, NULL), MRP_ERR_INVALID, "resized is");
    assert_refused(mrp_region_realloc(NULL, 10, &resized), MRP_ERR_STALE, "NULL");
    assert_refused(
        mrp_region_realloc((struct mrp_region *)f, 10, &resized), MRP_ERR_STALE, "");
    assert_refused(
        mrp_region_realloc(region, SIZE_MAX, &resized), MRP_ERR_INVALID, "cannot");
    assert_refused(
        mrp_region_realloc(region, SIZE_MAX - 4095, &resized), MRP_ERR_INVALID, "cannot");
    assert_int_equal(mrp_region_size(region), 100);
    pool_fixture_free(region);
    assert_refused(mrp_region_realloc(region, 10, &resized), MRP_ERR_STALE, "is free");
    assert_null(resized);
}

/* No memory, no registration: the region is as it was. */
static void realloc__failing_leaves_the_region(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region, *resized = NULL;

    params.max_bytes = 8 * MRP_MIB;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    fill(region, 2 * MRP_MIB, 5);
    assert_refused(mrp_region_realloc(region, 7 * MRP_MIB, &resized), MRP_ERR_LIMIT,
        "at most 8388608");
    test_provider_fail_next(&f->networks[0], 1, 2, MRP_ERR_REGISTER); /* tried twice */
    assert_refused(mrp_region_realloc(region, 4 * MRP_MIB, &resized), MRP_ERR_REGISTER,
        "fails as told");
    assert_null(resized);
    assert_int_equal(mrp_region_size(region), 2 * MRP_MIB);
    check_filled(region, 2 * MRP_MIB, 5);
    pool_fixture_free(region);
    pool_fixture_check_registrations(f, 1);
}

/* Descriptors that nobody checks know no size: the capacity is copied. */
static void realloc__without_checks_copies_the_capacity(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region, *resized;
    size_t capacity;

    params.checks = MRP_CHECKS_NONE;
    pool_fixture_create(f, &params);
    region = mrp_region_alloc(f->pool, 1000);
    capacity = mrp_region_capacity(region);
    fill(region, capacity, 1);
    assert_int_equal(mrp_region_realloc(region, 10, &resized), MRP_OK);
    assert_ptr_equal(resized, region);
    assert_int_equal(mrp_region_size(region), capacity);
    assert_int_equal(mrp_region_realloc(region, 10000, &resized), MRP_OK);
    check_filled(resized, capacity, 1);
    pool_fixture_free(resized);
}

static void realloc__in_pools_with_full_checks_and_room(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.checks = MRP_CHECKS_FULL;
    params.headroom = 100;
    params.tailroom = 50;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 700);
    for (size_t size = 700; size < 20 * MRP_MIB; size *= 3) {
        fill(region, size, 77);
        region = resize(region, size * 3);
        check_filled(region, size, 77);
    }
    region = resize(region, 5);
    pool_fixture_free(region);
}

/* Large ones that were moved from are idle, and serve again. */
static void realloc__back_and_forth_registers_no_more(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    size_t n_register = 0;

    pool_fixture_create(f, NULL);
    for (size_t round = 0; round < 100; round++) {
        region = pool_fixture_alloc(f, 2 * MRP_MIB);
        region = resize(region, 4 * MRP_MIB);
        region = resize(region, 8 * MRP_MIB);
        pool_fixture_free(region);
        n_register = round == 0 ? f->networks[0].n_register : n_register;
    }
    assert_int_equal(f->networks[0].n_register, n_register);
}

/* Memory beyond the budget, given back when it is moved from. */
static void realloc__of_temporary_regions(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region, *held;
    void *address = NULL;
    size_t size = 0;

    params.max_bytes = 8 * MRP_MIB;
    params.at_limit = MRP_AT_LIMIT_TEMPORARY;
    pool_fixture_create(f, &params);
    held = pool_fixture_alloc(f, 8 * MRP_MIB);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(pool_fixture_query(region).kind, MRP_REGION_TEMPORARY);
    assert_refused(
        mrp_region_forget(region, &address, &size), MRP_ERR_UNSUPPORTED, "is temporary");
    fill(region, 2 * MRP_MIB, 8);
    region = resize(region, 3 * MRP_MIB);
    check_filled(region, 2 * MRP_MIB, 8);
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 1);
    pool_fixture_free(held);
    fill(region, 3 * MRP_MIB, 8);
    region = resize(region, 7 * MRP_MIB); /* there is room for it now */
    check_filled(region, 3 * MRP_MIB, 8);
    assert_int_equal(pool_fixture_query(region).kind, MRP_REGION_LARGE);
    assert_int_equal(pool_fixture_stats(f->pool).n_temporary, 0);
    pool_fixture_free(region);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(realloc__leaves_neighbours_alone),
        POOL_TEST(realloc__is_in_place_where_it_fits),
        POOL_TEST(realloc__moves_no_user_data),
        POOL_TEST(realloc__refuses_what_others_hold),
        POOL_TEST(realloc__refuses_registered_memory),
        POOL_TEST(realloc__wrong_arguments_are_refused),
        POOL_TEST(realloc__failing_leaves_the_region),
        POOL_TEST(realloc__without_checks_copies_the_capacity),
        POOL_TEST(realloc__in_pools_with_full_checks_and_room),
        POOL_TEST(realloc__of_temporary_regions),
        POOL_TEST(realloc__back_and_forth_registers_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
