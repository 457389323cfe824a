/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Pools whose regions have a mapping and a registration each, and what can be done with
 * such a region that alone makes it worth its price: its keys can be taken away.
 */
#include "pool/pool.h"
#include "standing_clock.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <stdlib.h>

static struct mrp_pool_params isolated(struct pool_fixture *f)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.isolate = true;
    return params;
}

/* -- isolate -- */

static uint64_t key_of(const struct mrp_region *region)
{
    uint64_t key = 0;

    assert_int_equal(mrp_region_remote_key(region, 0, &key), MRP_OK);
    return key;
}

static void never_called(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    (void)waiter;
    (void)region;
    fail_msg("called back with %s", mrp_status_name(status));
}

/* Regions of every size, by every way, each the only one of its registration. */
static void isolate__each_region_is_a_registration(void **state)
{
    static const size_t sizes[] = {0, 1, 64, 5000, 65536, MRP_MIB, MRP_MIB + 1};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = isolated(f);
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_waiter waiter = MRP_WAITER_INIT(never_called, NULL);
    struct mrp_region *regions[7 * 5];
    size_t n = 0;

    pool_fixture_create(f, &params);
    request.alignment = 8192;
    request.flags = MRP_REQUEST_ZERO;
    for (size_t i = 0; i < 7; i++) {
        regions[n++] = pool_fixture_alloc(f, sizes[i]);
        regions[n] = mrp_region_alloc_with(f->pool, sizes[i], &request);
        assert_int_equal((uintptr_t)mrp_region_address(regions[n++]) % 8192, 0);
        assert_int_equal(mrp_region_alloc_many(f->pool, sizes[i], 2, &regions[n]), 2);
        n += 2;
        assert_int_equal(
            mrp_region_alloc_async(f->pool, sizes[i], &waiter, &regions[n++]), MRP_OK);
    }
    for (size_t i = 0; i < n; i++) {
        struct mrp_region_info info = pool_fixture_query(regions[i]);

        assert_int_equal(info.kind, MRP_REGION_LARGE);
        assert_int_equal(info.tier, -1);
        assert_ptr_equal(info.address, info.chunk_address);
        assert_true(info.capacity >= sizes[i / 5]);
        assert_ptr_equal(
            mrp_region_find(f->pool, (char *)info.address + info.size / 2), regions[i]);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(key_of(regions[i]), key_of(regions[j]));
        }
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_large, n);
    assert_int_equal(pool_fixture_stats(f->pool).n_chunks, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
    pool_fixture_check_registrations(f, 1);
    assert_int_equal(f->networks[0].n_live, n);
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
}

static void isolate__takes_idle_ones_again(void **state)
{
    static const enum mrp_checks checks[] = {
        MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = isolated(f);
        struct mrp_region *region;
        size_t before = f->networks[0].n_register;

        params.checks = checks[i];
        params.headroom = 100;
        params.tailroom = 60;
        pool_fixture_create(f, &params);
        for (size_t n = 0; n < 100; n++) {
            pool_fixture_free(pool_fixture_alloc(f, n * 50));
        }
        assert_int_equal(f->networks[0].n_register, before + 1);
        region = pool_fixture_alloc(f, 1);
        pool_fixture_free(region);
        assert_refused(mrp_region_free(region), MRP_ERR_STALE, "is free");
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void isolate__without_growth(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = isolated(f);
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;

    pool_fixture_create(f, &params);
    request.flags = MRP_REQUEST_NOGROW;
    assert_none(
        mrp_region_alloc_with(f->pool, 100, &request), MRP_ERR_AGAIN, "may not map");
    pool_fixture_free(pool_fixture_alloc(f, 100));
    region = mrp_region_alloc_with(f->pool, 100, &request);
    assert_non_null(region);
    pool_fixture_free(region);
}

/* Each counts against the budgets. */
static void isolate__is_bounded_by_registrations(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = isolated(f);
    struct mrp_region *regions[11];

    params.max_registrations = 10;
    pool_fixture_create(f, &params);
    mrp_error_clear();
    assert_int_equal(mrp_region_alloc_many(f->pool, 100, 11, regions), 10);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_int_equal(mrp_region_free_many(regions, 10, NULL), MRP_OK);
}

static void isolate__over_an_array(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_backend_params array = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = isolated(f);
    struct mrp_region *regions[8];
    void *memory = aligned_alloc(4096, MRP_MIB);

    array.address = memory;
    array.size = MRP_MIB;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &array, &params.backend), MRP_OK);
    pool_fixture_create(f, &params);
    assert_int_equal(mrp_region_alloc_many(f->pool, 20000, 8, regions), 8);
    for (size_t i = 0; i < 8; i++) {
        struct mrp_region_info info = pool_fixture_query(regions[i]);

        assert_true((char *)info.address >= (char *)memory &&
            (char *)info.address + info.capacity <= (char *)memory + MRP_MIB);
        memset(info.address, 1, info.capacity);
    }
    assert_int_equal(f->networks[0].n_live, 8);
    assert_int_equal(f->networks[0].n_overlaps, 0);
    assert_int_equal(mrp_region_free_many(regions, 8, NULL), MRP_OK);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    assert_int_equal(mrp_backend_destroy(params.backend), MRP_OK);
    free(memory);
}

