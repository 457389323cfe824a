/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rails whose networks refuse: at any registration, at any deregistration, or for good.
 */
#include "rails.h"

#include <stdlib.h>
#include <time.h>

#define N_REGIONS 5

static void take(struct pool_fixture *f, struct mrp_region *regions[N_REGIONS])
{
    for (size_t i = 0; i < N_REGIONS; i++) {
        regions[i] = pool_fixture_alloc(f, 2 * MRP_MIB + i * MRP_MIB);
    }
}

static void give(struct mrp_region *const regions[N_REGIONS])
{
    for (size_t i = 0; i < N_REGIONS; i++) {
        pool_fixture_free(regions[i]);
    }
}

static size_t charged(struct pool_fixture *f)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    return stats.n_charged;
}

/* -- registration -- */

static void add__failing_at_every_registration_changes_nothing(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[N_REGIONS];
    uint64_t before, key;
    unsigned rail = 9;

    pool_fixture_create(f, NULL);
    take(f, regions);
    assert_int_equal(mrp_region_remote_key(regions[0], 0, &before), MRP_OK);
    for (size_t at = 1; at <= N_REGIONS; at++) {
        test_provider_fail_next(&f->networks[1], at, 1, MRP_ERR_REGISTER);
        assert_refused(mrp_pool_rail_add(f->pool, f->rails[1], MRP_RAIL_EAGER, &rail),
            MRP_ERR_REGISTER, "fails as told");
        assert_int_equal(rail, 9);
        assert_int_equal(query(f, 1).state, MRP_RAIL_UNUSED);
        pool_fixture_check_registrations(f, 1);
        assert_int_equal(charged(f), N_REGIONS);
        refuse_keys(f, regions[0], 1, MRP_ERR_UNSUPPORTED, "has 1 rails");
        assert_int_equal(mrp_region_remote_key(regions[0], 0, &key), MRP_OK);
        assert_int_equal(key, before);
    }
    assert_int_equal(f->networks[1].n_register, 15); /* 1 + 2 + ... + 5 */
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    pool_fixture_check_registrations(f, 2);
    give(regions);
}

static void ensure__failing_at_every_registration_leaves_what_was(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    assert_int_equal(add(f, f->rails[2], MRP_RAIL_LAZY), 2);
    region = pool_fixture_alloc(f, 100);
    for (size_t failing = 1; failing <= 2; failing++) {
        test_provider_fail_next(&f->networks[failing], 1, 1, MRP_ERR_LIMIT);
        assert_refused(
            mrp_region_ensure(region, 7), MRP_ERR_LIMIT, "registration 1 fails");
        pool_fixture_check_registrations(f, 1);
        assert_int_equal(charged(f), 1);
        f->networks[failing].fail_at = 0;
    }
    assert_int_equal(f->networks[1].n_register, 2);
    assert_int_equal(mrp_region_ensure(region, 7), MRP_OK);
    pool_fixture_check_registrations(f, 3);
    pool_fixture_free(region);
}

static void growth__failing_at_any_of_three_rails_is_undone(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.n_rails = 1;
    pool_fixture_create(f, &params);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    assert_int_equal(add(f, f->rails[2], MRP_RAIL_NEAR), 2);
    for (size_t failing = 0; failing < 3; failing++) {
        test_provider_fail_next(&f->networks[failing], 1, 0, MRP_ERR_REGISTER);
        assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_REGISTER, "as told");
        pool_fixture_check_registrations(f, 3);
        assert_int_equal(charged(f), 0);
        assert_true(query(f, (unsigned)failing).n_failures > 0);
        assert_int_equal(query(f, (unsigned)failing).state, MRP_RAIL_ACTIVE);
        f->networks[failing].fail_at = 0;
    }
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB));
    pool_fixture_check_registrations(f, 3);
}

/* -- deregistration -- */

