/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Larger than huge: a chunk of its own, kept registered when it is given back.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <stdlib.h>

static void large__a_thousand_of_1_mib_and_1_is_one_registration(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_stats stats;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 1000; i++) {
        struct mrp_region *region = pool_fixture_alloc(f, MRP_MIB + 1);

        assert_int_equal(pool_fixture_query(region).kind, MRP_REGION_LARGE);
        assert_int_equal(pool_fixture_query(region).tier, -1);
        assert_int_equal(pool_fixture_query(region).generation, i + 1);
        pool_fixture_free(region);
    }
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(f->networks[0].n_register, 1);
    assert_int_equal(stats.n_idle, 1);
    assert_int_equal(stats.n_large, 0);
    assert_int_equal(stats.idle_size, stats.mapped_size);
    assert_int_equal(stats.n_registrations, 1);
}

/* Also with the pages the library would take by itself. */
static void large__is_one_registration_over_the_default_backend(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.backend = NULL;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 100; i++) {
        pool_fixture_free(pool_fixture_alloc(f, MRP_MIB + 1));
    }
    assert_int_equal(f->networks[0].n_register, 1);
}

static void large__idle_ones_serve_three_quarters_of_their_size(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t mib = 4; mib <= 64; mib *= 2) {
        size_t before = f->networks[0].n_register;

        pool_fixture_free(pool_fixture_alloc(f, mib * MRP_MIB));
        pool_fixture_free(pool_fixture_alloc(f, mib * MRP_MIB / 4 * 3));
        pool_fixture_free(pool_fixture_alloc(f, mib * MRP_MIB));
        assert_int_equal(f->networks[0].n_register, before + 1);
        pool_fixture_free(
            pool_fixture_alloc(f, mib * MRP_MIB / 4 * 3 - 3 * MRP_KIB * 64));
        assert_int_equal(f->networks[0].n_register, before + 2);
        assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    }
}

/* Rounded to a quarter of a doubling: at most 25 % and a granule over what was asked. */
static void large__rounds_to_a_quarter_of_a_doubling(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t size = MRP_MIB + 1; size < 200 * MRP_MIB; size += size / 7 + 1) {
        struct mrp_region *region = pool_fixture_alloc(f, size);
        size_t capacity = mrp_region_capacity(region);

        assert_true(capacity >= size && capacity - size <= size / 4 + 16 * MRP_KIB);
        ((char *)mrp_region_address(region))[0] = 1;
        ((char *)mrp_region_address(region))[capacity - 1] = 1;
        pool_fixture_free(region);
        assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    }
    assert_int_equal(f->networks[0].n_live, 0);
}

/* -- what is kept -- */

