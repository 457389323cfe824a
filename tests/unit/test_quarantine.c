/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Quarantine: what is abandoned is nobody's until its fence is reported drained.
 */
#include "mrpool/thread.h"
#include "pool/pool.h"
#include "support/pool_fixture.h"

#include <stdlib.h>

static size_t drained(struct mrp_pool *pool, uint64_t fence)
{
    size_t n_regions = 99;

    assert_int_equal(mrp_pool_drained(pool, fence, &n_regions), MRP_OK);
    return n_regions;
}

static void abandon(struct mrp_region *region, uint64_t fence)
{
    mrp_error_clear();
    if (mrp_region_abandon(region, fence) != MRP_OK) {
        fail_msg("mrp_region_abandon: %s", mrp_error_last()->text);
    }
}

static void create(struct pool_fixture *f, enum mrp_checks checks)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.checks = checks;
    pool_fixture_create(f, &params);
}

/* Take all there is of a class of one chunk; whether one is at the address. */
static bool is_given_out(struct mrp_pool *pool, size_t size, const void *address)
{
    struct mrp_region *regions[2000];
    size_t n = mrp_region_alloc_many(pool, size, 2000, regions);
    bool is_there = false;

    for (size_t i = 0; i < n; i++) {
        is_there = is_there || mrp_region_address(regions[i]) == address;
    }
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
    return is_there;
}

static void check_reissue(struct pool_fixture *f, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(f->pool, size);
    void *address = mrp_region_address(region);
    struct mrp_pool_stats stats;

    assert_non_null(region);
    abandon(region, 7);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.n_quarantined, 1);
    assert_true(stats.quarantined_size >= size);
    assert_int_equal(stats.n_large, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_false(is_given_out(f->pool, size, address));
    }
    assert_int_equal(drained(f->pool, 6), 0);
    assert_int_equal(drained(f->pool, 7), 1);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.n_quarantined, 0);
    assert_int_equal(stats.quarantined_size, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_true(is_given_out(f->pool, size, address));
    assert_int_equal(drained(f->pool, 7), 0);
}

static void abandon__is_not_given_out_before_it_is_drained(void **state)
{
    struct pool_fixture *f = *state;

    create(f, MRP_CHECKS_STATE);
    check_reissue(f, 0);
    check_reissue(f, 5000);
    check_reissue(f, MRP_MIB);
}

static void abandon__without_checks(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_stats stats;
    struct mrp_region *region;

    create(f, MRP_CHECKS_NONE);
    check_reissue(f, 1000);
    region = mrp_region_alloc(f->pool, 1000);
    abandon(region, 1);
    stats = pool_fixture_stats(f->pool);
    assert_int_equal(stats.tiers[MRP_TIER_SMALL].n_live, 0);
    assert_int_equal(
        stats.tiers[MRP_TIER_SMALL].n_free + 1, stats.tiers[MRP_TIER_SMALL].n_regions);
    assert_null(mrp_region_address(region));
    assert_refused(mrp_region_release(region), MRP_ERR_STALE, "fence 1");
    assert_int_equal(drained(f->pool, 1), 1);
    /* as it was cut */
    assert_int_equal(mrp_load_relaxed(&region->state), MRP_STATE_LIVE);
    assert_int_equal(mrp_region_size(region), mrp_region_capacity(region));
    assert_int_equal(mrp_region_length(region), 0);
}

static void abandon__with_full_checks(void **state)
{
    struct pool_fixture *f = *state;

    create(f, MRP_CHECKS_FULL);
    check_reissue(f, 1000);
}

/* -- kinds -- */

static void abandon__large_one_becomes_idle_when_drained(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *other;

    create(f, MRP_CHECKS_STATE);
    region = pool_fixture_alloc(f, 3 * MRP_MIB);
    abandon(region, 1);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_large, 0);
    assert_int_equal(pool_fixture_stats(f->pool).quarantined_size, 3 * MRP_MIB);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK); /* nothing to evict */
    other = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_ptr_not_equal(other, region);
    pool_fixture_free(other);
    assert_int_equal(drained(f->pool, 1), 1);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 2);
    assert_int_equal(f->networks[0].n_live, 2);
}

