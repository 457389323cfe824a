/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Taking regions: which block a size gets, what of it may be written, what a request may
 * ask for, and what is refused.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <stdlib.h>

/* -- size and address -- */

static void alloc__every_size_comes_from_its_tier(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    static const size_t ends[MRP_TIERS] = {MRP_KIB, 16 * MRP_KIB, 64 * MRP_KIB, MRP_MIB};
    int tier = 0;

    params.max_bytes = 256 * MRP_MIB;
    pool_fixture_create(f, &params);
    for (size_t size = 0; size <= MRP_MIB; size += size < 2048 ? 1 : 61 + size / 40) {
        struct mrp_region *region = pool_fixture_alloc(f, size);
        struct mrp_region_info info = pool_fixture_query(region);

        while (size > ends[tier]) {
            tier++;
        }
        assert_int_equal(info.tier, tier);
        assert_int_equal(info.kind, MRP_REGION_POOLED);
        assert_int_equal((uintptr_t)info.address % 64, 0);
        assert_int_equal(info.size, size);
        assert_int_equal(info.length, 0);
        assert_int_equal(info.references, 1);
        assert_ptr_equal(info.pool, f->pool);
        assert_null(info.parent);
        assert_true(info.capacity - size <= mrp_max(64, size / 4));
        pool_fixture_free(region);
    }
    assert_int_equal(
        pool_fixture_query(pool_fixture_alloc(f, MRP_MIB + 1)).kind, MRP_REGION_LARGE);
    assert_refused(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED, "1048577 bytes");
    f->pool = NULL;
}

static void alloc__size_0_gives_the_smallest(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *other;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 0);
    other = pool_fixture_alloc(f, 0);
    assert_int_equal(mrp_region_size(region), 0);
    assert_int_equal(mrp_region_capacity(region), 64);
    assert_ptr_not_equal(mrp_region_address(region), mrp_region_address(other));
    pool_fixture_free(region);
    pool_fixture_free(other);
}

/* Everything from the headroom on to the end of the tailroom belongs to one region. */
static void fill(const struct mrp_region *region, size_t headroom, size_t tailroom,
    unsigned char value)
{
    memset((char *)mrp_region_address(region) - headroom, value,
        headroom + mrp_region_capacity(region) + tailroom);
}

static void check_filled(const struct mrp_region *region, size_t headroom,
    size_t tailroom, unsigned char value)
{
    const unsigned char *byte = (unsigned char *)mrp_region_address(region) - headroom;

    for (size_t i = 0; i < headroom + mrp_region_capacity(region) + tailroom; i++) {
        assert_int_equal(byte[i], value);
    }
}

static void check_apart(struct pool_fixture *f, size_t headroom, size_t tailroom,
    size_t alignment, size_t step)
{
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[200];
    size_t n = 0, largest = 200000;

    params.headroom = headroom;
    params.tailroom = tailroom;
    params.alignment = alignment;
    params.max_bytes = 128 * MRP_MIB;
    pool_fixture_create(f, &params);
    for (size_t size = 0; size < largest && n < 198; size = size * step / 8 + 7, n += 2) {
        regions[n] = pool_fixture_alloc(f, size);
        regions[n + 1] = pool_fixture_alloc(f, size);
    }
    regions[n++] = pool_fixture_alloc(f, MRP_MIB + 1);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(
            (uintptr_t)mrp_region_address(regions[i]) % mrp_max(alignment, 64), 0);
        fill(regions[i], headroom, tailroom, (unsigned char)(i + 1));
    }
    for (size_t i = 0; i < n; i++) {
        check_filled(regions[i], headroom, tailroom, (unsigned char)(i + 1));
        pool_fixture_free(regions[i]);
    }
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
}

static void alloc__blocks_are_writable_and_apart(void **state)
{
    check_apart(*state, 0, 0, 0, 9);
}

