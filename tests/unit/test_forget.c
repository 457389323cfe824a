/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_region_forget: a region's memory leaves the pool whole, and becomes the caller's.
 */
#include "outside_memory.h"
#include "recording_backend.h"

static size_t n_mappings(struct pool_fixture *f)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    assert_int_equal(mrp_backend_query(f->backend, &info), MRP_OK);
    return info.n_mappings;
}

static void forget__adopted_memory_is_the_callers_again(void **state)
{
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 2 * MRP_MIB, 100);
    struct mrp_region *region;
    void *address;
    size_t size;

    pool_fixture_create(f, NULL);
    for (size_t round = 0; round < 3; round++) {
        region = outside_adopt(f, &outside);
        memset(outside.address, (int)round, outside.size);
        address = NULL;
        size = 0;
        assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
        assert_ptr_equal(address, outside.address);
        assert_int_equal(size, outside.size);
        assert_int_equal(outside.n_released, 0);
        assert_int_equal(outside.address[size - 1], round);
        assert_int_equal(f->networks[0].n_live, 0);
        assert_null(mrp_region_find(f->pool, address));
        assert_refused(mrp_region_free(region), MRP_ERR_STALE, "is free");
        assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
        pool_fixture_check_registrations(f, 1);
    }
    outside_destroy_pool(f);
    assert_int_equal(outside.n_released, 0);
    outside_unmap(&outside);
}

/* All of what was adopted, whatever a later owner was given of it. */
static void forget__adopted_memory_after_another_owner(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct outside outside = outside_map(f, 4 * MRP_MIB, 100);
    struct mrp_region *region;
    void *address;
    size_t size;

    params.headroom = params.tailroom = 300;
    pool_fixture_create(f, &params);
    pool_fixture_free(outside_adopt(f, &outside));
    region = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_ptr_not_equal(mrp_region_address(region), outside.address);
    assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
    assert_ptr_equal(address, outside.address);
    assert_int_equal(size, outside.size);
    outside_destroy_pool(f);
    assert_int_equal(outside.n_released, 0);
    outside_unmap(&outside);
}

static void forget__a_large_region_is_a_block_of_the_context(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_region *region;
    void *address, *before;
    size_t size, capacity;

    for (size_t headroom = 0; headroom <= 1000; headroom += 1000) {
        params.headroom = headroom;
        pool_fixture_create(f, &params);
        region = pool_fixture_alloc(f, 3 * MRP_MIB);
        before = mrp_region_address(region);
        capacity = mrp_region_capacity(region);
        memset(before, 4, capacity);
        assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
        assert_ptr_equal(address, before);
        assert_int_equal(size, capacity);
        assert_int_equal(f->networks[0].n_live, 0);
        assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
        assert_null(mrp_region_find(f->pool, address));
        pool_fixture_check_registrations(f, 1);
        outside_destroy_pool(f); /* which the block outlives */
        assert_int_equal(n_mappings(f), 1);
        assert_refused(mrp_backend_destroy(f->backend), MRP_ERR_BUSY, "");
        assert_int_equal(((char *)address)[0] + ((char *)address)[size - 1], 8);
        assert_int_equal(mrp_memory_query(f->context, address, &info), MRP_OK);
        assert_ptr_equal(info.address, address);
        assert_ptr_equal(info.backend, f->backend);
        assert_int_equal(info.size, size);
        assert_int_equal(info.usable_size, size);
        assert_int_equal(info.page_size, 4096);
        assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
        assert_int_equal(stats.n_blocks, 1);
        assert_int_equal(stats.block_size, size);
        assert_int_equal(stats.n_chunks, 0);
        assert_int_equal(mrp_memory_free(f->context, address), MRP_OK);
        assert_int_equal(n_mappings(f), 0);
        assert_refused(
            mrp_memory_free(f->context, address), MRP_ERR_STALE, "freed already");
    }
}

/* Also of the pool's own backend, which nobody else could destroy. */
static void forget__a_block_outlives_the_pools_own_backend(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;
    void *address;
    size_t size;

    params.backend = NULL;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
    outside_destroy_pool(f);
    memset(address, 1, size);
    assert_int_equal(mrp_memory_free(f->context, address), MRP_OK);
}

static void forget__a_block_nobody_frees_is_a_leak_of_the_context(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context *context;
    struct mrp_region *region;
    struct mrp_pool *pool;
    void *address;
    size_t size;

    (void)f;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(mrp_pool_create(context, NULL, &pool), MRP_OK);
    region = mrp_region_alloc(pool, 2 * MRP_MIB);
    assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
    assert_refused(mrp_context_destroy(context), MRP_ERR_LEAKED,
        "block of 2097152 bytes"); /* and unmapped */
}

static void forget__refuses_what_others_hold(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *slice;
    void *address = NULL;
    size_t size = 0;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(mrp_region_retain(region), MRP_OK);
    assert_refused(
        mrp_region_forget(region, &address, &size), MRP_ERR_BUSY, "2 references");
    assert_int_equal(mrp_region_release(region), MRP_OK);
    assert_int_equal(mrp_region_slice(region, 0, 10, &slice), MRP_OK);
    assert_refused(mrp_region_forget(region, &address, &size), MRP_ERR_BUSY, "sliced");
    assert_refused(
        mrp_region_forget(slice, &address, &size), MRP_ERR_UNSUPPORTED, "is a slice");
    pool_fixture_free(slice);
    assert_null(address);
    assert_int_equal(mrp_region_size(region), 2 * MRP_MIB);
    assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
    assert_int_equal(mrp_memory_free(f->context, address), MRP_OK);
}