static void abandon__registered_memory_is_deregistered_when_drained(void **state)
{
    static char buffer[10000];
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    create(f, MRP_CHECKS_STATE);
    assert_int_equal(
        mrp_region_register(f->pool, buffer, sizeof buffer, NULL, &region), MRP_OK);
    abandon(region, 1);
    assert_int_equal(pool_fixture_stats(f->pool).n_user, 0);
    assert_int_equal(pool_fixture_stats(f->pool).quarantined_size, sizeof buffer);
    assert_int_equal(f->networks[0].n_live, 1);
    assert_int_equal(mrp_quarantine_revoke(f->pool, 0), 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(drained(f->pool, 1), 1);
    assert_int_equal(f->networks[0].n_live, 0);
}

/* A network reaches what it does not know of: one of the caller's own, older than the first
 * rail. No rail that joins later can take its keys back. */
static void abandon__of_memory_older_than_its_rails_is_kept(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct test_provider network;
    struct mrp_provider *revoking;
    struct mrp_region *region, *other;
    unsigned rail;

    test_provider_init(&network);
    network.traits |= MRP_PROVIDER_REVOKES | MRP_PROVIDER_LOCAL_DESC;
    assert_int_equal(mrp_provider_create(f->context, "revoking", test_provider_ops(),
                         &network, &revoking),
        MRP_OK);
    params.n_rails = 0;
    params.quarantine_ms = 3600000; /* the test revokes at once, nobody else does */
    for (int is_older = 0; is_older < 2; is_older++) {
        pool_fixture_create(f, &params);
        if (is_older == 0) {
            assert_int_equal(
                mrp_pool_rail_add(f->pool, revoking, MRP_RAIL_EAGER, &rail), MRP_OK);
        }
        region = pool_fixture_alloc(f, 2 * MRP_MIB);
        other = pool_fixture_alloc(f, 3 * MRP_MIB);
        abandon(region, 1);
        if (is_older == 1) {
            assert_int_equal(
                mrp_pool_rail_add(f->pool, revoking, MRP_RAIL_LAZY, &rail), MRP_OK);
        }
        abandon(other, 1);
        assert_int_equal(mrp_quarantine_revoke(f->pool, 0), is_older ? 0 : 2);
        assert_int_equal(drained(f->pool, 1), is_older ? 2 : 0);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
    assert_int_equal(mrp_provider_close(revoking), MRP_OK);
    assert_string_equal(network.first_error, "");
    test_provider_fini(&network);
}

static void abandon__slice_keeps_its_root(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *root, *slice;

    create(f, MRP_CHECKS_STATE);
    root = pool_fixture_alloc(f, 1000);
    assert_int_equal(mrp_region_slice(root, 100, 200, &slice), MRP_OK);
    assert_refused(mrp_region_abandon(root, 1), MRP_ERR_BUSY, "2 references");
    abandon(slice, 2);
    assert_int_equal(pool_fixture_stats(f->pool).quarantined_size, 200);
    assert_refused(mrp_region_free(root), MRP_ERR_BUSY, "2 references");
    assert_int_equal(mrp_region_release(root), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].n_live, 1);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(drained(f->pool, 2), 1); /* the last reference */
    assert_int_equal(pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].n_live, 0);
    assert_refused(mrp_region_free(root), MRP_ERR_STALE, "free");
}

/* A trim gives back what is free, and nothing else is. */
static void abandon__keeps_its_slab_from_a_trim(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[3000];
    unsigned char *memory;

    create(f, MRP_CHECKS_STATE);
    assert_int_equal(mrp_region_alloc_many(f->pool, 1000, 3000, regions), 3000);
    memory = mrp_region_address(regions[1500]);
    abandon(regions[1500], 1);
    regions[1500] = regions[2999];
    assert_int_equal(mrp_region_free_many(regions, 2999, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).n_chunks, 1);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].n_live, 0);
    memset(memory, 0xbd, 1000); /* still mapped, and nobody's */
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(drained(f->pool, 1), 1);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    assert_int_equal(f->networks[0].n_live, 0);
}

/* One that waits in line gets what has drained. */
static void note_served(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    assert_int_equal(status, MRP_OK);
    *(struct mrp_region **)waiter->user = region;
}

static void drained__serves_who_waits(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *held[64], *served = NULL, *region = NULL;
    struct mrp_waiter waiter = MRP_WAITER_INIT(note_served, &served);
    size_t n = 0;

    params.max_bytes = MRP_MIB;
    params.at_limit = MRP_AT_LIMIT_WAIT;
    pool_fixture_create(f, &params);
    while (
        n < 64 && mrp_region_alloc_async(f->pool, 60000, &waiter, &held[n]) == MRP_OK) {
        n++;
    }
    assert_in_range(n, 2, 63);
    assert_int_equal(pool_fixture_stats(f->pool).n_waiting, 1);
    region = held[--n];
    abandon(region, 1);
    assert_null(served);
    assert_int_equal(drained(f->pool, 1), 1);
    assert_ptr_equal(served, region);
    pool_fixture_free(served);
    assert_int_equal(mrp_region_free_many(held, n, NULL), MRP_OK);
}

/* -- fences -- */

