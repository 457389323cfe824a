/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Trim: what goes back to chunks and to the system, and what stays.
 */
#include "small_chunks.h"
#include "support/test_system.h"

#include <pthread.h>

#define PAGE 4096
#define N_CHUNKS 4

static struct mrp_region *regions[4096];

/* -- what goes -- */

static void trim__gives_back_what_nobody_uses(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_stats stats;
    void *address;

    small_chunks_create(f, 16);
    take_all(f, regions, PAGES_OF(N_CHUNKS), PAGE);
    check_held(f, N_CHUNKS);
    address = mrp_region_address(regions[0]);
    give_all(f, regions, PAGES_OF(N_CHUNKS));
    check_held(f, N_CHUNKS);
    assert_int_equal(trim(f, 0), N_CHUNKS * CHUNK);
    check_held(f, 0);
    assert_true(test_is_watched() || !test_is_mapped(address, PAGE));
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.n_released, N_CHUNKS);
    assert_int_equal(stats.released_size, N_CHUNKS * CHUNK);
    assert_int_equal(stats.n_idle, 0);
    assert_int_equal(stats.room_size, 0);
    assert_int_equal(stats.tiers[MRP_TIER_MEDIUM].n_regions, 0);
    assert_int_equal(stats.tiers[MRP_TIER_MEDIUM].slab_size, 0);
    assert_int_equal(f->networks[0].n_deregister, N_CHUNKS);
    assert_int_equal(trim(f, 0), 0);
    take_all(f, regions, PAGES_OF(N_CHUNKS), PAGE);
    check_held(f, N_CHUNKS);
    give_all(f, regions, PAGES_OF(N_CHUNKS));
}

/* One region of 4 in the second slab lives: that slab stays, with its chunk. */
static void trim__one_live_region_keeps_its_slab(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *live;
    struct mrp_pool_stats stats;
    uint64_t key, key_after;
    void *desc, *desc_after, *address;

    small_chunks_create(f, 16);
    take_all(f, regions, PAGES_OF(N_CHUNKS), PAGE);
    live = regions[PAGES_OF(1) + 5];
    regions[PAGES_OF(1) + 5] = regions[0];
    address = mrp_region_address(live);
    memset(address, 0x5a, PAGE);
    assert_int_equal(mrp_region_remote_key(live, 0, &key), MRP_OK);
    assert_int_equal(mrp_region_local_desc(live, 0, &desc), MRP_OK);
    give_all(f, regions + 1, PAGES_OF(N_CHUNKS) - 1);
    assert_int_equal(trim(f, 0), (N_CHUNKS - 1) * CHUNK);
    check_held(f, 1);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.tiers[MRP_TIER_MEDIUM].n_regions, 4);
    assert_int_equal(stats.tiers[MRP_TIER_MEDIUM].n_live, 1);
    assert_int_equal(stats.tiers[MRP_TIER_MEDIUM].slab_size, 4 * PAGE);
    assert_int_equal(stats.room_size, CHUNK - 4 * PAGE);
    assert_int_equal(mrp_region_remote_key(live, 0, &key_after), MRP_OK);
    assert_int_equal(mrp_region_local_desc(live, 0, &desc_after), MRP_OK);
    assert_int_equal(key_after, key);
    assert_ptr_equal(desc_after, desc);
    assert_ptr_equal(mrp_region_address(live), address);
    assert_ptr_equal(mrp_region_find(f->pool, (char *)address + 1), live);
    for (size_t i = 0; i < PAGE; i++) {
        assert_int_equal(((unsigned char *)address)[i], 0x5a);
    }
    give_all(f, &live, 1);
    assert_int_equal(trim(f, 0), CHUNK);
    check_held(f, 0);
}