/* The pool goes on with what a removed rail keeps, until that memory goes. */
static void remove__refused_keeps_the_memory_until_the_provider_closes(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_region *regions[N_REGIONS];
    void *address;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    take(f, regions);
    f->networks[1].deregister_fail_at = 2;
    f->networks[1].deregister_fail_count = 1;
    assert_refused(mrp_pool_rail_remove(f->pool, 1), MRP_ERR_REGISTER, "as told");
    assert_int_equal(f->networks[1].n_deregister, N_REGIONS); /* each tried once */
    assert_int_equal(f->networks[1].n_live, 1);
    assert_int_equal(query(f, 1).state, MRP_RAIL_UNUSED);
    refuse_keys(f, regions[1], 1, MRP_ERR_UNSUPPORTED, "has 1 rails");
    assert_int_equal(charged(f), N_REGIONS + 1); /* it is there */
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    address = mrp_region_address(regions[1]);
    pool_fixture_free(regions[1]);
    regions[1] = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_ptr_equal(mrp_region_address(regions[1]), address);
    give(regions);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_chunks, 0);
    assert_int_equal(stats.n_parked, 1);
    assert_int_equal(stats.n_charged, 1);
    assert_true(stats.parked_size >= 3 * MRP_MIB);
    *(volatile char *)address = 1; /* it is mapped still */
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_parked, 0);
    assert_int_equal(stats.n_charged, 0);
    f->networks[1].n_live = 0; /* gone with its provider */
}

/* Closed first, the provider holds nothing any more: the memory goes as any other. */
static void remove__refused_and_closed_leaves_ordinary_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    f->networks[1].deregister_fail_at = 1;
    assert_refused(mrp_pool_rail_remove(f->pool, 1), MRP_ERR_REGISTER, "as told");
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    assert_int_equal(charged(f), 1);
    pool_fixture_free(region);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_parked, 0);
    assert_int_equal(stats.n_chunks, 0);
    f->networks[1].n_live = 0;
}

static void forget__of_memory_that_a_removed_rail_keeps_parks_it(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    void *address;
    size_t size;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    f->networks[1].deregister_fail_at = 1;
    assert_refused(mrp_pool_rail_remove(f->pool, 1), MRP_ERR_REGISTER, "as told");
    assert_refused(mrp_region_forget(region, &address, &size), MRP_ERR_REGISTER,
        "a rail that has been removed");
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    f->networks[1].n_live = 0;
}

/* Adopted memory, whose release comes with the provider's end, and once. */
static void count_release(void *address, size_t size, void *user)
{
    assert_non_null(address);
    assert_int_equal(size, 2 * MRP_MIB);
    (*(size_t *)user)++;
}

static void remove__refused_keeps_adopted_memory(void **state)
{
    struct pool_fixture *f = *state;
    void *memory = malloc(2 * MRP_MIB);
    size_t n_released = 0;
    struct mrp_region_adopt_params params = {
        .struct_size = sizeof params, .release = count_release, .user = &n_released};
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    assert_int_equal(
        mrp_region_adopt(f->pool, memory, 2 * MRP_MIB, &params, &region), MRP_OK);
    f->networks[1].deregister_fail_at = 1;
    assert_refused(mrp_pool_rail_remove(f->pool, 1), MRP_ERR_REGISTER, "as told");
    pool_fixture_free(region);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(n_released, 0);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    assert_int_equal(n_released, 1);
    f->networks[1].n_live = 0;
    free(memory);
}

/* As a stranger's provider may: any status will do for it. */
static enum mrp_status odd_status;

static enum mrp_status deregister_oddly(
    void *state, const struct mrp_registration *registration)
{
    (void)state;
    (void)registration;
    return mrp_fail(odd_status, 0, "an odd network");
}

