/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Pools over other backends than mmap: the caller's array, which is all there is, and
 * malloc.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

static _Alignas(4096) unsigned char array[4 * MRP_MIB + 8192];

static struct mrp_backend *array_backend(
    struct pool_fixture *f, void *address, size_t size)
{
    struct mrp_backend_params params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_backend *backend = NULL;

    params.address = address;
    params.size = size;
    assert_int_equal(mrp_backend_create(f->context, "array", &params, &backend), MRP_OK);
    return backend;
}

static void create_over(struct pool_fixture *f, void *address, size_t size)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.backend = array_backend(f, address, size);
    pool_fixture_create(f, &params);
}

/* Take regions until there are none; all inside [address, address + size). */
static size_t exhaust(struct mrp_pool *pool, size_t size, const unsigned char *begin,
    size_t n_bytes, struct mrp_region **regions)
{
    size_t n = 0;

    while ((regions[n] = mrp_region_alloc(pool, size)) != NULL) {
        unsigned char *address = mrp_region_address(regions[n]);

        assert_int_equal((uintptr_t)address % 64, 0);
        assert_true(address >= begin);
        assert_true(address + mrp_region_capacity(regions[n]) <= begin + n_bytes);
        assert_ptr_equal(mrp_region_find(pool, address), regions[n]);
        memset(address, 1, mrp_region_capacity(regions[n]));
        n++;
    }
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_non_null(strstr(mrp_error_last()->text, "all that its backend has"));
    return n;
}

static void array__is_used_up_and_used_again(void **state)
{
    static struct mrp_region *regions[70000];
    static const size_t sizes[] = {64, 1000, 16 * MRP_KIB, 64 * MRP_KIB, MRP_MIB};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 5; i++) {
        size_t n;

        create_over(f, array, 4 * MRP_MIB);
        n = exhaust(f->pool, sizes[i], array, 4 * MRP_MIB, regions);
        assert_true(n * sizes[i] >= 4 * MRP_MIB / 10 * 9);
        assert_int_equal(f->networks[0].n_live, 1); /* all of it, at once */
        assert_int_equal(f->networks[0].live_size, 4 * MRP_MIB);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        for (size_t round = 0; round < 3; round++) {
            assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
            assert_int_equal(exhaust(f->pool, sizes[i], array, 4 * MRP_MIB, regions), n);
        }
        assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void array__of_any_size_and_place(void **state)
{
    static struct mrp_region *regions[5000];
    static const size_t lengths[] = {16 * MRP_KIB, 20000, 100 * 1000, 256 * MRP_KIB + 64,
        1000 * 1000, 3 * MRP_MIB + 12345};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 6; i++) {
        for (size_t shift = 0; shift <= 4096; shift = shift * 8 + 64) {
            size_t n;

            create_over(f, array + shift, lengths[i]);
            n = exhaust(f->pool, 1000, array + shift, lengths[i], regions);
            assert_true(
                n * 1024 + 16 * MRP_KIB >= mrp_align_down(lengths[i], 16384) / 8 * 7);
            assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
            assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
            assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
            f->pool = NULL;
        }
    }
}

static void array__smaller_than_a_slab_says_so(void **state)
{
    struct pool_fixture *f = *state;

    create_over(f, array, 8 * MRP_KIB);
    assert_none(
        mrp_region_alloc(f->pool, 1), MRP_ERR_LIMIT, "can never fit in the 8192 of pool");
    assert_int_equal(f->networks[0].n_register, 0);
}

static void array__not_on_a_line_is_refused(void **state)
{
    struct mrp_backend_params params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_backend *backend;
    struct pool_fixture *f = *state;

    params.address = array + 8;
    params.size = MRP_MIB;
    assert_refused(mrp_backend_create(f->context, "array", &params, &backend),
        MRP_ERR_INVALID, "aligned to 64");
}