static void drained__takes_all_of_one_fence(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[1000];

    create(f, MRP_CHECKS_STATE);
    assert_int_equal(mrp_region_alloc_many(f->pool, 300, 1000, regions), 1000);
    for (uint64_t i = 0; i < 1000; i++) { /* more fences than lists, far apart or not */
        abandon(regions[i], i % 500 << (i % 2 == 0 ? 0 : 40));
    }
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    for (uint64_t i = 0; i < 500; i++) {
        assert_int_equal(pool_fixture_stats(f->pool).n_quarantined, 1000 - 2 * i);
        assert_int_equal(drained(f->pool, i << (i % 2 == 0 ? 0 : 40)), 2);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    }
    assert_int_equal(pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL].n_live, 0);
}

static void drained__every_number_is_a_fence(void **state)
{
    static const uint64_t fences[] = {0, UINT64_MAX, UINT64_C(1) << 63, 1};
    struct pool_fixture *f = *state;
    struct mrp_region *regions[4];

    create(f, MRP_CHECKS_STATE);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(drained(f->pool, fences[i]), 0);
        regions[i] = pool_fixture_alloc(f, 100);
        abandon(regions[i], fences[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(drained(f->pool, fences[i]), 1);
        assert_refused(mrp_region_free(regions[i]), MRP_ERR_STALE, "is free");
    }
    abandon(pool_fixture_alloc(f, 100), 5);
    assert_int_equal(mrp_pool_drained(f->pool, 5, NULL), MRP_OK);
    abandon(pool_fixture_alloc(f, 100), 5); /* again */
    assert_int_equal(drained(f->pool, 5), 1);
}

static void drained__tells_what_could_not_be_given_back(void **state)
{
    static char buffers[3][4096];
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    size_t n_regions = 0;

    create(f, MRP_CHECKS_STATE);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(
            mrp_region_register(f->pool, buffers[i], 4096, NULL, &region), MRP_OK);
        abandon(region, 1);
    }
    f->networks[0].deregister_fail_at = f->networks[0].n_deregister + 2;
    f->networks[0].deregister_fail_count = 1;
    mrp_error_clear();
    assert_int_equal(mrp_pool_drained(f->pool, 1, &n_regions), MRP_ERR_REGISTER);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_REGISTER);
    assert_int_equal(n_regions, 3);
    assert_int_equal(pool_fixture_stats(f->pool).n_quarantined, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    f->networks[0].n_live = 0; /* it keeps that one for good */
}

/* -- misuse -- */

static void abandon__refuses_what_is_not_held(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    int number;

    create(f, MRP_CHECKS_STATE);
    region = pool_fixture_alloc(f, 100);
    assert_refused(mrp_region_abandon(NULL, 1), MRP_ERR_STALE, "NULL");
    assert_refused(mrp_region_abandon((struct mrp_region *)(void *)&number, 1),
        MRP_ERR_STALE, "not");
    assert_int_equal(mrp_region_retain(region), MRP_OK);
    assert_refused(mrp_region_abandon(region, 1), MRP_ERR_BUSY, "2 references");
    assert_int_equal(mrp_region_release(region), MRP_OK);
    pool_fixture_free(region);
    assert_refused(mrp_region_abandon(region, 1), MRP_ERR_STALE, "is free");
    assert_refused(mrp_pool_drained(NULL, 1, NULL), MRP_ERR_STALE, "NULL");
}

static void abandon__leaves_no_other_call_a_way_in(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region_info info = MRP_REGION_INFO_INIT;
    struct mrp_region *region, *slice;
    struct mrp_token token;
    uint64_t key;
    void *address;
    size_t n;

    create(f, MRP_CHECKS_STATE);
    region = pool_fixture_alloc(f, 100);
    address = mrp_region_address(region);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    abandon(region, 42);
    assert_refused(mrp_region_free(region), MRP_ERR_STALE, "abandoned under fence 42");
    assert_refused(mrp_region_release(region), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_region_retain(region), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_region_abandon(region, 43), MRP_ERR_STALE, "fence 42");
    assert_refused(mrp_region_slice(region, 0, 1, &slice), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_region_query(region, &info), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_region_set_length(region, 1), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_region_remote_key(region, 0, &key), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_region_token(region, &token), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_ptr_free(f->pool, address), MRP_ERR_STALE, "quarantine");
    assert_refused(mrp_region_free_many(&region, 1, &n), MRP_ERR_STALE, "quarantine");
    assert_null(mrp_region_address(region));
    assert_int_equal(mrp_region_size(region) + mrp_region_length(region), 0);
    assert_refused(
        mrp_token_resolve(f->pool, &token, &slice), MRP_ERR_STALE, "or abandoned");
    assert_int_equal(drained(f->pool, 42), 1);
    assert_refused(mrp_token_resolve(f->pool, &token, &slice), MRP_ERR_STALE, "since");
}