static void trim__leaves_what_threads_keep(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 16);
    struct mrp_pool_stats stats;

    params.debug = MRP_DEBUG_OFF; /* caches, whatever watches */
    pool_fixture_create(f, &params);
    take_all(f, regions, PAGES_OF(1), PAGE);
    assert_int_equal(mrp_region_free_many(regions, PAGES_OF(1), NULL), MRP_OK);
    stats = pool_fixture_stats(f->pool);
    if (stats.cached_size == 0) {
        test_skip("trim__leaves_what_threads_keep", "no thread caches");
        return;
    }
    assert_int_equal(trim(f, 0), 0);
    check_held(f, 1);
    assert_int_equal(pool_fixture_stats(f->pool).cached_size, stats.cached_size);
    /* what is cached is valid memory, and comes out again */
    take_all(f, regions, stats.cached_size / PAGE, PAGE);
    assert_int_equal(f->networks[0].n_register, 1);
    give_all(f, regions, stats.cached_size / PAGE);
    assert_int_equal(trim(f, 0), CHUNK);
    check_held(f, 0);
}

static void trim__every_class_at_once(void **state)
{
    static const size_t sizes[] = {
        1, 64, 700, 5000, 20000, 65536, 100000, 600000, MRP_MIB - 100};
    struct pool_fixture *f = *state;

    small_chunks_create(f, 64);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 90; i++) {
            regions[i] = pool_fixture_alloc(f, sizes[i % 9]);
        }
        give_all(f, regions, 90);
        assert_true(trim(f, 0) > 0);
        check_held(f, 0);
    }
}

/* -- what stays -- */

static void trim__keeps_as_much_as_it_shall(void **state)
{
    struct pool_fixture *f = *state;

    small_chunks_create(f, 16);
    take_all(f, regions, PAGES_OF(N_CHUNKS), PAGE);
    give_all(f, regions, PAGES_OF(N_CHUNKS));
    assert_int_equal(trim(f, 100 * CHUNK), 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, N_CHUNKS);
    assert_int_equal(pool_fixture_stats(f->pool).idle_size, N_CHUNKS * CHUNK);
    assert_int_equal(trim(f, 2 * CHUNK), (N_CHUNKS - 2) * CHUNK);
    check_held(f, 2);
    take_all(f, regions, PAGES_OF(2), PAGE); /* of what was kept, registered as it is */
    assert_int_equal(f->networks[0].n_register, N_CHUNKS);
    take_all(f, regions + PAGES_OF(2), 1, PAGE);
    assert_int_equal(f->networks[0].n_register, N_CHUNKS + 1);
    give_all(f, regions, PAGES_OF(2) + 1);
}

static void trim__gives_back_idle_large_ones(void **state)
{
    struct pool_fixture *f = *state;

    small_chunks_create(f, 64);
    take_all(f, regions, 3, 4 * MRP_MIB);
    take_all(f, regions + 3, PAGES_OF(2), PAGE);
    give_all(f, regions, 3 + PAGES_OF(2));
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 3);
    assert_int_equal(trim(f, 5 * MRP_MIB), 3 * 4 * MRP_MIB);
    assert_int_equal(trim(f, 0), 2 * CHUNK);
    check_held(f, 0);
}

static void trim__never_free_only_regroups(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 8);

    params.never_free = true;
    pool_fixture_create(f, &params);
    take_all(f, regions, PAGES_OF(8), PAGE);
    give_all(f, regions, PAGES_OF(8));
    assert_int_equal(trim(f, 0), 0);
    check_held(f, 8);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    check_held(f, 8);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[MRP_TIER_MEDIUM].n_regions, 0);
    take_all(f, regions, 8 * 16, 64 * MRP_KIB); /* all of it serves another class */
    assert_int_equal(f->networks[0].n_register, 8);
    assert_int_equal(f->networks[0].n_deregister, 0);
    give_all(f, regions, 8 * 16);
}

static void trim__preallocated_regions_stay(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 16);
    size_t n_regions, n_chunks;

    params.tiers[MRP_TIER_MEDIUM].preallocate = 100;
    pool_fixture_create(f, &params);
    n_chunks = pool_fixture_stats(f->pool).n_chunks;
    n_regions = pool_fixture_stats(f->pool).tiers[MRP_TIER_MEDIUM].n_regions;
    assert_true(n_regions >= 100);
    assert_int_equal(trim(f, 0), 0);
    assert_int_equal(
        pool_fixture_stats(f->pool).tiers[MRP_TIER_MEDIUM].n_regions, n_regions);
    take_all(f, regions, 300, 16 * MRP_KIB);
    give_all(f, regions, 300);
    trim(f, 0);
    assert_in_range(
        pool_fixture_stats(f->pool).tiers[MRP_TIER_MEDIUM].n_regions, 100, n_regions);
    assert_in_range(f->networks[0].n_live, n_chunks, 5);
}

