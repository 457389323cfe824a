/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rails that come and go: what is registered with them, what their keys are, and what
 * their indices.
 */
#include "mrpool/thread.h"
#include "rails.h"

#include <stdlib.h>

/* One of every kind of memory that a pool holds. */
struct memory {
    struct mrp_region *pooled, *large, *user, *adopted, *abandoned, *slice;
    unsigned char outside[10000];
    void *given;
};

static void fill(struct pool_fixture *f, struct memory *memory)
{
    struct mrp_region *idle = pool_fixture_alloc(f, 3 * MRP_MIB);

    memory->pooled = pool_fixture_alloc(f, 5000);
    memory->large = pool_fixture_alloc(f, 2 * MRP_MIB);
    memory->abandoned = pool_fixture_alloc(f, 4 * MRP_MIB);
    memory->given = malloc(2 * MRP_MIB);
    assert_int_equal(mrp_region_register(f->pool, memory->outside, sizeof memory->outside,
                         NULL, &memory->user),
        MRP_OK);
    assert_int_equal(
        mrp_region_adopt(f->pool, memory->given, 2 * MRP_MIB, NULL, &memory->adopted),
        MRP_OK);
    assert_int_equal(mrp_region_slice(memory->large, 100, 50, &memory->slice), MRP_OK);
    assert_int_equal(mrp_region_abandon(memory->abandoned, 7), MRP_OK);
    pool_fixture_free(idle);
}

static void empty(struct pool_fixture *f, struct memory *memory)
{
    void *address;
    size_t size;

    pool_fixture_free(memory->slice);
    pool_fixture_free(memory->pooled);
    pool_fixture_free(memory->large);
    pool_fixture_free(memory->user);
    assert_int_equal(mrp_region_forget(memory->adopted, &address, &size), MRP_OK);
    assert_ptr_equal(address, memory->given);
    free(memory->given);
    assert_int_equal(mrp_pool_drained(f->pool, 7, NULL), MRP_OK);
}

/* The first rails have every chunk, abandoned ones too; the others have none. */
static void check_chunks(struct pool_fixture *f, size_t n_rails)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    for (size_t i = 0; i < POOL_FIXTURE_RAILS; i++) {
        assert_int_equal(f->networks[i].n_live, i < n_rails ? stats.n_chunks : 0);
    }
    assert_int_equal(stats.n_registrations, n_rails * stats.n_chunks);
    assert_int_equal(stats.n_charged, n_rails * stats.n_chunks);
}

/* -- add and remove -- */

static void add__registers_all_there_is(void **state)
{
    struct pool_fixture *f = *state;
    static struct memory memory;
    size_t n_chunks;

    pool_fixture_create(f, NULL);
    fill(f, &memory);
    n_chunks = f->networks[0].n_live;
    assert_true(n_chunks >= 6);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    check_chunks(f, 2);
    check_keys(f, memory.pooled, 1, f->rails[1]);
    check_keys(f, memory.large, 1, f->rails[1]);
    check_keys(f, memory.user, 1, f->rails[1]);
    check_keys(f, memory.adopted, 1, f->rails[1]);
    check_keys(f, memory.slice, 1, f->rails[1]);
    check_keys(f, memory.slice, 0, f->rails[0]);
    assert_int_equal(query(f, 1).n_registrations, n_chunks);
    assert_int_equal(query(f, 1).registered_size, f->networks[1].live_size);
    assert_int_equal(query(f, 1).state, MRP_RAIL_ACTIVE);
    assert_ptr_equal(query(f, 1).provider, f->rails[1]);
    pool_fixture_free(pool_fixture_alloc(f, 6 * MRP_MIB)); /* later chunks, too */
    check_chunks(f, 2);
    empty(f, &memory);
    assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(f->networks[1].n_live, 0);
    assert_int_equal(query(f, 1).n_registrations, 0);
}

static void remove__takes_the_keys_and_frees_the_provider(void **state)
{
    struct pool_fixture *f = *state;
    static struct memory memory;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    fill(f, &memory);
    assert_refused(mrp_provider_close(f->rails[1]), MRP_ERR_BUSY, "serves 1 pools");
    remove_rail(f, 1);
    check_chunks(f, 1);
    refuse_keys(f, memory.pooled, 1, MRP_ERR_UNSUPPORTED, "has 1 rails");
    refuse_keys(f, memory.user, 1, MRP_ERR_UNSUPPORTED, "has 1 rails");
    check_keys(f, memory.slice, 0, f->rails[0]);
    assert_int_equal(query(f, 1).state, MRP_RAIL_UNUSED);
    assert_null(query(f, 1).provider);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    remove_rail(f, 0); /* a pool without rails */
    check_chunks(f, 0);
    pool_fixture_free(pool_fixture_alloc(f, 6 * MRP_MIB));
    assert_int_equal(add(f, f->rails[0], MRP_RAIL_EAGER), 0);
    check_chunks(f, 1);
    empty(f, &memory);
}