/* Else "no such rail" could not be told from a rail that has been removed. */
static void remove__refused_is_one_status_whatever_the_provider_says(void **state)
{
    static const enum mrp_status odd[] = {MRP_ERR_NOT_FOUND, MRP_ERR_BUSY, MRP_ERR_AGAIN,
        MRP_ERR_UNAVAILABLE, MRP_ERR_INVALID, MRP_ERR_REGISTER};
    struct pool_fixture *f = *state;
    struct mrp_provider_ops ops = *test_provider_ops();
    static unsigned char memory[5000];
    struct test_provider network;
    struct mrp_provider *provider;
    struct mrp_region *region;

    ops.deregister_memory = deregister_oddly;
    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        test_provider_init(&network);
        odd_status = odd[i];
        assert_int_equal(
            mrp_provider_create(f->context, "odd", &ops, &network, &provider), MRP_OK);
        region = pool_fixture_alloc(f, 2 * MRP_MIB);
        assert_int_equal(add(f, provider, MRP_RAIL_EAGER), 1);
        assert_refused(
            mrp_pool_rail_remove(f->pool, 1), MRP_ERR_REGISTER, "an odd network");
        assert_int_equal(query(f, 1).state, MRP_RAIL_UNUSED);
        assert_refused(
            mrp_pool_rail_remove(f->pool, 1), MRP_ERR_NOT_FOUND, "has no rail 1");
        pool_fixture_free(region);
        assert_int_equal(add(f, provider, MRP_RAIL_LAZY), 1);
        assert_int_equal(
            mrp_region_register(f->pool, memory, sizeof memory, NULL, &region), MRP_OK);
        assert_int_equal(mrp_region_ensure(region, 2), MRP_OK);
        assert_refused(mrp_region_free(region), MRP_ERR_REGISTER, "an odd network");
        remove_rail(f, 1);
        assert_int_equal(mrp_provider_close(provider), MRP_OK);
        test_provider_fini(&network);
    }
}

/* A rollback that is refused leaves the memory as removing would. */
static void add__undone_in_vain_is_parked_with_the_provider(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[N_REGIONS];
    unsigned rail;

    pool_fixture_create(f, NULL);
    take(f, regions);
    test_provider_fail_next(&f->networks[1], 3, 1, MRP_ERR_REGISTER);
    f->networks[1].deregister_fail_at = 1;
    assert_refused(mrp_pool_rail_add(f->pool, f->rails[1], MRP_RAIL_EAGER, &rail),
        MRP_ERR_REGISTER, "registration 3 fails as told");
    assert_int_equal(f->networks[1].n_live, 1);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    give(regions);
    f->networks[1].n_live = 0;
}

/* -- gone for good -- */

static void growth__goes_on_without_a_rail_that_is_lost(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *before, *after;
    struct mrp_rail_info info;
    unsigned rail;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    before = pool_fixture_alloc(f, 2 * MRP_MIB);
    test_provider_fail_next(&f->networks[1], 1, 0, MRP_ERR_UNAVAILABLE);
    mrp_error_clear();
    after = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_int_equal(mrp_error_last()->status, MRP_OK); /* nobody was refused */
    assert_int_equal(f->networks[0].n_register, 2); /* at once, not again */
    info = query(f, 1);
    assert_int_equal(info.state, MRP_RAIL_FAILED);
    assert_string_equal(info.reason, "test provider: registration 2 fails as told");
    assert_int_equal(info.n_failures, 1);
    assert_int_equal(info.n_registrations, 1);
    refuse_keys(f, before, 1, MRP_ERR_UNAVAILABLE, "registration 2 fails as told");
    refuse_keys(f, after, 1, MRP_ERR_UNAVAILABLE, "has failed");
    check_keys(f, before, 0, f->rails[0]);
    check_keys(f, after, 0, f->rails[0]);
    assert_int_equal(charged(f), 3);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(pool_fixture_alloc(f, 6 * MRP_MIB));
    assert_int_equal(f->networks[1].n_register, 2); /* it is not asked any more */
    assert_refused(mrp_region_ensure(after, 3), MRP_ERR_UNAVAILABLE, "has failed");
    assert_refused(mrp_pool_rail_add(f->pool, f->rails[1], MRP_RAIL_EAGER, &rail),
        MRP_ERR_EXISTS, "has failed: remove that first");
    assert_int_equal(mrp_pool_rail_fail(f->pool, 1, "again"), MRP_OK);
    assert_string_equal(query(f, 1).reason, info.reason); /* the first reason stays */
    f->networks[1].fail_at = 0;
    remove_rail(f, 1); /* and the way back */
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    check_keys(f, before, 1, f->rails[1]);
    check_keys(f, after, 1, f->rails[1]);
    pool_fixture_free(before);
    pool_fixture_free(after);
}