static void isolate__refuses_what_contradicts_it(void **state)
{
    static const size_t sizes[] = {100, 200};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = isolated(f);
    struct mrp_pool *pool = NULL;

    params.block_sizes = sizes;
    params.n_block_sizes = 2;
    assert_refused(
        mrp_pool_create(f->context, &params, &pool), MRP_ERR_INVALID, "block_sizes");
    params = isolated(f);
    params.tiers[1].preallocate = 10;
    assert_refused(mrp_pool_create(f->context, &params, &pool), MRP_ERR_INVALID,
        "tiers[1] zero (max_size is 0, preallocate 10");
    params = isolated(f);
    params.tiers[3].reserve = 4096;
    assert_refused(
        mrp_pool_create(f->context, &params, &pool), MRP_ERR_INVALID, "tiers[3]");
    params = isolated(f);
    params.tiers[3].max_size = 2 * MRP_MIB;
    assert_refused(
        mrp_pool_create(f->context, &params, &pool), MRP_ERR_INVALID, "tiers[3]");
    assert_null(pool);
    pool_fixture_create(f, NULL);
}

/* -- revocation -- */

/* A pool over rails that revoke, for peers alone. */
static void create_revocable(struct pool_fixture *f, size_t n_rails)
{
    struct mrp_pool_params params = isolated(f);

    for (size_t i = 0; i < n_rails; i++) {
        f->networks[i].traits |= MRP_PROVIDER_REVOKES;
        assert_int_equal(mrp_provider_close(f->rails[i]), MRP_OK);
        f->networks[i].n_closed = 0;
        assert_int_equal(mrp_provider_create(f->context, NULL, test_provider_ops(),
                             &f->networks[i], &f->rails[i]),
            MRP_OK);
    }
    params.n_rails = n_rails;
    params.access = MRP_ACCESS_REMOTE;
    pool_fixture_create(f, &params);
}

static void abandon_one(struct pool_fixture *f, size_t size, uint64_t fence)
{
    assert_int_equal(mrp_region_abandon(pool_fixture_alloc(f, size), fence), MRP_OK);
}

static void revoke__takes_the_keys_of_old_ones(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct mrp_token token;
    void *address;
    size_t n = 9;

    create_revocable(f, 2);
    region = pool_fixture_alloc(f, 100);
    address = mrp_region_address(region);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    assert_int_equal(mrp_region_abandon(region, 1), MRP_OK);
    coarse_ms += 40;
    abandon_one(f, 100, 2);
    assert_int_equal(mrp_quarantine_revoke(f->pool, 41000000), 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_quarantined, 2);
    assert_refused(mrp_pool_destroy(NULL), MRP_ERR_STALE, "NULL"); /* a record to keep */
    assert_int_equal(mrp_quarantine_revoke(f->pool, 40000000), 1);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_STALE);
    assert_int_equal(pool_fixture_stats(f->pool).n_quarantined, 1);
    assert_int_equal(pool_fixture_stats(f->pool).n_revoked, 1);
    assert_int_equal(f->networks[0].n_live, 1);
    assert_int_equal(f->networks[1].n_live, 1);
    assert_null(mrp_region_find(f->pool, address));
    assert_refused(mrp_region_free(region), MRP_ERR_STALE, "is free");
    assert_refused(
        mrp_token_resolve(f->pool, &token, &region), MRP_ERR_STALE, "or abandoned");
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_drained(f->pool, 1, &n), MRP_OK); /* too late, no harm */
    assert_int_equal(n, 0);
    assert_int_equal(mrp_pool_drained(f->pool, 2, &n), MRP_OK);
    assert_int_equal(n, 1);
}