static void indices__are_the_lowest_unused_and_stay(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;
    unsigned rail = 7;

    params.n_rails = 3;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 100);
    remove_rail(f, 1);
    check_keys(f, region, 0, f->rails[0]);
    check_keys(f, region, 2, f->rails[2]);
    refuse_keys(f, region, 1, MRP_ERR_UNSUPPORTED, "2 rails, and none of that number");
    assert_int_equal(pool_fixture_stats(f->pool).n_rails, 2);
    assert_refused(mrp_pool_rail_add(f->pool, f->rails[2], MRP_RAIL_EAGER, &rail),
        MRP_ERR_EXISTS, "provider third is rail 2");
    assert_int_equal(rail, 7);
    remove_rail(f, 0);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 0);
    assert_int_equal(add(f, f->rails[0], MRP_RAIL_EAGER), 1);
    check_keys(f, region, 0, f->rails[1]);
    check_keys(f, region, 1, f->rails[0]);
    check_keys(f, region, 2, f->rails[2]);
    assert_refused(mrp_pool_rail_remove(f->pool, 3), MRP_ERR_NOT_FOUND, "has no rail 3");
    assert_refused(
        mrp_pool_rail_remove(f->pool, 64), MRP_ERR_NOT_FOUND, "has no rail 64");
    assert_refused(
        mrp_pool_rail_fail(f->pool, 3, NULL), MRP_ERR_NOT_FOUND, "has no rail 3");
    assert_refused(
        mrp_pool_rail_fail(f->pool, 64, NULL), MRP_ERR_INVALID, "rails 0 to 63");
    pool_fixture_free(region);
}

static void add__refuses_what_cannot_be_a_rail(void **state)
{
    struct pool_fixture *f = *state;
    struct test_provider network;
    struct mrp_provider *provider, *foreign;
    struct mrp_context *other;
    unsigned rail;

    pool_fixture_create(f, NULL);
    test_provider_init(&network);
    network.access = MRP_ACCESS_LOCAL;
    assert_int_equal(mrp_provider_create(
                         f->context, "local", test_provider_ops(), &network, &provider),
        MRP_OK);
    assert_int_equal(mrp_context_create(NULL, &other), MRP_OK);
    assert_int_equal(mrp_provider_open(other, "host", NULL, &foreign), MRP_OK);
    assert_refused(mrp_pool_rail_add(f->pool, provider, MRP_RAIL_EAGER, &rail),
        MRP_ERR_UNSUPPORTED, "cannot grant access");
    assert_refused(mrp_pool_rail_add(f->pool, foreign, MRP_RAIL_EAGER, &rail),
        MRP_ERR_INVALID, "another context");
    assert_refused(
        mrp_pool_rail_add(f->pool, f->rails[1], (enum mrp_rail_policy)3, &rail),
        MRP_ERR_INVALID, "policy is 3");
    assert_refused(mrp_pool_rail_add(f->pool, f->rails[1], MRP_RAIL_EAGER, NULL),
        MRP_ERR_INVALID, "rail is NULL");
    assert_int_equal(
        mrp_pool_rail_add(f->pool, NULL, MRP_RAIL_EAGER, &rail), MRP_ERR_STALE);
    assert_int_equal(
        mrp_pool_rail_add(NULL, f->rails[1], MRP_RAIL_EAGER, &rail), MRP_ERR_STALE);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    assert_int_equal(mrp_context_destroy(other), MRP_OK);
    test_provider_fini(&network);
}

