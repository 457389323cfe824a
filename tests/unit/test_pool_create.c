/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What mrp_pool_create takes, what it refuses by name, and what it costs: nothing, until
 * somebody asks for memory.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <stdlib.h>

/* Refused with the words; the output is untouched and nobody was called. */
static void refuse(struct pool_fixture *f, const struct mrp_pool_params *params,
    enum mrp_status status, const char *words)
{
    struct mrp_pool *untouched = (struct mrp_pool *)&f->context, *pool = untouched;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_refused(mrp_pool_create(f->context, params, &pool), status, words);
    assert_ptr_equal(pool, untouched);
    for (size_t i = 0; i < POOL_FIXTURE_RAILS; i++) {
        assert_int_equal(f->networks[i].n_register, 0);
    }
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_pools, 0);
    assert_int_equal(stats.n_backends, 2); /* the context's own, and the fixture's */
    assert_int_equal(stats.n_chunks, 0);
}

/* -- what is taken -- */

static void create__null_params_give_a_pool_that_works(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[4];
    static const size_t sizes[] = {1, 10000, 60000, 1000000};

    assert_int_equal(mrp_pool_create(f->context, NULL, &f->pool), MRP_OK);
    for (size_t i = 0; i < 4; i++) {
        regions[i] = pool_fixture_alloc(f, sizes[i]);
        memset(mrp_region_address(regions[i]), 1, sizes[i]);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_rails, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_registrations, 0);
    for (size_t i = 0; i < 4; i++) {
        pool_fixture_free(regions[i]);
    }
}

static void create__no_provider_call_before_the_first_growth(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.n_rails = 3;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(f->networks[i].n_register, 0);
    }
    pool_fixture_free(pool_fixture_alloc(f, 1));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(f->networks[i].n_register, 1);
    }
}

/* AllocTools' tiers: 1 + 32 + 4 + 16 MiB of blocks in chunks of 16, 32 and 64 MiB, each
 * slab in the first chunk with room for it. */
static void create__preallocation_registers_exactly_what_it_takes(void **state)
{
    static const size_t counts[MRP_TIERS] = {1024, 2048, 64, 16};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[2048];
    struct mrp_pool_stats stats;

    params.max_bytes = 256 * MRP_MIB;
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        params.tiers[tier].preallocate = counts[tier];
    }
    pool_fixture_create(f, &params);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.n_chunks, 3);
    assert_int_equal(f->networks[0].n_register, 3);
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        assert_true(stats.tiers[tier].n_free >= counts[tier]);
        assert_int_equal(mrp_region_alloc_many(
                             f->pool, stats.tiers[tier].max_size, counts[tier], regions),
            counts[tier]);
        assert_int_equal(mrp_region_free_many(regions, counts[tier], NULL), MRP_OK);
    }
    assert_int_equal(f->networks[0].n_register, 3);
    assert_int_equal(pool_fixture_stats(f->pool).n_growths, 3);
}

static void create__preallocation_that_fails_leaves_nothing(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    params.max_bytes = 8 * MRP_MIB;
    params.tiers[MRP_TIER_HUGE].preallocate = 9;
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_LIMIT,
        "raise max_bytes (MRPOOL_MAX_BYTES)");
    assert_null(f->pool);
    assert_true(f->networks[0].n_register > 0);
    assert_int_equal(f->networks[0].n_live, 0);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_pools + stats.n_chunks, 0);
    params.tiers[MRP_TIER_HUGE].preallocate = 8;
    pool_fixture_create(f, &params);
}

static void create__names_are_unique_and_found(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_pool *other = NULL, *found = NULL;

    params.name = "mine";
    pool_fixture_create(f, &params);
    assert_refused(mrp_pool_create(f->context, &params, &other), MRP_ERR_EXISTS, "mine");
    assert_null(other);
    assert_int_equal(mrp_pool_find(f->context, "mine", &found), MRP_OK);
    assert_ptr_equal(found, f->pool);
    assert_refused(
        mrp_pool_find(f->context, "other", &found), MRP_ERR_NOT_FOUND, "other");
    params.name = NULL;
    assert_int_equal(mrp_pool_create(f->context, &params, &other), MRP_OK);
    assert_memory_equal(pool_fixture_stats(other).name, "pool-", 5);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
    assert_string_equal(pool_fixture_stats(f->pool).name, "mine");
}