/* -- other classes -- */

static void grow__takes_what_another_class_has_free_before_it_maps(void **state)
{
    struct pool_fixture *f = *state;

    small_chunks_create(f, 64);
    take_all(f, regions, PAGES_OF(N_CHUNKS), PAGE);
    give_all(f, regions, PAGES_OF(N_CHUNKS));
    take_all(f, regions, N_CHUNKS * 16, 64 * MRP_KIB);
    assert_int_equal(f->networks[0].n_register, N_CHUNKS);
    check_held(f, N_CHUNKS);
    take_all(f, regions + N_CHUNKS * 16, 1, 64 * MRP_KIB);
    assert_int_equal(f->networks[0].n_register, N_CHUNKS + 1);
    give_all(f, regions, N_CHUNKS * 16 + 1);
}

/* At the cap a single free slab is looked for, too. */
static void grow__at_the_cap_finds_the_last_free_slab(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *other;

    small_chunks_create(f, 2);
    take_all(f, regions, PAGES_OF(2), PAGE);
    assert_none(mrp_region_alloc(f->pool, 16 * MRP_KIB), MRP_ERR_LIMIT, "max_bytes");
    give_all(f, regions + 8, 3); /* of 4 in a slab */
    assert_none(mrp_region_alloc(f->pool, 16 * MRP_KIB), MRP_ERR_LIMIT, "max_bytes");
    give_all(f, regions + 11, 1);
    other = pool_fixture_alloc(f, 16 * MRP_KIB);
    assert_none(mrp_region_alloc(f->pool, 16 * MRP_KIB), MRP_ERR_LIMIT, "max_bytes");
    check_held(f, 2);
    give_all(f, &other, 1);
    give_all(f, regions, 8);
    give_all(f, regions + 12, PAGES_OF(2) - 12);
}

/* -- settings -- */

static void trim__with_all_checks_and_without(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = small_chunks_params(f, 16);

        params.checks = checks[i];
        pool_fixture_create(f, &params);
        for (size_t round = 0; round < 3; round++) {
            for (size_t j = 0; j < PAGES_OF(2); j++) {
                regions[j] = mrp_region_alloc(f->pool, round == 1 ? 1000 : PAGE);
                assert_non_null(regions[j]);
            }
            give_all(f, regions + 1, PAGES_OF(2) - 1);
            trim(f, 0);
            check_held(f, 1);
            give_all(f, regions, 1);
            assert_int_equal(trim(f, 0), CHUNK);
            check_held(f, 0);
        }
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void trim__with_headroom_and_user_sizes(void **state)
{
    static const size_t sizes[] = {1500, 9000, 70000};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 32);

    params.block_sizes = sizes;
    params.n_block_sizes = 3;
    params.headroom = 128;
    params.tailroom = 64;
    pool_fixture_create(f, &params);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 100; i++) {
            regions[i] = pool_fixture_alloc(f, sizes[(i + round) % 3]);
            memset((char *)mrp_region_address(regions[i]) - 128, 7,
                128 + mrp_region_capacity(regions[i]) + 64);
        }
        give_all(f, regions, 50);
        trim(f, 0);
        give_all(f, regions + 50, 50);
        trim(f, 0);
        check_held(f, 0);
    }
}

static _Alignas(4096) unsigned char array[4 * MRP_MIB];

/* The caller's array is registered whole; the pool gives it back, and takes it again. */
static void trim__of_the_callers_array(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_backend_params backend_params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_backend *backend;
    size_t n;

    backend_params.address = array;
    backend_params.size = sizeof array;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &backend_params, &backend), MRP_OK);
    params.backend = backend;
    params.decay_ms = UINT32_MAX;
    pool_fixture_create(f, &params);
    for (size_t round = 0; round < 3; round++) {
        for (n = 0;
             (regions[n] = mrp_region_alloc(f->pool, round == 1 ? 30000 : PAGE)) != NULL;
             n++) {
        }
        assert_true(n >= (round == 1 ? 125 : 1000));
        assert_int_equal(f->networks[0].n_live, 1);
        give_all(f, regions, n);
        assert_int_equal(
            trim(f, round == 1 ? SIZE_MAX : 0), round == 1 ? 0 : sizeof array);
        assert_int_equal(f->networks[0].n_live, round == 1);
    }
}