/* 64 rails of mixed kinds: this process's own, and test networks with blobs and without. */
static void add__up_to_64_rails(void **state)
{
    struct pool_fixture *f = *state;
    static struct test_provider networks[MRP_RAILS_MAX + 1];
    struct mrp_provider *providers[MRP_RAILS_MAX + 1];
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;
    unsigned rail;
    size_t offset;
    void *native;

    params.access = MRP_ACCESS_LOCAL;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 100);
    for (unsigned i = 1; i <= MRP_RAILS_MAX; i++) {
        test_provider_init(&networks[i]);
        networks[i].traits |= i % 2 == 0 ? MRP_PROVIDER_RAW_KEY : 0;
        if (i % 8 == 5) {
            assert_int_equal(
                mrp_provider_open(f->context, "host", NULL, &providers[i]), MRP_OK);
        } else {
            assert_int_equal(mrp_provider_create(f->context, NULL, test_provider_ops(),
                                 &networks[i], &providers[i]),
                MRP_OK);
        }
        if (i < MRP_RAILS_MAX) {
            assert_int_equal(add(f, providers[i], MRP_RAIL_EAGER), i);
        }
    }
    assert_refused(
        mrp_pool_rail_add(f->pool, providers[MRP_RAILS_MAX], MRP_RAIL_EAGER, &rail),
        MRP_ERR_LIMIT, "64 rails, the most");
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB));
    remove_rail(f, 40);
    assert_int_equal(add(f, providers[MRP_RAILS_MAX], MRP_RAIL_EAGER), 40);
    for (unsigned i = 1; i < MRP_RAILS_MAX; i++) {
        assert_int_equal(mrp_region_registration(region, i, &native, &offset), MRP_OK);
        assert_int_equal(query(f, i).n_registrations, 2);
        remove_rail(f, i);
    }
    pool_fixture_check_registrations(f, 1);
    pool_fixture_free(region);
    for (unsigned i = 1; i <= MRP_RAILS_MAX; i++) {
        assert_int_equal(mrp_provider_close(providers[i]), MRP_OK);
        assert_string_equal(networks[i].first_error, "");
        test_provider_fini(&networks[i]);
    }
}

/* -- budgets -- */

static void add__is_charged_to_the_budgets(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_context_params limits = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_context *context;
    struct mrp_provider *rails[2];
    struct test_provider networks[2];
    struct mrp_region *regions[3];
    struct mrp_pool *pool;
    unsigned rail;

    limits.max_registrations = 5;
    limits.max_pinned = 64 * MRP_MIB;
    limits.max_bytes = 64 * MRP_MIB;
    assert_int_equal(mrp_context_create(&limits, &context), MRP_OK);
    for (size_t i = 0; i < 2; i++) {
        test_provider_init(&networks[i]);
        networks[i].traits |= MRP_PROVIDER_PINS;
        assert_int_equal(mrp_provider_create(
                             context, NULL, test_provider_ops(), &networks[i], &rails[i]),
            MRP_OK);
    }
    params.backend = NULL;
    params.rails = rails;
    params.n_rails = 0;
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    for (size_t i = 0; i < 3; i++) {
        regions[i] = mrp_region_alloc(pool, 4 * MRP_MIB);
        assert_non_null(regions[i]);
    }
    assert_int_equal(mrp_pool_rail_add(pool, rails[0], MRP_RAIL_EAGER, &rail), MRP_OK);
    assert_int_equal(mrp_context_stats(context, &stats), MRP_OK);
    assert_int_equal(stats.n_charged, 3);
    assert_int_equal(stats.pinned_size, stats.chunk_size);
    assert_refused(mrp_pool_rail_add(pool, rails[1], MRP_RAIL_EAGER, &rail),
        MRP_ERR_LIMIT, "5 of at most 5 registrations");
    assert_int_equal(mrp_context_stats(context, &stats), MRP_OK);
    assert_int_equal(stats.n_charged, 3);
    assert_int_equal(stats.pinned_size, stats.chunk_size);
    assert_int_equal(networks[1].n_live, 0);
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(mrp_region_free(regions[2]), MRP_OK);
    assert_int_equal(mrp_pool_trim(pool, 0, NULL), MRP_OK);
    assert_int_equal(mrp_pool_rail_remove(pool, 0), MRP_OK);
    assert_int_equal(mrp_context_stats(context, &stats), MRP_OK);
    assert_int_equal(stats.n_charged, 0);
    assert_int_equal(stats.pinned_size, 0);
    assert_int_equal(mrp_pool_rail_add(pool, rails[1], MRP_RAIL_EAGER, &rail), MRP_OK);
    assert_int_equal(mrp_region_free(regions[0]), MRP_OK);
    assert_int_equal(mrp_region_free(regions[1]), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    test_provider_fini(&networks[0]);
    test_provider_fini(&networks[1]);
}

static void max_registrations__is_per_rail(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    uint32_t policies[] = {MRP_RAIL_EAGER, MRP_RAIL_LAZY};
    struct mrp_region *regions[4];
    unsigned rail;

    params.n_rails = 2;
    params.rail_policies = policies;
    params.max_registrations = 3;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 3; i++) {
        regions[i] = pool_fixture_alloc(f, 2 * MRP_MIB);
    }
    assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_LIMIT, "3 of 3");
    assert_int_equal(pool_fixture_stats(f->pool).n_registrations, 3);
    assert_int_equal(mrp_region_ensure(regions[0], 2), MRP_OK);
    assert_int_equal(query(f, 0).n_registrations, 3);
    assert_int_equal(query(f, 1).n_registrations, 1);
    remove_rail(f, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_registrations, 1);
    regions[3] = pool_fixture_alloc(f, 2 * MRP_MIB); /* lazy ones do not count */
    assert_refused(mrp_pool_rail_add(f->pool, f->rails[2], MRP_RAIL_EAGER, &rail),
        MRP_ERR_LIMIT, "holds 3 of 3 registrations on rail 0 (third)");
    assert_int_equal(f->networks[2].n_live, 0);
    for (size_t i = 0; i < 4; i++) {
        pool_fixture_free(regions[i]);
    }
}

