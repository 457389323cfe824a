/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Presets: what each of them makes of a pool, who wins over it, and what is refused.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <stdlib.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static enum mrp_status create(
    struct pool_fixture *f, const struct mrp_pool_params *params)
{
    return mrp_pool_create(f->context, params, &f->pool);
}

static struct mrp_pool_params params_of(struct pool_fixture *f, enum mrp_preset preset)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.preset = preset;
    return params;
}

static void check_tiers(struct pool_fixture *f, const size_t wanted[MRP_TIERS])
{
    struct mrp_pool_stats stats = pool_fixture_stats(f->pool);

    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        assert_int_equal(stats.tiers[tier].max_size, wanted[tier]);
    }
}

/* -- thread_local and shared -- */

static void thread_local__is_the_default(void **state)
{
    static const enum mrp_preset presets[] = {
        MRP_PRESET_DEFAULT, MRP_PRESET_THREAD_LOCAL};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(presets); i++) {
        struct mrp_pool_params params = params_of(f, presets[i]);

        pool_fixture_create(f, &params);
        pool_fixture_free(pool_fixture_alloc(f, 16));
        assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
        assert_true(pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].n_cached > 0);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* 20 million, of which AllocTools' ScalablePageAllocator keeps some each time. */
static void shared__takes_and_frees_in_bounded_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_SHARED);
    size_t n = test_is_watched() ? 200 * 1000 : 20 * 1000 * 1000, mapped_size;

    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 16));
    mapped_size = pool_fixture_stats(f->pool).mapped_size;
    for (size_t i = 0; i < n; i++) {
        struct mrp_region *region = mrp_region_alloc(f->pool, 16);

        if (region == NULL || mrp_region_free(region) != MRP_OK) {
            fail_msg("%zu: %s", i, mrp_error_last()->text);
        }
    }
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, mapped_size);
    assert_int_equal(pool_fixture_stats(f->pool).n_growths, 1);
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
    assert_int_equal(pool_fixture_stats(f->pool).cached_size, 0);
}

static void shared__yields_to_a_cache_size(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_SHARED);

    params.thread_cache_size = MRP_MIB;
    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 16));
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);

    setenv("MRPOOL_PRESET", "shared", 1);
    params = params_of(f, MRP_PRESET_DEFAULT);
    pool_fixture_create(f, &params);
    unsetenv("MRPOOL_PRESET");
    pool_fixture_free(pool_fixture_alloc(f, 16));
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
}

/* -- alloctools -- */

static void alloctools__makes_its_regions_at_once(void **state)
{
    static const size_t tiers[MRP_TIERS] = {MRP_KIB, 16 * MRP_KIB, 64 * MRP_KIB, MRP_MIB};
    static const size_t counts[MRP_TIERS] = {1024, 2048, 64, 16};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_ALLOCTOOLS);
    struct mrp_region *regions[16];
    size_t n_growths;

    pool_fixture_create(f, &params);
    check_tiers(f, tiers);
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        assert_true(pool_fixture_stats(f->pool).tiers[tier].n_regions >= counts[tier]);
    }
    n_growths = pool_fixture_stats(f->pool).n_growths;
    assert_int_equal(
        f->networks[0].n_register, pool_fixture_stats(f->pool).n_registrations);
    for (size_t i = 0; i < N_OF(regions); i++) {
        regions[i] = pool_fixture_alloc(f, MRP_MIB);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_growths, n_growths);
    for (size_t i = 0; i < N_OF(regions); i++) {
        pool_fixture_free(regions[i]);
    }
}

/* What memlock leaves an ordinary user. */
static void alloctools__says_what_it_needs(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_ALLOCTOOLS);

    params.max_bytes = 8 * MRP_MIB;
    assert_refused(create(f, &params), MRP_ERR_LIMIT,
        "preset alloctools makes 1024, 2048, 64 and 16 regions at once, 55574528 bytes");
    assert_refused(create(f, &params), MRP_ERR_LIMIT, "raise max_bytes");
    assert_int_equal(f->networks[0].n_live, 0);
}