static void alloc__headroom_and_tailroom_are_writable_and_apart(void **state)
{
    check_apart(*state, 1, 1, 0, 13);
    check_apart(*state, 64, 128, 64, 13);
    check_apart(*state, 100, 37, 256, 13);
    check_apart(*state, 4096, 13, 4096, 17);
    check_apart(*state, 64 * MRP_KIB, 64 * MRP_KIB, 16 * MRP_KIB, 17);
}

static void alloc__room_is_registered_with_the_payload(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *regions[2];

    params.headroom = 100;
    params.tailroom = 200;
    pool_fixture_create(f, &params);
    regions[0] = pool_fixture_alloc(f, 1000);
    regions[1] = pool_fixture_alloc(f, 2 * MRP_MIB);
    for (size_t i = 0; i < 2; i++) {
        char *address = mrp_region_address(regions[i]);

        assert_int_equal(mrp_resolve(f->pool, address - 100,
                             100 + mrp_region_capacity(regions[i]) + 200, 0, &wire),
            MRP_OK);
        pool_fixture_free(regions[i]);
    }
}

static void alloc__block_sizes_are_exact(void **state)
{
    static const size_t sizes[] = {100, 5000, 64 * MRP_KIB, 3 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.block_sizes = sizes;
    params.n_block_sizes = 4;
    params.headroom = 10;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 4; i++) {
        region = pool_fixture_alloc(f, sizes[i]);
        assert_int_equal(mrp_region_capacity(region), sizes[i]);
        pool_fixture_free(region);
        region = pool_fixture_alloc(f, i == 0 ? 0 : sizes[i - 1] + 1);
        assert_int_equal(mrp_region_capacity(region), sizes[i]);
        pool_fixture_free(region);
    }
    region = pool_fixture_alloc(f, 3 * MRP_MIB + 1);
    assert_int_equal(pool_fixture_query(region).kind, MRP_REGION_LARGE);
    pool_fixture_free(region);
}

/* -- requests -- */

static void dirty_all(struct pool_fixture *f, size_t size)
{
    struct mrp_region *regions[300];

    for (size_t i = 0; i < 300; i++) {
        regions[i] = pool_fixture_alloc(f, size);
        memset(mrp_region_address(regions[i]), 0xa5, mrp_region_capacity(regions[i]));
    }
    assert_int_equal(mrp_region_free_many(regions, 300, NULL), MRP_OK);
}

static void check_zero(struct pool_fixture *f, size_t size)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;
    const unsigned char *bytes;

    request.flags = MRP_REQUEST_ZERO;
    region = mrp_region_alloc_with(f->pool, size, &request);
    assert_non_null(region);
    bytes = mrp_region_address(region);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(bytes[i], 0);
    }
    memset(mrp_region_address(region), 0x5a, mrp_region_capacity(region));
    pool_fixture_free(region);
}

static void check_zero_of_sizes(struct pool_fixture *f)
{
    static const size_t sizes[] = {1, 64, 1000, 5000, 100000};

    for (size_t i = 0; i < 5; i++) {
        check_zero(f, sizes[i]); /* never given out */
        dirty_all(f, sizes[i]);
        for (size_t j = 0; j < 10; j++) {
            check_zero(f, sizes[i]); /* written by the owner before */
        }
    }
    for (size_t j = 0; j < 3; j++) {
        check_zero(f, 3 * MRP_MIB);
    }
}

/* Only peers that may write keep the library from trusting a block nobody has had. */
static void alloc_with__zero_reads_as_zero(void **state)
{
    static const uint32_t access[] = {MRP_ACCESS_LOCAL, MRP_ACCESS_ALL};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 2; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);

        params.access = access[i];
        pool_fixture_create(f, &params);
        check_zero_of_sizes(f);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* malloc gives back what others have written. */