static void create__environment_sets_what_params_leave_open(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    setenv("MRPOOL_CHUNK_MIN", "1M", 1);
    setenv("MRPOOL_CHUNK_MAX", "2M", 1);
    setenv("MRPOOL_MAX_BYTES", "8M", 1);
    setenv("MRPOOL_MAX_REGISTRATIONS", "7", 1);
    setenv("MRPOOL_SMALL_MAX", "512", 1);
    params.max_registrations = 5;
    pool_fixture_create(f, &params);
    unsetenv("MRPOOL_CHUNK_MIN");
    unsetenv("MRPOOL_CHUNK_MAX");
    unsetenv("MRPOOL_MAX_BYTES");
    unsetenv("MRPOOL_MAX_REGISTRATIONS");
    unsetenv("MRPOOL_SMALL_MAX");
    assert_int_equal(f->pool->chunk_min, MRP_MIB);
    assert_int_equal(f->pool->chunk_max, 2 * MRP_MIB);
    assert_int_equal(pool_fixture_stats(f->pool).max_bytes, 8 * MRP_MIB);
    assert_int_equal(pool_fixture_stats(f->pool).max_registrations, 5);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].max_size, 512);
}

static void create__environment_out_of_range_is_refused_by_name(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    setenv("MRPOOL_CHUNK_MIN", "3M", 1);
    refuse(f, &params, MRP_ERR_INVALID, "MRPOOL_CHUNK_MIN=3M: it must be a power");
    setenv("MRPOOL_CHUNK_MIN", "much", 1);
    refuse(f, &params, MRP_ERR_INVALID, "MRPOOL_CHUNK_MIN=much");
    unsetenv("MRPOOL_CHUNK_MIN");
    setenv("MRPOOL_SMALL_MAX", "32K", 1);
    refuse(f, &params, MRP_ERR_INVALID, "MRPOOL_SMALL_MAX");
    unsetenv("MRPOOL_SMALL_MAX");
    params.backend = NULL;
    setenv("MRPOOL_BACKEND", "cheese", 1);
    refuse(f, &params, MRP_ERR_INVALID, "MRPOOL_BACKEND=cheese");
    unsetenv("MRPOOL_BACKEND");
}

static void create__environment_chooses_the_backend(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.backend = NULL;
    setenv("MRPOOL_BACKEND", "malloc", 1);
    pool_fixture_create(f, &params);
    unsetenv("MRPOOL_BACKEND");
    assert_string_equal(f->pool->backend->ops.kind, "malloc");
}

static void create__first_chunk_is_an_eighth_of_the_budget(void **state)
{
    static const size_t wanted[][2] = {{256 * MRP_KIB, 256 * MRP_KIB},
        {2 * MRP_MIB, 256 * MRP_KIB}, {8 * MRP_MIB, MRP_MIB}, {13 * MRP_MIB, MRP_MIB},
        {128 * MRP_MIB, 16 * MRP_MIB}, {MRP_GIB, 16 * MRP_MIB}};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        params.max_bytes = wanted[i][0];
        pool_fixture_create(f, &params);
        assert_int_equal(f->pool->chunk_min, wanted[i][1]);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
    params.max_bytes = MRP_GIB;
    params.chunk_max = MRP_MIB;
    pool_fixture_create(f, &params);
    assert_int_equal(f->pool->chunk_min, MRP_MIB);
}

/* -- what is refused -- */

static void create__tiers_out_of_order_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.tiers[MRP_TIER_MEDIUM].max_size = 64 * MRP_KIB;
    params.tiers[MRP_TIER_LARGE].max_size = 32 * MRP_KIB;
    refuse(f, &params, MRP_ERR_INVALID,
        "the medium tier ends at 65536 bytes, the large one at 32768");
    params.tiers[MRP_TIER_LARGE].max_size = 64 * MRP_KIB;
    refuse(f, &params, MRP_ERR_INVALID, "tiers[].max_size");
    params.tiers[MRP_TIER_SMALL].max_size = 63;
    refuse(f, &params, MRP_ERR_INVALID, "tiers[0].max_size is 63");
    params.tiers[MRP_TIER_SMALL].max_size = 0;
    params.tiers[MRP_TIER_HUGE].max_size = MRP_GIB + 1;
    params.tiers[MRP_TIER_MEDIUM].max_size = 0;
    refuse(f, &params, MRP_ERR_INVALID, "tiers[3].max_size is 1073741825");
}