static void alloctools__yields_to_the_caller_and_the_environment(void **state)
{
    static const size_t tiers[MRP_TIERS] = {
        2 * MRP_KIB, 32 * MRP_KIB, 64 * MRP_KIB, MRP_MIB};
    static const size_t sizes[] = {100, 200};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_ALLOCTOOLS);

    params.tiers[MRP_TIER_SMALL].max_size = 2 * MRP_KIB;
    params.tiers[MRP_TIER_MEDIUM].preallocate = 1;
    setenv("MRPOOL_SMALL_MAX", "4K", 1);
    setenv("MRPOOL_MEDIUM_MAX", "32K", 1);
    pool_fixture_create(f, &params);
    unsetenv("MRPOOL_SMALL_MAX");
    unsetenv("MRPOOL_MEDIUM_MAX");
    check_tiers(f, tiers);
    assert_in_range(
        pool_fixture_stats(f->pool).tiers[MRP_TIER_MEDIUM].n_regions, 1, 1023);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);

    params =
        params_of(f, MRP_PRESET_ALLOCTOOLS); /* sizes of the caller's have no tiers */
    params.block_sizes = sizes;
    params.n_block_sizes = N_OF(sizes);
    pool_fixture_create(f, &params);
    assert_int_equal(pool_fixture_stats(f->pool).n_chunks, 0);
}

/* -- malloc -- */

static void malloc__registers_at_each_alloc(void **state)
{
    static const size_t sizes[] = {0, 1, 1000, 100 * 1000, 3 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_MALLOC);
    struct mrp_region *regions[N_OF(sizes)];

    params.backend = NULL;
    pool_fixture_create(f, &params);
    assert_string_equal(f->pool->backend->ops.kind, "malloc");
    for (size_t i = 0; i < N_OF(sizes); i++) {
        regions[i] = pool_fixture_alloc(f, sizes[i]);
        assert_int_equal(f->networks[0].n_register, i + 1);
    }
    for (size_t i = 0; i < N_OF(sizes); i++) {
        pool_fixture_free(regions[i]);
        assert_int_equal(f->networks[0].n_deregister, i + 1);
        assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    }
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    pool_fixture_free(pool_fixture_alloc(f, 1000));
    assert_int_equal(f->networks[0].n_register, N_OF(sizes) + 1);
}

static void malloc__leaves_nothing_to_choose(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_MALLOC);

    assert_refused(create(f, &params), MRP_ERR_INVALID, "leave backend NULL");
    params.backend = NULL;
    params.never_free = true;
    assert_refused(create(f, &params), MRP_ERR_INVALID, "never_free is set");
    params.never_free = false;
    setenv("MRPOOL_BACKEND", "mmap", 1);
    assert_refused(create(f, &params), MRP_ERR_INVALID, "MRPOOL_BACKEND=mmap");
    setenv("MRPOOL_BACKEND", "malloc", 1);
    pool_fixture_create(f, &params);
    unsetenv("MRPOOL_BACKEND");
}

/* -- hwmalloc -- */

static void hwmalloc__has_their_limits(void **state)
{
    static const size_t tiers[MRP_TIERS] = {128, 4 * MRP_KIB, 2 * MRP_MIB, 4 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC);
    struct mrp_region *region;

    pool_fixture_create(f, &params);
    check_tiers(f, tiers);
    region = pool_fixture_alloc(f, 0); /* theirs crashes */
    assert_int_equal(pool_fixture_stats(f->pool).chunk_size, 2 * MRP_MIB);
    assert_int_equal(f->pool->reserve, 16 * (64 * MRP_KIB + 64 * MRP_KIB + 2 * MRP_MIB));
    assert_false(f->pool->never_free);
    pool_fixture_free(region);
}

static void set_all(const char *const (*pairs)[2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (pairs[i][1] != NULL) {
            setenv(pairs[i][0], pairs[i][1], 1);
        } else {
            unsetenv(pairs[i][0]);
        }
    }
}

static void unset_all(const char *const (*pairs)[2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsetenv(pairs[i][0]);
    }
}

/* The values of their own test of rounding. */
static void hwmalloc__rounds_as_they_do(void **state)
{
    static const size_t tiers[MRP_TIERS] = {256, 512, 32 * MRP_KIB, 64 * MRP_KIB};
    static const char *const pairs[][2] = {{"HWMALLOC_TINY_LIMIT", "200"},
        {"HWMALLOC_SMALL_LIMIT", "500"}, {"HWMALLOC_LARGE_LIMIT", "20000"},
        {"HWMALLOC_TINY_SEGMENT_SIZE", "1000"}, {"HWMALLOC_SMALL_SEGMENT_SIZE", "3000"},
        {"HWMALLOC_LARGE_SEGMENT_SIZE", "300000"}, {"HWMALLOC_NUM_RESERVE_SEGMENTS", "0"},
        {"HWMALLOC_NEVER_FREE", "1"}, {"HWMALLOC_DIR", "/usr"}, {"HWMALLOC_ROOT", ""}};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC);

    set_all(pairs, N_OF(pairs));
    pool_fixture_create(f, &params);
    unset_all(pairs, N_OF(pairs));
    check_tiers(f, tiers);
    assert_int_equal(f->pool->chunk_min, 512 * MRP_KIB);
    assert_int_equal(f->pool->reserve, (1 + 4 + 512) * MRP_KIB);
    assert_true(f->pool->never_free);
}