static void alloc_with__zero_over_memory_that_is_not(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_backend_params array = MRP_BACKEND_PARAMS_INIT;
    void *memory = aligned_alloc(64, 4 * MRP_MIB);

    assert_non_null(memory);
    memset(memory, 0xff, 4 * MRP_MIB);
    array.address = memory;
    array.size = 4 * MRP_MIB;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &array, &params.backend), MRP_OK);
    params.access = 0;
    pool_fixture_create(f, &params);
    check_zero(f, 100);
    check_zero(f, 100000);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    assert_int_equal(mrp_backend_destroy(params.backend), MRP_OK);
    free(memory);
}

static void alloc_with__alignment_up_to_a_gibibyte(void **state)
{
    struct pool_fixture *f = *state;
    size_t most = test_is_watched() ? 4 * MRP_MIB : MRP_GIB;

    pool_fixture_create(f, NULL);
    for (size_t alignment = 1; alignment <= most; alignment *= 2) {
        for (size_t size = 0; size < 3 * MRP_MIB; size = size * 31 + 1) {
            struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
            struct mrp_region *region, *other;

            request.alignment = alignment;
            region = mrp_region_alloc_with(f->pool, size, &request);
            assert_non_null(region);
            assert_int_equal((uintptr_t)mrp_region_address(region) % alignment, 0);
            assert_int_equal((uintptr_t)mrp_region_address(region) % 64, 0);
            assert_true(mrp_region_capacity(region) >= size);
            memset(mrp_region_address(region), 1, size);
            other = mrp_region_alloc_with(f->pool, size, &request);
            assert_int_equal((uintptr_t)mrp_region_address(other) % alignment, 0);
            pool_fixture_free(region);
            pool_fixture_free(other);
        }
    }
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
}

/* Blocks of 5, 6 and 7 quarters of the alignment fall off it, all but the first. */
static void alloc_with__alignment_holds_for_every_block(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    struct mrp_region *regions[24];

    pool_fixture_create(f, NULL);
    for (size_t alignment = 128; alignment <= 16 * MRP_KIB; alignment *= 2) {
        request.alignment = alignment;
        for (size_t i = 0; i < 24; i++) {
            regions[i] =
                mrp_region_alloc_with(f->pool, alignment * (4 + i % 4) / 4 + 1, &request);
            assert_non_null(regions[i]);
            assert_int_equal((uintptr_t)mrp_region_address(regions[i]) % alignment, 0);
        }
        assert_int_equal(mrp_region_free_many(regions, 24, NULL), MRP_OK);
    }
}

static void alloc_with__alignment_needs_headroom_that_keeps_it(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.headroom = 1000; /* 1024 stand before each payload */
    pool_fixture_create(f, &params);
    request.alignment = 1024;
    region = mrp_region_alloc_with(f->pool, 10, &request);
    assert_int_equal((uintptr_t)mrp_region_address(region) % 1024, 0);
    pool_fixture_free(region);
    request.alignment = 2048;
    assert_none(mrp_region_alloc_with(f->pool, 10, &request), MRP_ERR_INVALID,
        "1024 bytes of headroom");
}

static void alloc_with__wrong_requests_are_refused(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    request.flags = 8;
    assert_none(mrp_region_alloc_with(f->pool, 1, &request), MRP_ERR_INVALID,
        "flags are 0x8: unknown bits");
    request.flags = 0;
    request.alignment = 3;
    assert_none(mrp_region_alloc_with(f->pool, 1, &request), MRP_ERR_INVALID,
        "alignment is 3: it must be a power of two");
    request.alignment = 2 * MRP_GIB;
    assert_none(
        mrp_region_alloc_with(f->pool, 1, &request), MRP_ERR_INVALID, "at most 1 GiB");
    request.alignment = 0;
    request.struct_size = 0;
    assert_none(
        mrp_region_alloc_with(f->pool, 1, &request), MRP_ERR_INVALID, "struct_size");
    assert_none(mrp_region_alloc_with(NULL, 1, NULL), MRP_ERR_STALE, "NULL");
    pool_fixture_free(mrp_region_alloc_with(f->pool, 1, NULL));
    assert_int_equal(f->networks[0].n_register, 1);
}