static void forget__refuses_what_is_not_whole_or_not_the_pools(void **state)
{
    static char memory[1000];
    struct pool_fixture *f = *state;
    struct mrp_region *region, *user;
    void *address = NULL;
    size_t size = 0;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, MRP_MIB);
    assert_refused(mrp_region_forget(region, &address, &size), MRP_ERR_UNSUPPORTED,
        "is a part of a chunk");
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, NULL, &user), MRP_OK);
    assert_refused(mrp_region_forget(user, &address, &size), MRP_ERR_UNSUPPORTED,
        "caller's own memory");
    assert_refused(mrp_region_forget(NULL, &address, &size), MRP_ERR_STALE, "NULL");
    assert_refused(
        mrp_region_forget(region, NULL, &size), MRP_ERR_INVALID, "address is NULL");
    assert_refused(
        mrp_region_forget(region, &address, NULL), MRP_ERR_INVALID, "size is NULL");
    pool_fixture_free(user);
    pool_fixture_free(region);
    assert_refused(mrp_region_forget(region, &address, &size), MRP_ERR_STALE, "is free");
    assert_null(address);
    assert_int_equal(size, 0);
}

/* -- the network refuses to give it up -- */

static void forget__failing_to_deregister_parks_a_large_region(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;
    void *address = NULL;
    size_t size = 0;

    params.n_rails = 2;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    f->networks[1].deregister_fail_at = 1;
    f->networks[1].deregister_fail_count = 1;
    assert_refused(
        mrp_region_forget(region, &address, &size), MRP_ERR_REGISTER, "fails as told");
    assert_null(address);
    assert_null(mrp_region_address(region));
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_parked, 1);
    assert_int_equal(stats.n_blocks, 0);
    assert_int_equal(stats.block_size, 0);
    assert_int_equal(f->networks[0].n_live, 0);
    outside_destroy_pool(f);
    assert_int_equal(n_mappings(f), 1);
    f->networks[1].n_live = 0;
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    assert_int_equal(n_mappings(f), 0);
}

static void forget__failing_to_deregister_releases_adopted_memory_later(void **state)
{
    struct pool_fixture *f = *state;
    struct outside outside = outside_map(f, 2 * MRP_MIB, 0);
    struct mrp_region *region;
    void *address = NULL;
    size_t size = 0;

    pool_fixture_create(f, NULL);
    region = outside_adopt(f, &outside);
    f->networks[0].deregister_fail_at = 1;
    f->networks[0].deregister_fail_count = 1;
    assert_refused(
        mrp_region_forget(region, &address, &size), MRP_ERR_REGISTER, "fails as told");
    assert_null(address);
    outside_destroy_pool(f);
    assert_int_equal(outside.n_released, 0);
    f->networks[0].n_live = 0;
    assert_int_equal(mrp_provider_close(f->rails[0]), MRP_OK);
    assert_int_equal(outside.n_released, 1);
}

/* -- round trips -- */

/* Out of one pool and into another, whose release frees the block. */
static void free_block(void *address, size_t size, void *context)
{
    (void)size;
    assert_int_equal(mrp_memory_free(context, address), MRP_OK);
}

static void forget__then_adopt_moves_memory_between_pools(void **state)
{
    struct mrp_region_adopt_params params = MRP_REGION_ADOPT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct mrp_pool *other;
    void *address;
    size_t size;

    params.release = free_block;
    params.user = f->context;
    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_create(f->context, NULL, &other), MRP_OK);
    region = pool_fixture_alloc(f, 3 * MRP_MIB);
    memset(mrp_region_address(region), 9, 3 * MRP_MIB);
    assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
    assert_int_equal(mrp_region_adopt(other, address, size, &params, &region), MRP_OK);
    assert_int_equal(((char *)mrp_region_address(region))[3 * MRP_MIB - 1], 9);
    pool_fixture_free(region);
    assert_int_equal(n_mappings(f), 1);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
    assert_int_equal(n_mappings(f), 0);
}

static void forget__under_all_checks(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    void *address;
    size_t size;

    for (enum mrp_checks checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        params.checks = checks;
        pool_fixture_create(f, &params);
        for (size_t i = 0; i < 200; i++) {
            struct mrp_region *region = pool_fixture_alloc(f, 2 * MRP_MIB);

            assert_int_equal(mrp_region_forget(region, &address, &size), MRP_OK);
            assert_refused(mrp_region_forget(region, &address, &size), MRP_ERR_STALE, "");
            assert_int_equal(mrp_memory_free(f->context, address), MRP_OK);
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        outside_destroy_pool(f);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(forget__adopted_memory_is_the_callers_again),
        POOL_TEST(forget__adopted_memory_after_another_owner),
        POOL_TEST(forget__a_large_region_is_a_block_of_the_context),
        POOL_TEST(forget__a_block_outlives_the_pools_own_backend),
        POOL_TEST(forget__a_block_nobody_frees_is_a_leak_of_the_context),
        POOL_TEST(forget__refuses_what_others_hold),
        POOL_TEST(forget__refuses_what_is_not_whole_or_not_the_pools),
        POOL_TEST(forget__failing_to_deregister_parks_a_large_region),
        POOL_TEST(forget__failing_to_deregister_releases_adopted_memory_later),
        POOL_TEST(forget__then_adopt_moves_memory_between_pools),
        POOL_TEST(forget__under_all_checks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