/* -- while the network refuses -- */

/* What comes back, as from another thread, and is trimmed, while a chunk is refused. */
struct meanwhile {
    struct pool_fixture *f;
    size_t first, at; /* region given back; registrations before */
};

static void give_and_trim(struct test_provider *network, void *address, size_t size)
{
    struct meanwhile *meanwhile = network->hook_user;
    size_t first = meanwhile->first;

    (void)address;
    (void)size;
    if (atomic_load(&network->n_register) == meanwhile->at) {
        give_all(meanwhile->f, regions + first, PAGES_OF(1) - first);
        assert_int_equal(mrp_pool_trim(meanwhile->f->pool, SIZE_MAX, NULL), MRP_OK);
    }
}

/* All pages of a chunk are taken; those from `first` on come back during the second of two
 * registrations that fail. */
static void begin_meanwhile(
    struct pool_fixture *f, struct meanwhile *meanwhile, size_t first)
{
    small_chunks_create(f, 16);
    take_all(f, regions, PAGES_OF(1), PAGE);
    *meanwhile =
        (struct meanwhile){f, first, atomic_load(&f->networks[0].n_register) + 1};
    f->networks[0].on_register = give_and_trim;
    f->networks[0].hook_user = meanwhile;
}

static void grow__finds_slabs_retired_while_it_was_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct meanwhile meanwhile;

    begin_meanwhile(f, &meanwhile, 4);
    test_provider_fail_next(&f->networks[0], 1, 0, MRP_ERR_REGISTER);
    region = pool_fixture_alloc(f, 16 * MRP_KIB);
    check_held(f, 1);
    give_all(f, &region, 1);
    give_all(f, regions, 4);
}

static void grow__finds_a_chunk_emptied_while_it_was_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct meanwhile meanwhile;

    begin_meanwhile(f, &meanwhile, 0);
    test_provider_fail_next(&f->networks[0], 1, 0, MRP_ERR_REGISTER);
    region = pool_fixture_alloc(f, 16 * MRP_KIB);
    check_held(f, 1);
    give_all(f, &region, 1);
}

static void large__gives_up_a_chunk_emptied_while_it_was_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct meanwhile meanwhile;

    begin_meanwhile(f, &meanwhile, 0);
    f->networks[0].hidden_limit = 1;
    region = pool_fixture_alloc(f, 2 * CHUNK);
    assert_int_equal(f->networks[0].n_live, 1);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 2 * CHUNK);
    give_all(f, &region, 1);
}

/* -- bad input -- */

static void trim__refuses_what_is_no_pool(void **state)
{
    struct pool_fixture *f = *state;
    size_t released = 77;

    small_chunks_create(f, 4);
    assert_refused(mrp_pool_trim(NULL, 0, &released), MRP_ERR_STALE, "pool");
    assert_int_equal(released, 77);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(mrp_pool_trim(f->pool, SIZE_MAX, &released), MRP_OK);
    assert_int_equal(released, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(trim__gives_back_what_nobody_uses),
        POOL_TEST(trim__one_live_region_keeps_its_slab),
        POOL_TEST(trim__leaves_what_threads_keep),
        POOL_TEST(trim__every_class_at_once),
        POOL_TEST(trim__keeps_as_much_as_it_shall),
        POOL_TEST(trim__gives_back_idle_large_ones),
        POOL_TEST(trim__never_free_only_regroups),
        POOL_TEST(trim__preallocated_regions_stay),
        POOL_TEST(grow__takes_what_another_class_has_free_before_it_maps),
        POOL_TEST(grow__at_the_cap_finds_the_last_free_slab),
        POOL_TEST(grow__finds_slabs_retired_while_it_was_refused),
        POOL_TEST(grow__finds_a_chunk_emptied_while_it_was_refused),
        POOL_TEST(large__gives_up_a_chunk_emptied_while_it_was_refused),
        POOL_TEST(trim__with_all_checks_and_without),
        POOL_TEST(trim__with_headroom_and_user_sizes),
        POOL_TEST(trim__of_the_callers_array),
        POOL_TEST(trim__refuses_what_is_no_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