static void hwmalloc__yields_to_the_caller_and_the_environment(void **state)
{
    static const size_t tiers[MRP_TIERS] = {192, 8 * MRP_KIB, 2 * MRP_MIB, 4 * MRP_MIB};
    static const char *const pairs[][2] = {{"HWMALLOC_TINY_LIMIT", "256"},
        {"MRPOOL_SMALL_MAX", "512"}, {"MRPOOL_MEDIUM_MAX", "8K"},
        {"MRPOOL_CHUNK_MIN", "1M"}, {"MRPOOL_RESERVE", "0"}};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC);

    params.tiers[MRP_TIER_SMALL].max_size = 192;
    set_all(pairs, N_OF(pairs));
    pool_fixture_create(f, &params);
    unset_all(pairs, N_OF(pairs));
    check_tiers(f, tiers);
    assert_int_equal(f->pool->chunk_min, MRP_MIB);
    assert_int_equal(f->pool->reserve, 0);
}

/* Such memory has one chunk, whatever the preset makes of chunks. */
static void hwmalloc__over_fixed_memory(void **state)
{
    static _Alignas(4096) char memory[4 * MRP_MIB];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC);
    struct mrp_backend_params array = MRP_BACKEND_PARAMS_INIT;

    array.address = memory;
    array.size = sizeof memory;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &array, &params.backend), MRP_OK);
    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 100 * 1000));
}

/* Theirs registers 4 KiB of it. */
static void hwmalloc__3_gib_are_3_gib(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC);
    struct mrp_region *region;
    struct mrp_region_info info;
    struct mrp_wire wire = MRP_WIRE_INIT;
    char *address;

    params.max_bytes = 4 * MRP_GIB;
    pool_fixture_create(f, &params);
    region = mrp_region_alloc(f->pool, 3 * MRP_GIB);
    if (region == NULL) {
        assert_int_equal(mrp_error_last()->status, MRP_ERR_MEMORY);
        test_skip(__func__, mrp_error_last()->text);
        return;
    }
    info = pool_fixture_query(region);
    assert_true(info.capacity >= 3 * MRP_GIB);
    assert_true(info.chunk_size >= 3 * MRP_GIB);
    address = mrp_region_address(region);
    assert_int_equal(
        mrp_resolve(f->pool, address + 3 * MRP_GIB - 1, 1, 0, &wire), MRP_OK);
    assert_int_equal(wire.offset, 3 * MRP_GIB - 1);
    address[0] = address[3 * MRP_GIB - 1] = 1;
    pool_fixture_check_registrations(f, 1);
    pool_fixture_free(region);
}

/* -- what is refused -- */