static void array__keeps_the_pools_alignment(void **state)
{
    static const size_t alignments[] = {128, 4096, 16 * MRP_KIB};
    static struct mrp_region *regions[5000];
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        size_t n;

        params.backend = array_backend(f, array + 64, MRP_MIB);
        params.alignment = alignments[i];
        params.headroom = 10;
        pool_fixture_create(f, &params);
        n = exhaust(f->pool, 100, array + 64, MRP_MIB, regions);
        assert_true(n > 20);
        for (size_t j = 0; j < n; j++) {
            assert_int_equal(
                (uintptr_t)mrp_region_address(regions[j]) % alignments[i], 0);
        }
        assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* The first to grow takes what it may; the second one gets the rest, or a reason. */
static void array__of_two_pools(void **state)
{
    static struct mrp_region *ours[5000], *theirs[5000];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_pool *other;
    size_t n_ours, n_theirs;

    params.backend = array_backend(f, array, 4 * MRP_MIB);
    params.max_bytes = 2 * MRP_MIB;
    pool_fixture_create(f, &params);
    assert_int_equal(mrp_pool_create(f->context, &params, &other), MRP_OK);
    n_ours = exhaust(f->pool, 1000, array, 4 * MRP_MIB, ours);
    n_theirs = exhaust(other, 1000, array, 4 * MRP_MIB, theirs);
    assert_int_equal(n_ours, n_theirs);
    assert_int_equal(n_ours, 2048);
    for (size_t i = 0; i < n_ours; i++) {
        memset(mrp_region_address(ours[i]), 1, 1000);
        memset(mrp_region_address(theirs[i]), 2, 1000);
    }
    for (size_t i = 0; i < n_ours; i++) {
        assert_int_equal(*(char *)mrp_region_address(ours[i]), 1);
        assert_none(
            mrp_region_find(other, mrp_region_address(ours[i])), MRP_ERR_NOT_FOUND, "");
    }
    assert_int_equal(mrp_region_free_many(ours, n_ours, NULL), MRP_OK);
    assert_int_equal(mrp_region_free_many(theirs, n_theirs, NULL), MRP_OK);
    assert_int_equal(mrp_pool_check(other), MRP_OK);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
}

static void array__taken_by_another_pool_says_so(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region, *theirs;
    struct mrp_pool *other;

    params.backend = array_backend(f, array, MRP_MIB);
    pool_fixture_create(f, &params);
    assert_int_equal(mrp_pool_create(f->context, &params, &other), MRP_OK);
    region = pool_fixture_alloc(f, 1);
    mrp_error_clear();
    assert_null(mrp_region_alloc(other, 1));
    assert_true(mrp_error_last()->status == MRP_ERR_LIMIT ||
        mrp_error_last()->status == MRP_ERR_MEMORY);
    assert_int_equal(pool_fixture_stats(other).mapped_size, 0);
    pool_fixture_free(region);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    theirs = mrp_region_alloc(other, 1);
    assert_non_null(theirs);
    assert_int_equal(mrp_region_free(theirs), MRP_OK);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
}

/* What is larger than huge comes from the array too, until a chunk has taken the rest. */
static void array__large_regions(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *large, *small;

    create_over(f, array, 4 * MRP_MIB);
    large = pool_fixture_alloc(f, 2 * MRP_MIB);
    small = pool_fixture_alloc(f, 1000);
    assert_true((unsigned char *)mrp_region_address(large) >= array);
    assert_true(
        (unsigned char *)mrp_region_address(large) + 2 * MRP_MIB <= array + sizeof array);
    memset(mrp_region_address(large), 1, 2 * MRP_MIB);
    memset(mrp_region_address(small), 2, 1000);
    assert_ptr_equal(mrp_region_find(f->pool, mrp_region_address(large)), large);
    assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_LIMIT, "");
    pool_fixture_free(large);
    large = pool_fixture_alloc(f, 2 * MRP_MIB);
    pool_fixture_free(small);
    pool_fixture_free(large);
}

static void array__reads_as_zero_only_when_asked(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    memset(array, 0x77, sizeof array);
    create_over(f, array, MRP_MIB);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(*(char *)mrp_region_address(region), 0x77); /* nobody wrote to it */
    pool_fixture_free(region);
    request.flags = MRP_REQUEST_ZERO;
    region = mrp_region_alloc_with(f->pool, 100, &request);
    assert_int_equal(*(char *)mrp_region_address(region), 0);
    pool_fixture_free(region);
}

static void malloc__serves_every_tier(void **state)
{
    static const size_t sizes[] = {1, 5000, 60000, MRP_MIB, 3 * MRP_MIB};
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[50];

    assert_int_equal(
        mrp_backend_create(f->context, "malloc", NULL, &params.backend), MRP_OK);
    params.chunk_min = MRP_MIB;
    pool_fixture_create(f, &params);
    request.flags = MRP_REQUEST_ZERO;
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < 50; i++) {
            regions[i] = mrp_region_alloc_with(f->pool, sizes[i % 5], &request);
            assert_non_null(regions[i]);
            for (size_t j = 0; j < sizes[i % 5]; j += 61) {
                assert_int_equal(((char *)mrp_region_address(regions[i]))[j], 0);
            }
            memset(mrp_region_address(regions[i]), 1, sizes[i % 5]);
        }
        assert_int_equal(mrp_region_free_many(regions, 50, NULL), MRP_OK);
        pool_fixture_check_registrations(f, 1);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(array__is_used_up_and_used_again),
        POOL_TEST(array__of_any_size_and_place),
        POOL_TEST(array__smaller_than_a_slab_says_so),
        POOL_TEST(array__not_on_a_line_is_refused),
        POOL_TEST(array__keeps_the_pools_alignment),
        POOL_TEST(array__of_two_pools),
        POOL_TEST(array__taken_by_another_pool_says_so),
        POOL_TEST(array__large_regions),
        POOL_TEST(array__reads_as_zero_only_when_asked),
        POOL_TEST(malloc__serves_every_tier),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