static void check_never_grows(struct pool_fixture *f, uint32_t flags)
{
    static const size_t sizes[] = {0, 5000, 50000, MRP_MIB, MRP_MIB + 1};
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    size_t before = f->networks[0].n_register;
    struct mrp_region *region;

    request.flags = flags;
    for (size_t i = 0; i < 5; i++) {
        assert_none(
            mrp_region_alloc_with(f->pool, sizes[i], &request), MRP_ERR_AGAIN, "pool");
    }
    assert_int_equal(f->networks[0].n_register, before);
    for (size_t i = 0; i < 5; i++) {
        pool_fixture_free(pool_fixture_alloc(f, sizes[i]));
        before = f->networks[0].n_register;
        region = mrp_region_alloc_with(f->pool, sizes[i], &request);
        assert_non_null(region);
        pool_fixture_free(region);
        assert_int_equal(f->networks[0].n_register, before);
    }
}

static void alloc_with__nogrow_takes_only_what_is_there(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    check_never_grows(f, MRP_REQUEST_NOGROW);
}

static void alloc_with__nowait_takes_only_what_is_there(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    check_never_grows(f, MRP_REQUEST_NOWAIT);
}

/* Until the last block of what is mapped has been given out, and not one further. */
static void alloc_with__nogrow_uses_up_the_chunk(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[17] = {NULL};
    size_t n = 1;

    params.chunk_min = params.chunk_max = MRP_MIB;
    pool_fixture_create(f, &params);
    regions[0] = pool_fixture_alloc(f, 64 * MRP_KIB);
    request.flags = MRP_REQUEST_NOGROW;
    while (n < 17 &&
        (regions[n] = mrp_region_alloc_with(f->pool, 64 * MRP_KIB, &request)) != NULL) {
        n++;
    }
    assert_int_equal(n, 16);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_AGAIN);
    assert_int_equal(f->networks[0].n_register, 1);
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
}

/* -- many -- */

static void alloc_many__gives_distinct_regions(void **state)
{
    static const size_t sizes[] = {0, 3000, 64 * MRP_KIB, 2 * MRP_MIB};
    static struct mrp_region *regions[2000];
    struct pool_fixture *f = *state;
    size_t freed = 0;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 4; i++) {
        size_t n = sizes[i] > MRP_MIB ? 10 : 2000;

        for (size_t round = 0; round < 3; round++) {
            assert_int_equal(mrp_region_alloc_many(f->pool, sizes[i], n, regions), n);
            for (size_t j = 0; j < n; j++) {
                assert_int_equal(mrp_region_size(regions[j]), sizes[i]);
                assert_int_equal(mrp_region_set_length(regions[j], 7), MRP_OK);
            }
            assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
            assert_int_equal(mrp_region_free_many(regions, n, &freed), MRP_OK);
            assert_int_equal(freed, n);
            assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        }
    }
}

static void alloc_many__gives_what_there_is(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[40];

    params.max_bytes = 2 * MRP_MIB;
    pool_fixture_create(f, &params);
    mrp_error_clear();
    assert_int_equal(mrp_region_alloc_many(f->pool, 64 * MRP_KIB, 40, regions), 32);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_int_equal(mrp_region_free_many(regions, 32, NULL), MRP_OK);
    assert_int_equal(mrp_region_alloc_many(f->pool, 64 * MRP_KIB, 0, NULL), 0);
    mrp_error_clear();
    assert_int_equal(mrp_region_alloc_many(f->pool, 1, 1, NULL), 0);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_INVALID);
    assert_int_equal(mrp_region_alloc_many(NULL, 1, 1, regions), 0);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_STALE);
    assert_int_equal(mrp_region_alloc_many(f->pool, SIZE_MAX, 1, regions), 0);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_INVALID);
}

/* -- too much -- */