static void hwmalloc__refuses_wrong_values_by_name(void **state)
{
    static const char *const cases[][3] = {
        {"HWMALLOC_TINY_LIMIT", "-1", "HWMALLOC_TINY_LIMIT=-1: not a size"},
        {"HWMALLOC_TINY_LIMIT", "12abc", "HWMALLOC_TINY_LIMIT=12abc: not a size"},
        {"HWMALLOC_TINY_LIMIT", "", "HWMALLOC_TINY_LIMIT=: not a size"},
        {"HWMALLOC_TINY_LIMIT", "0", "HWMALLOC_TINY_LIMIT=0: out of range, from 64"},
        {"HWMALLOC_TINY_LIMIT", "8192", "HWMALLOC_TINY_LIMIT is 8192, HWMALLOC_SMALL"},
        {"HWMALLOC_TINY_LIMIT", "4000", "HWMALLOC_TINY_LIMIT is 4096, HWMALLOC_SMALL_"},
        {"HWMALLOC_SMALL_LIMIT", "64", "HWMALLOC_SMALL_LIMIT 64, rounded"},
        {"HWMALLOC_SMALL_LIMIT", "18446744073709551616", "HWMALLOC_SMALL_LIMIT="},
        {"HWMALLOC_LARGE_LIMIT", "4K", "HWMALLOC_LARGE_LIMIT 4096, rounded"},
        {"HWMALLOC_LARGE_LIMIT", "4M", "HWMALLOC_LARGE_SEGMENT_SIZE 2097152: a limit"},
        {"HWMALLOC_LARGE_LIMIT", "1G", "HWMALLOC_LARGE_LIMIT=1G: out of range"},
        {"HWMALLOC_SMALL_SEGMENT_SIZE", "4095", "HWMALLOC_SMALL_LIMIT is 4096"},
        {"HWMALLOC_TINY_SEGMENT_SIZE", "64", "HWMALLOC_TINY_LIMIT is 128"},
        {"HWMALLOC_LARGE_SEGMENT_SIZE", "2MB", "HWMALLOC_LARGE_SEGMENT_SIZE=2MB"},
        {"HWMALLOC_NUM_RESERVE_SEGMENTS", "-1", "HWMALLOC_NUM_RESERVE_SEGMENTS=-1"},
        {"HWMALLOC_NUM_RESERVE_SEGMENTS", "1K", "HWMALLOC_NUM_RESERVE_SEGMENTS=1K"},
        {"HWMALLOC_NEVER_FREE", "foo", "HWMALLOC_NEVER_FREE=foo: not one of"},
        {"HWMALLOC_NEVER_FREE", "2", "HWMALLOC_NEVER_FREE=2: not one of"},
        {"HWMALLOC_HUGE_LIMIT", "4M", "HWMALLOC_HUGE_LIMIT: no setting of hwmalloc"},
        {"HWMALLOC_TINY_LIMITS", "1", "HWMALLOC_TINY_LIMITS: no setting of hwmalloc"},
        {"HWMALLOC_", "1", "HWMALLOC_: no setting of hwmalloc"},
    };
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC);

    for (size_t i = 0; i < N_OF(cases); i++) {
        setenv(cases[i][0], cases[i][1], 1);
        assert_refused(create(f, &params), MRP_ERR_INVALID, cases[i][2]);
        assert_null(f->pool);
        params.preset = MRP_PRESET_THREAD_LOCAL; /* nobody else's concern */
        pool_fixture_create(f, &params);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
        params.preset = MRP_PRESET_HWMALLOC;
        unsetenv(cases[i][0]);
    }
}

static void hwmalloc__names_itself_in_what_follows(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC);

    params.max_bytes = MRP_MIB;
    assert_refused(create(f, &params), MRP_ERR_INVALID,
        "chunk_min is "
        "HWMALLOC_LARGE_SEGMENT_SIZE");
}

static void preset__that_does_not_exist(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_of(f, MRP_PRESET_HWMALLOC + 1);
    struct mrp_context *context = NULL;

    assert_refused(create(f, &params), MRP_ERR_INVALID, "preset is 6");
    params.preset = MRP_PRESET_DEFAULT;
    setenv("MRPOOL_PRESET", "fast", 1);
    assert_refused(create(f, &params), MRP_ERR_INVALID, "MRPOOL_PRESET=fast: not one of");
    assert_refused(mrp_context_create(NULL, &context), MRP_ERR_INVALID, "hwmalloc");
    unsetenv("MRPOOL_PRESET");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(thread_local__is_the_default),
        POOL_TEST(shared__takes_and_frees_in_bounded_memory),
        POOL_TEST(shared__yields_to_a_cache_size),
        POOL_TEST(alloctools__makes_its_regions_at_once),
        POOL_TEST(alloctools__says_what_it_needs),
        POOL_TEST(alloctools__yields_to_the_caller_and_the_environment),
        POOL_TEST(malloc__registers_at_each_alloc),
        POOL_TEST(malloc__leaves_nothing_to_choose),
        POOL_TEST(hwmalloc__has_their_limits),
        POOL_TEST(hwmalloc__rounds_as_they_do),
        POOL_TEST(hwmalloc__yields_to_the_caller_and_the_environment),
        POOL_TEST(hwmalloc__over_fixed_memory),
        POOL_TEST(hwmalloc__3_gib_are_3_gib),
        POOL_TEST(hwmalloc__refuses_wrong_values_by_name),
        POOL_TEST(hwmalloc__names_itself_in_what_follows),
        POOL_TEST(preset__that_does_not_exist),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