static void create__block_sizes_in_conflict_are_refused(void **state)
{
    static const size_t descending[] = {100, 200, 200}, too_large[] = {1, MRP_GIB + 1};
    static const size_t zero[] = {0, 64};
    size_t many[MRP_BLOCK_SIZES_MAX + 1];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    for (size_t i = 0; i < MRP_BLOCK_SIZES_MAX + 1; i++) {
        many[i] = i + 1;
    }
    params.block_sizes = many;
    refuse(f, &params, MRP_ERR_INVALID, "block_sizes and n_block_sizes");
    params.n_block_sizes = MRP_BLOCK_SIZES_MAX + 1;
    refuse(f, &params, MRP_ERR_INVALID, "n_block_sizes is 65: at most 64");
    params.n_block_sizes = 2;
    params.tiers[1].max_size = 2048;
    refuse(f, &params, MRP_ERR_INVALID, "tiers[1] is set, but block_sizes");
    params.tiers[1].max_size = 0;
    params.tiers[2].preallocate = 1;
    refuse(f, &params, MRP_ERR_INVALID, "tiers[2] is set, but block_sizes");
    params.tiers[2].preallocate = 0;
    params.block_sizes = NULL;
    refuse(f, &params, MRP_ERR_INVALID, "block_sizes and n_block_sizes");
    params.block_sizes = descending;
    params.n_block_sizes = 3;
    refuse(f, &params, MRP_ERR_INVALID, "block_sizes[2] is 200 after 200");
    params.block_sizes = too_large;
    params.n_block_sizes = 2;
    refuse(f, &params, MRP_ERR_INVALID, "block_sizes[1] is 1073741825");
    params.block_sizes = zero;
    refuse(f, &params, MRP_ERR_INVALID, "block_sizes[0] is 0");
    params.block_sizes = many;
    params.n_block_sizes = MRP_BLOCK_SIZES_MAX;
    pool_fixture_create(f, &params);
}

static void create__alignment_that_is_none_is_refused(void **state)
{
    static const size_t wrong[] = {1, 32, 63, 65, 96, 32 * MRP_KIB, SIZE_MAX};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        params.alignment = wrong[i];
        refuse(f, &params, MRP_ERR_INVALID, "it must be a power of two from 64 to 16384");
    }
}

static void create__room_that_is_too_large_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.headroom = 64 * MRP_KIB + 1;
    refuse(f, &params, MRP_ERR_INVALID, "headroom 65537");
    params.headroom = 0;
    params.tailroom = SIZE_MAX;
    refuse(f, &params, MRP_ERR_INVALID, "tailroom 18446744073709551615");
    params.tailroom = 0;
    params.user_size = 64 * MRP_KIB + 1;
    refuse(f, &params, MRP_ERR_INVALID, "user_size 65537");
}

static enum mrp_status init_nothing(struct mrp_region *region, void *data, void *user)
{
    (void)region;
    (void)data;
    (void)user;
    return MRP_OK;
}

static void create__region_init_without_user_size_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.region_init = init_nothing;
    refuse(f, &params, MRP_ERR_INVALID, "region_init is set but user_size is 0");
}

static void create__chunk_sizes_in_conflict_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = 8 * MRP_MIB;
    params.chunk_min = 16 * MRP_MIB;
    refuse(f, &params, MRP_ERR_INVALID, "chunk_min is the smallest of the three");
    params.chunk_min = 2 * MRP_MIB;
    params.chunk_max = MRP_MIB;
    refuse(f, &params, MRP_ERR_INVALID, "chunk_min 2097152, chunk_max 1048576");
    params.chunk_max = 3 * MRP_MIB;
    refuse(f, &params, MRP_ERR_INVALID, "must be a power of two");
    params.chunk_max = 0;
    params.chunk_min = MRP_MIB + 1;
    refuse(f, &params, MRP_ERR_INVALID, "must be a power of two");
    params.chunk_min = 1;
    refuse(f, &params, MRP_ERR_INVALID, "chunk_min is 1: it must be from 262144");
    params.chunk_min = 0;
    params.max_bytes = 1;
    refuse(f, &params, MRP_ERR_INVALID, "max_bytes is 1: it must be from 262144");
    params.max_bytes = 0;
    params.max_registrations = 100001;
    refuse(f, &params, MRP_ERR_INVALID, "max_registrations is 100001");
}

static void create__the_same_rail_twice_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_provider *twice[] = {f->rails[0], f->rails[1], f->rails[0]};

    params.rails = twice;
    params.n_rails = 3;
    refuse(f, &params, MRP_ERR_INVALID, "rails 0 and 2 are both provider first");
}