static void fail__takes_the_keys_with_the_reason(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    char *text = NULL;
    size_t size = 0;
    FILE *file;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(mrp_pool_rail_fail(f->pool, 1, "port 1 is down"), MRP_OK);
    refuse_keys(f, region, 1, MRP_ERR_UNAVAILABLE, "port 1 is down");
    check_keys(f, region, 0, f->rails[0]);
    for (int is_json = 0; is_json < 2; is_json++) {
        file = open_memstream(&text, &size);
        assert_non_null(file);
        assert_int_equal(mrp_context_report(f->context,
                             is_json ? MRP_REPORT_JSON : MRP_REPORT_TEXT, file),
            MRP_OK);
        fclose(file);
        assert_non_null(strstr(text, "port 1 is down"));
        assert_non_null(strstr(text, "failed"));
        free(text);
    }
    pool_fixture_free(region);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    assert_int_equal(f->networks[1].n_deregister, 1); /* tried once, here with success */
    assert_int_equal(query(f, 1).n_registrations, 0);
    assert_int_equal(mrp_pool_rail_fail(f->pool, 0, NULL), MRP_OK);
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB)); /* without any rail */
}

static void ensure__finds_a_rail_that_is_lost(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_LAZY), 1);
    assert_int_equal(add(f, f->rails[2], MRP_RAIL_LAZY), 2);
    region = pool_fixture_alloc(f, 100);
    test_provider_fail_next(&f->networks[2], 1, 0, MRP_ERR_UNAVAILABLE);
    assert_refused(mrp_region_ensure(region, 7), MRP_ERR_UNAVAILABLE, "fails as told");
    assert_int_equal(query(f, 2).state, MRP_RAIL_FAILED);
    assert_int_equal(query(f, 1).n_registrations, 0); /* none of the mask */
    assert_int_equal(mrp_region_ensure(region, 3), MRP_OK);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(region);
}

static void add__of_a_device_that_is_gone(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    unsigned rail;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    test_provider_fail_next(&f->networks[1], 1, 0, MRP_ERR_UNAVAILABLE);
    assert_refused(mrp_pool_rail_add(f->pool, f->rails[1], MRP_RAIL_EAGER, &rail),
        MRP_ERR_UNAVAILABLE, "fails as told");
    assert_int_equal(query(f, 1).state, MRP_RAIL_UNUSED);
    assert_int_equal(mrp_provider_close(f->rails[1]), MRP_OK);
    pool_fixture_free(region);
}

/* Who names the rails wants them, every one. */
static void register__on_a_device_that_is_gone_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    static unsigned char memory[5000];
    struct mrp_region_register_params params = MRP_REGION_REGISTER_PARAMS_INIT;
    struct mrp_region *region = NULL;

    pool_fixture_create(f, NULL);
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    for (uint64_t mask = 2; mask <= 3; mask++) {
        params.rails = mask;
        test_provider_fail_next(&f->networks[1], 1, 0, MRP_ERR_UNAVAILABLE);
        for (int again = 0; again < 2; again++) { /* found out, and known */
            assert_refused(
                mrp_region_register(f->pool, memory, sizeof memory, &params, &region),
                MRP_ERR_UNAVAILABLE, "fails as told");
            assert_null(region);
            assert_int_equal(query(f, 1).state, MRP_RAIL_FAILED);
            assert_int_equal(f->networks[0].n_live, 0);
            assert_int_equal(charged(f), 0);
        }
        f->networks[1].fail_at = 0;
        remove_rail(f, 1);
        assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    }
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, &params, &region), MRP_OK);
    check_keys(f, region, 1, f->rails[1]);
    pool_fixture_free(region);
}

/* -- growth beside a rail that joins -- */

/* While the rail registers the first chunk, another one is made, and fails on it. */
static void grow_meanwhile(struct test_provider *network, void *address, size_t size)
{
    struct pool_fixture *f = network->hook_user;

    (void)address;
    (void)size;
    network->on_register = NULL;
    if (f->pool != NULL) {
        struct mrp_region *region;

        network->fail_at = 1;
        region = pool_fixture_alloc(f, 3 * MRP_MIB);
        network->fail_at = 0;
        pool_fixture_free(region);
    }
}