/* -- destroy -- */

struct seen {
    size_t n_abandoned, n_regions, size;
    char origin[128];
};

static void see(const struct mrp_leak *leak, void *user)
{
    struct seen *seen = user;

    seen->n_regions += leak->kind == MRP_OBJECT_REGION;
    if (leak->kind == MRP_OBJECT_ABANDONED) {
        seen->n_abandoned++;
        seen->size += leak->size;
        snprintf(seen->origin, sizeof seen->origin, "%s", leak->origin);
    }
}

static void destroy__reports_what_never_drained(void **state)
{
    static const enum mrp_checks checks[] = {
        MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
        struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
        struct test_provider network;
        struct mrp_provider *rail;
        struct mrp_context *context;
        struct seen seen = {0, 0, 0, ""};
        struct mrp_region *regions[3];

        test_provider_init(&network);
        context_params.on_leak = see;
        context_params.on_leak_user = &seen;
        assert_int_equal(mrp_context_create(&context_params, &context), MRP_OK);
        assert_int_equal(
            mrp_provider_create(context, NULL, test_provider_ops(), &network, &rail),
            MRP_OK);
        params.rails = &rail;
        params.n_rails = 1;
        params.checks = checks[i];
        params.max_bytes = 16 * MRP_MIB;
        struct mrp_pool *pool;
        assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
        for (size_t n = 0; n < 3; n++) {
            regions[n] = mrp_region_alloc(pool, n < 2 ? 1000 : 2 * MRP_MIB);
            assert_non_null(regions[n]);
        }
        abandon(regions[0], 7);
        abandon(regions[2], 7);
        assert_int_equal(mrp_region_free(regions[1]), MRP_OK);
        assert_refused(mrp_pool_destroy(pool), MRP_ERR_LEAKED, "abandoned region");
        assert_int_equal(seen.n_abandoned, 2);
        assert_int_equal(seen.n_regions, 0);
        assert_true(seen.size >= 2 * MRP_MIB + 1000);
        assert_string_equal(seen.origin, "abandoned 0 s ago, fence 7 never drained");
        assert_int_equal(network.n_live, 0);
        assert_refused(mrp_region_free(regions[0]), MRP_ERR_STALE, "destroyed");
        assert_refused(mrp_region_abandon(regions[0], 1), MRP_ERR_STALE, "destroyed");
        assert_refused(mrp_pool_drained(pool, 7, NULL), MRP_ERR_STALE, "destroyed");
        assert_int_equal(mrp_context_destroy(context), MRP_OK);
        assert_string_equal(network.first_error, ""); /* memory went after its keys */
        test_provider_fini(&network);
    }
}

/* -- check -- */

static void check__finds_a_quarantine_that_does_not_hold_together(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    create(f, MRP_CHECKS_STATE);
    region = pool_fixture_alloc(f, 100);
    abandon(region, 3);
    mrp_store_relaxed(&region->length, 4);
    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "fence 4");
    mrp_store_relaxed(&region->length, 3);
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "quarantine");
    mrp_store_relaxed(&region->state, MRP_STATE_QUARANTINED);
    f->pool->quarantine.size++;
    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "are counted");
    f->pool->quarantine.size--;
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(drained(f->pool, 3), 1);
    region = pool_fixture_alloc(f, 100);
    mrp_store_relaxed(&region->state, MRP_STATE_QUARANTINED);
    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "does not hold it");
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    pool_fixture_free(region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(abandon__is_not_given_out_before_it_is_drained),
        POOL_TEST(abandon__without_checks),
        POOL_TEST(abandon__with_full_checks),
        POOL_TEST(abandon__large_one_becomes_idle_when_drained),
        POOL_TEST(abandon__registered_memory_is_deregistered_when_drained),
        POOL_TEST(abandon__of_memory_older_than_its_rails_is_kept),
        POOL_TEST(abandon__slice_keeps_its_root),
        POOL_TEST(abandon__keeps_its_slab_from_a_trim),
        POOL_TEST(drained__serves_who_waits),
        POOL_TEST(drained__takes_all_of_one_fence),
        POOL_TEST(drained__every_number_is_a_fence),
        POOL_TEST(drained__tells_what_could_not_be_given_back),
        POOL_TEST(abandon__refuses_what_is_not_held),
        POOL_TEST(abandon__leaves_no_other_call_a_way_in),
        cmocka_unit_test(destroy__reports_what_never_drained),
        POOL_TEST(check__finds_a_quarantine_that_does_not_hold_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