static void create__rails_that_are_none_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_provider *rails[] = {f->rails[0], NULL};

    params.rails = NULL;
    refuse(f, &params, MRP_ERR_INVALID, "rails is NULL");
    params.rails = rails;
    params.n_rails = 2;
    refuse(f, &params, MRP_ERR_STALE, "");
    params.n_rails = 65;
    refuse(f, &params, MRP_ERR_INVALID, "n_rails is 65: a pool has up to 64 rails");
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK); /* used by no pool */
    rails[1] = f->rails[1];
    params.n_rails = 2;
    refuse(f, &params, MRP_ERR_STALE, "");
}

/* Registers nothing; one state serves any number of providers. */
static enum mrp_status blind_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    registration->remote_base = (uintptr_t)request->address;
    registration->native = state;
    return MRP_OK;
}

static enum mrp_status blind_deregister(
    void *state, const struct mrp_registration *registration)
{
    (void)state;
    (void)registration;
    return MRP_OK;
}

static void create__64_rails_are_the_most(void **state)
{
    static const struct mrp_provider_ops ops = {
        .struct_size = sizeof ops,
        .abi = MRP_PROVIDER_ABI,
        .module = "blind",
        .purpose = "registers nothing",
        .register_memory = blind_register,
        .deregister_memory = blind_deregister,
    };
    struct mrp_provider *rails[65];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;
    void *native;
    size_t offset;

    for (size_t i = 0; i < 65; i++) {
        assert_int_equal(
            mrp_provider_create(f->context, NULL, &ops, &rails[i], &rails[i]), MRP_OK);
    }
    params.rails = rails;
    params.n_rails = 65;
    params.access = 0;
    refuse(f, &params, MRP_ERR_INVALID, "n_rails is 65: a pool has up to 64 rails");
    params.n_rails = 64;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 100);
    for (unsigned rail = 0; rail < 64; rail++) {
        assert_int_equal(mrp_region_registration(region, rail, &native, &offset), MRP_OK);
        assert_ptr_equal(native, &rails[rail]);
    }
    assert_refused(mrp_region_registration(region, 64, &native, &offset),
        MRP_ERR_UNSUPPORTED, "rail 64: pool");
    pool_fixture_free(region);
}

static void create__provider_and_backend_of_another_context_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_provider *rails[2] = {f->rails[0], NULL};
    struct test_provider network;
    struct mrp_context *other;
    struct mrp_backend *backend;

    assert_int_equal(mrp_context_create(NULL, &other), MRP_OK);
    test_provider_init(&network);
    assert_int_equal(
        mrp_provider_create(other, "alien", test_provider_ops(), &network, &rails[1]),
        MRP_OK);
    assert_int_equal(mrp_backend_create(other, "malloc", NULL, &backend), MRP_OK);
    params.rails = rails;
    params.n_rails = 2;
    refuse(f, &params, MRP_ERR_INVALID, "rail 1: provider alien belongs to another");
    params.n_rails = 1;
    params.backend = backend;
    refuse(f, &params, MRP_ERR_INVALID, "belongs to another context");
    assert_int_equal(mrp_context_destroy(other), MRP_OK);
    refuse(f, &params, MRP_ERR_STALE, "");
    test_provider_fini(&network);
}

static void create__access_that_cannot_be_granted_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_provider *host;

    params.access = 1u << 5;
    refuse(f, &params, MRP_ERR_INVALID, "access is 0x20: unknown bits");
    assert_int_equal(mrp_provider_open(f->context, "host", NULL, &host), MRP_OK);
    params.rails = &host;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE_READ;
    refuse(f, &params, MRP_ERR_UNSUPPORTED, "cannot grant access 0x7, only 0x3");
}

static void create__params_of_a_newer_version_are_refused(void **state)
{
    struct {
        struct mrp_pool_params params;
        uint64_t unknown[2];
    } newer;
    struct pool_fixture *f = *state;

    memset(&newer, 0, sizeof newer);
    newer.params = pool_fixture_params(f);
    newer.params.struct_size = sizeof newer;
    newer.unknown[1] = 1;
    refuse(f, &newer.params, MRP_ERR_INVALID, "built for a newer library");
    newer.params.struct_size = 0;
    refuse(f, &newer.params, MRP_ERR_INVALID, "initialise the struct with its _INIT");
    newer.unknown[1] = 0;
    newer.params.struct_size = sizeof newer;
    pool_fixture_create(f, &newer.params);
}