static void retention__is_bounded_by_bytes_and_count(void **state)
{
    struct mrp_context_params bounds = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_region *regions[10];
    struct mrp_pool *pool;
    (void)state;

    bounds.retained_size = 20 * MRP_MIB;
    bounds.retained_count = 4;
    assert_int_equal(mrp_context_create(&bounds, &context), MRP_OK);
    setenv("MRPOOL_PREFAULT", "off", 1);
    setenv("MRPOOL_PAGES", "4k", 1);
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    unsetenv("MRPOOL_PREFAULT");
    unsetenv("MRPOOL_PAGES");
    assert_int_equal(mrp_region_alloc_many(pool, 2 * MRP_MIB, 10, regions), 10);
    assert_int_equal(mrp_region_free_many(regions, 10, NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(pool).n_idle, 4); /* by count */
    assert_int_equal(pool_fixture_stats(pool).n_evictions, 6);
    assert_int_equal(mrp_region_alloc_many(pool, 8 * MRP_MIB, 4, regions), 4);
    assert_int_equal(mrp_region_free_many(regions, 4, NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(pool).n_idle, 2); /* by bytes */
    assert_int_equal(pool_fixture_stats(pool).idle_size, 16 * MRP_MIB);
    regions[0] = mrp_region_alloc(pool, 24 * MRP_MIB);
    assert_int_equal(mrp_region_free(regions[0]), MRP_OK); /* more than all */
    assert_int_equal(pool_fixture_stats(pool).n_idle, 0);
    assert_int_equal(pool_fixture_stats(pool).mapped_size, 0);
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

static void retention__trim_keeps_what_it_is_told(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_region *regions[8];
    void *addresses[8];

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_region_alloc_many(f->pool, 4 * MRP_MIB, 8, regions), 8);
    for (size_t i = 0; i < 8; i++) {
        addresses[i] = mrp_region_address(regions[i]);
    }
    assert_int_equal(mrp_region_free_many(regions, 8, NULL), MRP_OK);
    assert_int_equal(mrp_context_trim(f->context, 18 * MRP_MIB), MRP_OK);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_retained, 4);
    assert_int_equal(stats.retained_size, 16 * MRP_MIB);
    assert_int_equal(f->networks[0].n_live, 4);
    for (size_t i = 0; i < 8; i++) { /* the first ones freed went first */
        assert_int_equal(mrp_region_find(f->pool, addresses[i]) != NULL, i >= 4);
    }
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(f->networks[0].n_live, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_evictions, 8);
}

static void retention__idle_memory_makes_room_in_the_budget(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.max_bytes = 16 * MRP_MIB;
    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 6 * MRP_MIB));
    pool_fixture_free(pool_fixture_alloc(f, 10 * MRP_MIB));
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 2);
    region = pool_fixture_alloc(f, 5 * MRP_MIB); /* reuses the one of 6 */
    assert_int_equal(f->networks[0].n_register, 2);
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB)); /* the one of 10 has to go */
    assert_int_equal(pool_fixture_stats(f->pool).n_evictions, 1);
    assert_none(mrp_region_alloc(f->pool, 12 * MRP_MIB), MRP_ERR_LIMIT,
        "at most 16777216 bytes and needs");
    pool_fixture_free(region);
    region = pool_fixture_alloc(f, 16 * MRP_MIB);
    pool_fixture_free(region);
    pool_fixture_check_registrations(f, 1);
}

/* -- beyond 32 bits -- */

static void large__of_5_gib_has_64_bit_lengths(void **state)
{
    const size_t size = 5 * MRP_GIB;
    struct mrp_system system = MRP_SYSTEM_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region, *slice, *found;
    struct mrp_token token;
    char *address;

    assert_int_equal(mrp_system_query(&system), MRP_OK);
    if (test_is_watched() || system.memory_size < 8 * MRP_GIB) {
        test_skip(
            "large__of_5_gib_has_64_bit_lengths", "not 8 GiB of memory to overcommit");
        return;
    }
    params.max_bytes = 8 * MRP_GIB;
    pool_fixture_create(f, &params);
    region = mrp_region_alloc(f->pool, size);
    if (region == NULL && mrp_error_last()->status == MRP_ERR_MEMORY) {
        test_skip("large__of_5_gib_has_64_bit_lengths", mrp_error_last()->text);
        return;
    }
    assert_non_null(region);
    address = mrp_region_address(region);
    assert_true(mrp_region_capacity(region) >= size);
    assert_int_equal(mrp_region_size(region), size);
    assert_int_equal(mrp_region_set_length(region, size), MRP_OK);
    assert_int_equal(mrp_region_length(region), size);
    address[0] = address[size - 1] = 1;
    assert_ptr_equal(mrp_region_find(f->pool, address + size - 1), region);
    assert_int_equal(mrp_resolve(f->pool, address, size, 0, &wire), MRP_OK);
    assert_true(wire.bytes_left >= size);
    assert_true(f->networks[0].live_size >= size);
    assert_int_equal(pool_fixture_stats(f->pool).large_size, size);
    assert_int_equal(mrp_region_slice(region, size - 1, 1, &slice), MRP_OK);
    assert_ptr_equal(mrp_region_address(slice), address + size - 1);
    pool_fixture_free(slice);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    assert_int_equal(mrp_token_resolve(f->pool, &token, &found), MRP_OK);
    assert_ptr_equal(found, region);
    pool_fixture_free(region);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(large__a_thousand_of_1_mib_and_1_is_one_registration),
        POOL_TEST(large__is_one_registration_over_the_default_backend),
        POOL_TEST(large__idle_ones_serve_three_quarters_of_their_size),
        POOL_TEST(large__rounds_to_a_quarter_of_a_doubling),
        POOL_TEST(retention__is_bounded_by_bytes_and_count),
        POOL_TEST(retention__trim_keeps_what_it_is_told),
        POOL_TEST(retention__idle_memory_makes_room_in_the_budget),
        POOL_TEST(large__of_5_gib_has_64_bit_lengths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