/* Each rail has its own; one that leaves does not leave its limit behind. */
static void max_registrations__of_one_network_is_not_the_next_ones(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_provider *rails[2] = {NULL, f->rails[0]};
    struct test_provider few;

    test_provider_init(&few);
    few.max_registrations = 2;
    assert_int_equal(
        mrp_provider_create(f->context, "few", test_provider_ops(), &few, &rails[0]),
        MRP_OK);
    params.rails = rails;
    params.n_rails = 2;
    pool_fixture_create(f, &params);
    assert_int_equal(query(f, 0).max_registrations, 2);
    assert_int_equal(query(f, 1).max_registrations, 1024);
    assert_int_equal(pool_fixture_stats(f->pool).max_registrations, 2);
    remove_rail(f, 0);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 0);
    assert_int_equal(query(f, 0).max_registrations, 1024);
    assert_int_equal(pool_fixture_stats(f->pool).max_registrations, 1024);
    assert_int_equal(mrp_provider_close(rails[0]), MRP_OK);
    test_provider_fini(&few);
}

/* -- keys for peers without the library -- */

static void native_key__is_the_networks_own(void **state)
{
    struct pool_fixture *f = *state;
    unsigned char bytes[64];
    struct mrp_region *region;
    struct test_provider raw;
    struct mrp_provider *provider;
    size_t size = 0;
    uint64_t key, found;

    pool_fixture_create(f, NULL);
    test_provider_init(&raw);
    raw.traits |= MRP_PROVIDER_RAW_KEY;
    assert_int_equal(
        mrp_provider_create(f->context, "raw", test_provider_ops(), &raw, &provider),
        MRP_OK);
    assert_int_equal(add(f, provider, MRP_RAIL_EAGER), 1);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_remote_key(region, 0, &key), MRP_OK);
    assert_int_equal(mrp_region_native_key(region, 0, NULL, &size), MRP_OK);
    assert_int_equal(size, 8);
    size = 7;
    assert_refused(
        mrp_region_native_key(region, 0, bytes, &size), MRP_ERR_INVALID, "7 bytes");
    assert_int_equal(size, 7);
    memset(bytes, 0xee, sizeof bytes);
    size = sizeof bytes;
    assert_int_equal(mrp_region_native_key(region, 0, bytes, &size), MRP_OK);
    assert_int_equal(size, 8);
    found = 0;
    for (size_t i = 0; i < 8; i++) {
        found |= (uint64_t)bytes[i] << (8 * i);
    }
    assert_int_equal(found, key);
    assert_int_equal(bytes[8], 0xee);
    assert_refused(
        mrp_region_remote_key(region, 1, &key), MRP_ERR_UNSUPPORTED, "key_pack");
    assert_int_equal(mrp_region_native_key(region, 1, NULL, &size), MRP_OK);
    assert_int_equal(size, 32);
    assert_int_equal(mrp_region_native_key(region, 1, bytes, &size), MRP_OK);
    memcpy(&key, bytes, sizeof key);
    memcpy(&found, bytes + 24, sizeof found);
    assert_int_equal(found, ~key); /* the test network's blob */
    assert_refused(
        mrp_region_native_key(region, 2, bytes, &size), MRP_ERR_UNSUPPORTED, "rail 2");
    assert_refused(
        mrp_region_native_key(region, 64, bytes, &size), MRP_ERR_UNSUPPORTED, "rail 64");
    assert_refused(
        mrp_region_native_key(region, 0, bytes, NULL), MRP_ERR_INVALID, "size is NULL");
    pool_fixture_free(region);
    remove_rail(f, 1);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    assert_string_equal(raw.first_error, "");
    test_provider_fini(&raw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(add__registers_all_there_is),
        POOL_TEST(remove__takes_the_keys_and_frees_the_provider),
        POOL_TEST(indices__are_the_lowest_unused_and_stay),
        POOL_TEST(add__refuses_what_cannot_be_a_rail),
        POOL_TEST(add__up_to_64_rails),
        POOL_TEST(add__is_charged_to_the_budgets),
        POOL_TEST(max_registrations__is_per_rail),
        POOL_TEST(max_registrations__of_one_network_is_not_the_next_ones),
        POOL_TEST(native_key__is_the_networks_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