static void create__null_context_and_output_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool *pool = NULL;

    assert_refused(mrp_pool_create(f->context, NULL, NULL), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_pool_create(NULL, NULL, &pool), MRP_ERR_STALE, "");
    pool_fixture_create(f, NULL);
    assert_refused(mrp_pool_find(f->context, pool_fixture_stats(f->pool).name, NULL),
        MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_pool_find(f->context, NULL, &pool), MRP_ERR_INVALID, "NULL");
}

static void create__refused_holds_on_to_nothing(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.n_rails = 2;
    params.chunk_min = 1;
    refuse(f, &params, MRP_ERR_INVALID, "chunk_min");
    params.backend = NULL; /* the pool would have made its own */
    refuse(f, &params, MRP_ERR_INVALID, "chunk_min");
    params.chunk_min = 0;
    params.name = ""; /* refused last of all */
    refuse(f, &params, MRP_ERR_INVALID, "");
    params.backend = f->backend;
    refuse(f, &params, MRP_ERR_INVALID, "");
    assert_int_equal(mrp_backend_destroy(f->backend), MRP_OK);
    assert_int_equal(mrp_provider_close(f->rails[0]), MRP_OK);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
}

/* -- the end of a pool -- */

static void destroy__with_live_regions_reports_them(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *large;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    large = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_refused(mrp_pool_destroy(f->pool), MRP_ERR_LEAKED, "2 regions");
    assert_refused(mrp_region_free(region), MRP_ERR_STALE, "destroyed");
    assert_refused(mrp_region_free(large), MRP_ERR_STALE, "destroyed");
    assert_refused(mrp_pool_destroy(f->pool), MRP_ERR_STALE, "destroyed");
    assert_none(mrp_region_alloc(f->pool, 1), MRP_ERR_STALE, "destroyed");
    assert_int_equal(f->networks[0].n_live, 0);
    f->pool = NULL;
}

static void destroy__gives_up_rails_and_backend(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    assert_refused(mrp_provider_close(f->rails[0]), MRP_ERR_BUSY, "serves 1 pools");
    assert_refused(mrp_backend_destroy(f->backend), MRP_ERR_BUSY, "");
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB));
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    assert_int_equal(mrp_provider_close(f->rails[0]), MRP_OK);
    assert_int_equal(mrp_backend_destroy(f->backend), MRP_OK);
}

/* In the same addresses, over and over. */
static void destroy__ten_thousand_pools_without_growth(void **state)
{
    struct pool_fixture *f = *state;
    size_t cycles = test_is_watched() ? 500 : 10000, before = 0;

    for (size_t i = 0; i < cycles; i++) {
        pool_fixture_create(f, NULL);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        before = i == 0 ? test_status_size("VmSize:") : before;
    }
    f->pool = NULL;
    assert_int_equal(f->networks[0].n_register, 0);
    assert_true(test_status_size("VmSize:") < before + MRP_GIB);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(create__null_params_give_a_pool_that_works),
        POOL_TEST(create__no_provider_call_before_the_first_growth),
        POOL_TEST(create__preallocation_registers_exactly_what_it_takes),
        POOL_TEST(create__preallocation_that_fails_leaves_nothing),
        POOL_TEST(create__names_are_unique_and_found),
        POOL_TEST(create__environment_sets_what_params_leave_open),
        POOL_TEST(create__environment_out_of_range_is_refused_by_name),
        POOL_TEST(create__environment_chooses_the_backend),
        POOL_TEST(create__first_chunk_is_an_eighth_of_the_budget),
        POOL_TEST(create__tiers_out_of_order_are_refused),
        POOL_TEST(create__block_sizes_in_conflict_are_refused),
        POOL_TEST(create__alignment_that_is_none_is_refused),
        POOL_TEST(create__room_that_is_too_large_is_refused),
        POOL_TEST(create__region_init_without_user_size_is_refused),
        POOL_TEST(create__chunk_sizes_in_conflict_are_refused),
        POOL_TEST(create__the_same_rail_twice_is_refused),
        POOL_TEST(create__rails_that_are_none_are_refused),
        POOL_TEST(create__64_rails_are_the_most),
        POOL_TEST(create__provider_and_backend_of_another_context_are_refused),
        POOL_TEST(create__access_that_cannot_be_granted_is_refused),
        POOL_TEST(create__params_of_a_newer_version_are_refused),
        POOL_TEST(create__refused_holds_on_to_nothing),
        POOL_TEST(create__null_context_and_output_are_refused),
        POOL_TEST(destroy__with_live_regions_reports_them),
        POOL_TEST(destroy__gives_up_rails_and_backend),
        POOL_TEST(destroy__ten_thousand_pools_without_growth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