static void alloc__sizes_near_size_max_are_refused(void **state)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.headroom = params.tailroom = 4096;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 1);
    request.alignment = 4096;
    for (size_t less = 0; less < 20000; less += less < 200 ? 1 : 61) {
        assert_none(mrp_region_alloc(f->pool, SIZE_MAX - less), MRP_ERR_INVALID,
            "no machine has as many");
        assert_none(mrp_region_alloc_with(f->pool, SIZE_MAX - less, &request),
            MRP_ERR_INVALID, "no machine has as many");
    }
    for (unsigned bit = 47; bit < 64; bit++) {
        assert_none(mrp_region_alloc(f->pool, (size_t)1 << bit), MRP_ERR_INVALID, "");
    }
    assert_null(mrp_ptr_alloc(f->pool, SIZE_MAX));
    assert_int_equal(f->networks[0].n_register, 1);
    pool_fixture_free(region);
}

static void alloc__small_one_after_a_huge_one_that_failed(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (unsigned bit = 40; bit < 47; bit++) {
        assert_none(mrp_region_alloc(f->pool, ((size_t)1 << bit) - 4096), MRP_ERR_LIMIT,
            "raise max_bytes");
        pool_fixture_free(pool_fixture_alloc(f, 16));
    }
    pool_fixture_check_registrations(f, 1);
}

/* 16 bytes at a time for ever, in one chunk. */
static void alloc__a_loop_runs_in_bounded_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = 256 * MRP_KIB;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 1000000; i++) {
        struct mrp_region *region = mrp_region_alloc(f->pool, 16);

        if (region == NULL || mrp_region_free(region) != MRP_OK) {
            fail_msg("round %zu: %s", i, mrp_error_last()->text);
        }
    }
    assert_int_equal(f->networks[0].n_register, 1);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_allocs, 1000000);
}

/* 64 Ki of them live at once: still found by their address, still counted. */
static void alloc__64k_live_regions(void **state)
{
    static struct mrp_region *regions[65536];
    struct pool_fixture *f = *state;
    size_t n = test_is_watched() ? 4096 : 65536;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < n; i++) {
        regions[i] = mrp_region_alloc(f->pool, 200);
        assert_non_null(regions[i]);
    }
    for (size_t i = 0; i < n; i++) {
        char *address = mrp_region_address(regions[i]);

        assert_ptr_equal(mrp_region_find(f->pool, address + 199), regions[i]);
    }
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, n);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].live_size, n * 200);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(alloc__every_size_comes_from_its_tier),
        POOL_TEST(alloc__size_0_gives_the_smallest),
        POOL_TEST(alloc__blocks_are_writable_and_apart),
        POOL_TEST(alloc__headroom_and_tailroom_are_writable_and_apart),
        POOL_TEST(alloc__room_is_registered_with_the_payload),
        POOL_TEST(alloc__block_sizes_are_exact),
        POOL_TEST(alloc_with__zero_reads_as_zero),
        POOL_TEST(alloc_with__zero_over_memory_that_is_not),
        POOL_TEST(alloc_with__alignment_up_to_a_gibibyte),
        POOL_TEST(alloc_with__alignment_holds_for_every_block),
        POOL_TEST(alloc_with__alignment_needs_headroom_that_keeps_it),
        POOL_TEST(alloc_with__wrong_requests_are_refused),
        POOL_TEST(alloc_with__nogrow_takes_only_what_is_there),
        POOL_TEST(alloc_with__nowait_takes_only_what_is_there),
        POOL_TEST(alloc_with__nogrow_uses_up_the_chunk),
        POOL_TEST(alloc_many__gives_distinct_regions),
        POOL_TEST(alloc_many__gives_what_there_is),
        POOL_TEST(alloc__sizes_near_size_max_are_refused),
        POOL_TEST(alloc__small_one_after_a_huge_one_that_failed),
        POOL_TEST(alloc__a_loop_runs_in_bounded_memory),
        POOL_TEST(alloc__64k_live_regions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