static void revoke__leaves_those_that_drained(void **state)
{
    struct pool_fixture *f = *state;

    create_revocable(f, 1);
    abandon_one(f, 100, 1);
    assert_int_equal(mrp_pool_drained(f->pool, 1, NULL), MRP_OK);
    assert_int_equal(mrp_quarantine_revoke(f->pool, 0), 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
}

/* By whichever call next takes a slow path, and by a trim. */
static void revoke__happens_by_itself(void **state)
{
    struct pool_fixture *f = *state;
    size_t released;

    create_revocable(f, 1);
    f->pool->quarantine_ms = 40;
    for (size_t i = 1; i <= 2; i++) {
        abandon_one(f, 100, 1);
        pool_fixture_free(pool_fixture_alloc(f, 100));
        assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
        assert_int_equal(pool_fixture_stats(f->pool).n_quarantined, 1);
        coarse_ms += 60;
        if (i == 1) {
            for (size_t n = 0; n < 64; n++) {
                pool_fixture_free(pool_fixture_alloc(f, 100));
            }
        } else {
            assert_int_equal(mrp_pool_trim(f->pool, 0, &released), MRP_OK);
            assert_int_equal(released, 16 * MRP_KIB);
        }
        assert_int_equal(pool_fixture_stats(f->pool).n_quarantined, 0);
        assert_int_equal(pool_fixture_stats(f->pool).n_revoked, i);
    }
}

static void *tick_later(void *pool)
{
    while (pool_fixture_stats(pool).n_waiting == 0) {
        usleep(1000);
    }
    usleep(20000); /* its first tries are over */
    coarse_ms += 50;
    return NULL;
}

/* All there is has been abandoned. Who comes when that is long ago is served, and so is who
 * waits while the time passes: nobody else calls the pool. */
static void revoke__serves_who_is_at_the_limit(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;
    pthread_t ticker;

    create_revocable(f, 1);
    f->pool->quarantine_ms = 40;
    f->pool->max_bytes = MRP_MIB;
    abandon_one(f, MRP_MIB, 7);
    assert_none(mrp_region_alloc(f->pool, MRP_MIB), MRP_ERR_LIMIT, "max_bytes");
    coarse_ms += 50;
    region = pool_fixture_alloc(f, MRP_MIB);
    assert_int_equal(mrp_region_abandon(region, 8), MRP_OK);
    request.wait_ms = 60000;
    assert_int_equal(pthread_create(&ticker, NULL, tick_later, f->pool), 0);
    region = mrp_region_alloc_with(f->pool, MRP_MIB, &request);
    assert_non_null(region);
    pthread_join(ticker, NULL);
    pool_fixture_free(region);
    assert_int_equal(pool_fixture_stats(f->pool).n_revoked, 2);
}

/* What a rail will not deregister stays mapped, and counts as parked. */
static void revoke__parks_what_is_not_deregistered(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    size_t mapped_size;

    create_revocable(f, 2);
    for (size_t i = 0; i < 3; i++) {
        abandon_one(f, 100, i);
    }
    mapped_size = pool_fixture_stats(f->pool).mapped_size;
    f->networks[0].deregister_fail_at = f->networks[0].n_deregister + 2;
    f->networks[0].deregister_fail_count = 1;
    mrp_error_clear();
    assert_int_equal(mrp_quarantine_revoke(f->pool, 0), 2);
    assert_int_equal(mrp_error_last()->status, MRP_OK); /* nobody asked */
    assert_int_equal(pool_fixture_stats(f->pool).n_quarantined, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_revoked, 2);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_parked, 1);
    assert_int_equal(stats.parked_size, mapped_size / 3);
    assert_int_equal(f->networks[0].n_live, 1);
    assert_int_equal(f->networks[1].n_live, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    f->networks[0].n_live = 0; /* it keeps that one for good */
}

/* Nothing of a chunk that others have a part of. */
static void revoke__is_for_chunks_of_their_own(void **state)
{
    static char buffer[4096];
    struct pool_fixture *f = *state;
    struct mrp_region *region, *slice;

    create_revocable(f, 1);
    assert_int_equal(mrp_region_register(f->pool, buffer, 4096, NULL, &region), MRP_OK);
    assert_int_equal(mrp_region_abandon(region, 1), MRP_OK);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_slice(region, 0, 10, &slice), MRP_OK);
    assert_int_equal(mrp_region_abandon(slice, 1), MRP_OK);
    assert_int_equal(mrp_quarantine_revoke(f->pool, 0), 0);
    assert_int_equal(mrp_region_release(region), MRP_OK);
    assert_int_equal(mrp_quarantine_revoke(f->pool, 0), 0);
    assert_int_equal(mrp_pool_drained(f->pool, 1, NULL), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    pool_fixture_create(f, NULL); /* over a rail that revokes */
    abandon_one(f, 100, 1);
    assert_int_equal(mrp_quarantine_revoke(f->pool, 0), 0);
    assert_int_equal(mrp_pool_drained(f->pool, 1, NULL), MRP_OK);
}

static void revoke__needs_networks_that_can(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params;

    create_revocable(f, 1);
    params = isolated(f);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
        params.access = i == 0 ? MRP_ACCESS_ALL : MRP_ACCESS_REMOTE; /* own transfers */
        params.n_rails = i == 1 ? 2 : i == 2 ? 0 : 1; /* one that cannot; none */
        params.quarantine_ms = i == 3 ? UINT32_MAX : 1;
        pool_fixture_create(f, &params);
        abandon_one(f, 100, 1);
        assert_int_equal(mrp_quarantine_revoke(f->pool, 0), 0);
        assert_int_equal(mrp_pool_drained(f->pool, 1, NULL), MRP_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(isolate__each_region_is_a_registration),
        POOL_TEST(isolate__takes_idle_ones_again),
        POOL_TEST(isolate__without_growth),
        POOL_TEST(isolate__is_bounded_by_registrations),
        POOL_TEST(isolate__over_an_array),
        POOL_TEST(isolate__refuses_what_contradicts_it),
        POOL_TEST(revoke__takes_the_keys_of_old_ones),
        POOL_TEST(revoke__leaves_those_that_drained),
        POOL_TEST(revoke__happens_by_itself),
        POOL_TEST(revoke__serves_who_is_at_the_limit),
        POOL_TEST(revoke__parks_what_is_not_deregistered),
        POOL_TEST(revoke__is_for_chunks_of_their_own),
        POOL_TEST(revoke__needs_networks_that_can),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