/* What growth went without is registered when all else is. */
static void add__makes_up_for_what_growth_could_not_register(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[2];

    f->networks[1].hook_user = f;
    f->networks[1].on_register = grow_meanwhile;
    pool_fixture_create(f, NULL);
    regions[0] = pool_fixture_alloc(f, 2 * MRP_MIB);
    regions[1] = pool_fixture_alloc(f, 5 * MRP_MIB);
    assert_int_equal(mrp_region_free(regions[0]), MRP_OK);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    /* number 0 is free: the walk has passed it when growth takes it */
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    assert_int_equal(f->networks[1].n_failed, 1);
    assert_int_equal(f->networks[1].n_register, 3);
    assert_int_equal(f->networks[0].n_live, 2); /* the request was served */
    pool_fixture_check_registrations(f, 2);
    pool_fixture_free(regions[1]);
}

/* And where that fails, too, who adds the rail is told. */
static void add__fails_where_growth_beside_it_finds_the_device_gone(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    unsigned rail;

    f->networks[1].hook_user = f;
    f->networks[1].fail_status = MRP_ERR_UNAVAILABLE;
    f->networks[1].on_register = grow_meanwhile;
    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_refused(mrp_pool_rail_add(f->pool, f->rails[1], MRP_RAIL_EAGER, &rail),
        MRP_ERR_UNAVAILABLE,
        "provider second failed while it joined pool pool-1: test provider: "
        "registration 1 fails as told");
    assert_int_equal(query(f, 1).state, MRP_RAIL_UNUSED);
    pool_fixture_check_registrations(f, 1);
    assert_int_equal(f->networks[0].n_live, 2);
    pool_fixture_free(region);
}

/* -- free beside a rail that joins -- */

static void *free_region(void *region)
{
    return mrp_region_free(region) == MRP_OK ? NULL : region;
}

/* The memory that is just being registered is given back by another thread: it stays
 * until the registration is there, and goes with it. */
static void free_meanwhile(struct test_provider *network, void *address, size_t size)
{
    struct pool_fixture *f = network->hook_user;
    static pthread_t thread;

    if (address == NULL) { /* the test's own call, to join it */
        void *failed = f;

        assert_int_equal(pthread_join(thread, &failed), 0);
        assert_null(failed);
        return;
    }
    network->on_register = NULL;
    assert_int_equal(
        pthread_create(&thread, NULL, free_region, mrp_region_find(f->pool, address)), 0);
    for (int i = 0; i < 20; i++) { /* time for it to do what it must not */
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        assert_int_equal(f->networks[0].n_deregister, 0);
    }
    (void)size;
}

static void free__of_what_is_being_registered_waits(void **state)
{
    struct pool_fixture *f = *state;
    static unsigned char memory[5000];
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, NULL, &region), MRP_OK);
    f->networks[1].hook_user = f;
    f->networks[1].on_register = free_meanwhile;
    assert_int_equal(add(f, f->rails[1], MRP_RAIL_EAGER), 1);
    free_meanwhile(&f->networks[1], NULL, 0);
    assert_int_equal(f->networks[1].n_register, 1);
    assert_int_equal(f->networks[1].n_deregister, 1);
    pool_fixture_check_registrations(f, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(add__failing_at_every_registration_changes_nothing),
        POOL_TEST(ensure__failing_at_every_registration_leaves_what_was),
        POOL_TEST(growth__failing_at_any_of_three_rails_is_undone),
        POOL_TEST(remove__refused_keeps_the_memory_until_the_provider_closes),
        POOL_TEST(remove__refused_and_closed_leaves_ordinary_memory),
        POOL_TEST(forget__of_memory_that_a_removed_rail_keeps_parks_it),
        POOL_TEST(remove__refused_keeps_adopted_memory),
        POOL_TEST(remove__refused_is_one_status_whatever_the_provider_says),
        POOL_TEST(register__on_a_device_that_is_gone_is_refused),
        POOL_TEST(add__undone_in_vain_is_parked_with_the_provider),
        POOL_TEST(growth__goes_on_without_a_rail_that_is_lost),
        POOL_TEST(fail__takes_the_keys_with_the_reason),
        POOL_TEST(ensure__finds_a_rail_that_is_lost),
        POOL_TEST(add__of_a_device_that_is_gone),
        POOL_TEST(free__of_what_is_being_registered_waits),
        POOL_TEST(add__makes_up_for_what_growth_could_not_register),
        POOL_TEST(add__fails_where_growth_beside_it_finds_the_device_gone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
