/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth by several threads at once: exact numbers of registrations, a provider that
 * refuses, a region_init that refuses.
 *
 * thread model: counting
 */
#include "stress.h"

#include <time.h>

#define CLASSES_MAX 128

struct load {
    struct stress_world world;
    size_t sizes[CLASSES_MAX];
    size_t n_sizes;
    size_t rounds;
    atomic_size_t n_init, n_failed;
    struct mrp_region *regions[CLASSES_MAX];
};

/* Long enough for the other threads to arrive. */
static void dawdle(struct test_provider *provider, void *address, size_t size)
{
    struct timespec pause = {0, 500000};

    (void)provider;
    (void)address;
    (void)size;
    nanosleep(&pause, NULL);
}

static void alloc_one(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *region = mrp_region_alloc(load->world.pool, 100);

    if (STRESS_CHECK(region != NULL)) {
        stress_fill(region, thread->number);
        load->regions[thread->number] = region;
    }
}

static void growth__eight_threads_on_an_empty_pool_register_once(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(100)};

    (void)state;
    params.chunk_min = MRP_MIB;
    for (size_t round = 0; round < load.rounds; round++) {
        stress_create(&load.world, &params);
        load.world.network.on_register = dawdle;
        stress_run(STRESS_THREADS, alloc_one, &load);
        assert_int_equal(atomic_load(&load.world.network.n_register), 1);
        assert_int_equal(stress_stats(load.world.pool).n_growths, 1);
        for (size_t i = 0; i < STRESS_THREADS; i++) {
            assert_true(stress_is_intact(load.regions[i], i));
            assert_int_equal(mrp_region_free(load.regions[i]), MRP_OK);
        }
        stress_destroy(&load.world);
    }
}

/* -- all classes -- */

/* Every eighth class, beginning with the thread's own. */
static void alloc_classes(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t i = thread->number; i < load->n_sizes; i += STRESS_THREADS) {
        load->regions[i] = mrp_region_alloc(load->world.pool, load->sizes[i]);
        if (!STRESS_CHECK(load->regions[i] != NULL)) {
            return;
        }
        stress_fill(load->regions[i], i);
    }
}

static void learn_classes(struct load *load)
{
    size_t max = stress_stats(load->world.pool).tiers[MRP_TIER_HUGE].max_size;

    load->n_sizes = 0;
    for (size_t size = 1; size <= max && load->n_sizes < CLASSES_MAX;) {
        struct mrp_region *region = mrp_region_alloc(load->world.pool, size);

        assert_non_null(region);
        load->sizes[load->n_sizes++] = mrp_region_capacity(region);
        size = mrp_region_capacity(region) + 1;
        assert_int_equal(mrp_region_free(region), MRP_OK);
    }
}

/* One slab a class, so the order does not matter: as many chunks as one thread needs. */
static void growth__all_classes_at_once(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(25)};
    size_t n_alone;

    (void)state;
    params.chunk_min = params.chunk_max = 64 * MRP_MIB;
    stress_create(&load.world, &params);
    learn_classes(&load);
    n_alone = atomic_load(&load.world.network.n_register);
    stress_destroy(&load.world);
    for (size_t round = 0; round < load.rounds; round++) {
        stress_create(&load.world, &params);
        load.world.network.on_register = dawdle;
        stress_run(STRESS_THREADS, alloc_classes, &load);
        assert_int_equal(atomic_load(&load.world.network.n_register), n_alone);
        assert_int_equal(stress_stats(load.world.pool).n_growths, n_alone);
        for (size_t i = 0; i < load.n_sizes; i++) {
            assert_true(stress_is_intact(load.regions[i], i));
            assert_int_equal(mrp_region_free(load.regions[i]), MRP_OK);
        }
        stress_destroy(&load.world);
    }
}

/* -- refusals -- */

/* Keep up to 32 regions of sizes that the thread picks. */
static void churn(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *held[32];
    size_t n_held = 0;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        size_t size = load->sizes[stress_random(thread) % load->n_sizes];
        struct mrp_region *region =
            n_held < 32 ? mrp_region_alloc(load->world.pool, size) : NULL;

        if (region != NULL) {
            stress_fill(region, thread->number);
            held[n_held++] = region;
            continue;
        }
        if (n_held < 32) {
            atomic_fetch_add(&load->n_failed, 1);
            STRESS_CHECK(mrp_error_last()->status == MRP_ERR_REGISTER ||
                mrp_error_last()->status == MRP_ERR_UNAVAILABLE);
        }
        for (; n_held > 0; n_held--) {
            STRESS_CHECK(stress_is_intact(held[n_held - 1], thread->number));
            STRESS_CHECK(mrp_region_free(held[n_held - 1]) == MRP_OK);
        }
    }
    while (n_held > 0) {
        STRESS_CHECK(mrp_region_free(held[--n_held]) == MRP_OK);
    }
}

/* Both attempts of a growth fail, every second time. */
static void refuse_often(struct test_provider *provider, void *address, size_t size)
{
    dawdle(provider, address, size);
    if (atomic_load(&provider->n_register) % 4 < 2) {
        atomic_store(&provider->fail_at, atomic_load(&provider->n_register) + 1);
    }
}

static void growth__goes_on_after_refusals(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {
        .rounds = 200, .sizes = {64, 500, 4000, 60000, 200000}, .n_sizes = 5};

    (void)state;
    params.chunk_min = params.chunk_max = 256 * MRP_KIB;
    for (size_t round = 0; round < stress_rounds(30); round++) {
        stress_create(&load.world, &params);
        load.world.network.on_register = refuse_often;
        atomic_store(&load.world.network.fail_count, 1);
        stress_run(STRESS_THREADS, churn, &load);
        stress_destroy(&load.world);
    }
    assert_true(atomic_load(&load.n_failed) > 0);
}

static enum mrp_status init_region(
    struct mrp_region *region, void *user_data, void *init_user)
{
    struct load *load = init_user;
    uint64_t *times = user_data;

    if (atomic_fetch_add(&load->n_init, 1) % 5 == 4) {
        return MRP_ERR_UNAVAILABLE;
    }
    STRESS_CHECK(mrp_region_address(region) != NULL);
    STRESS_CHECK(++*times == 1);
    return MRP_OK;
}

static void growth__region_init_runs_once_a_region(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {
        .rounds = 500, .sizes = {64, 500, 4000, 60000, 200000}, .n_sizes = 5};

    (void)state;
    params.chunk_min = MRP_MIB;
    params.user_size = 8;
    params.region_init = init_region;
    params.region_init_user = &load;
    for (size_t round = 0; round < stress_rounds(30); round++) {
        stress_create(&load.world, &params);
        stress_run(STRESS_THREADS, churn, &load);
        stress_destroy(&load.world);
    }
    assert_true(atomic_load(&load.n_failed) > 0);
}

/* -- a pool just made -- */

static void create_or_find(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_region *region;
    struct mrp_pool *pool;

    if (thread->number == 0) {
        params.name = "new";
        params.chunk_min = MRP_MIB;
        params.tiers[MRP_TIER_SMALL].preallocate = 2000;
        load->world.pool = stress_add_pool(&load->world, &params);
        return;
    }
    while (mrp_pool_find(load->world.context, "new", &pool) != MRP_OK) {
        sched_yield();
    }
    region = mrp_region_alloc(pool, 1024);
    if (STRESS_CHECK(region != NULL)) {
        stress_fill(region, thread->number);
        STRESS_CHECK(stress_is_intact(region, thread->number));
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
}

/* Whoever finds a pool by name may use it, preallocated yet or not. */
static void pool__found_while_it_is_made(void **state)
{
    struct load load = {.n_sizes = 0};

    (void)state;
    for (size_t round = 0; round < stress_rounds(200); round++) {
        stress_create_context(&load.world, NULL);
        stress_run(4, create_or_find, &load);
        assert_true(
            stress_stats(load.world.pool).tiers[MRP_TIER_SMALL].n_regions >= 2000);
        stress_destroy(&load.world);
    }
}

/* -- counters -- */

/* Inexact while others work, but never nonsense. */
static void churn_or_count(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    if (thread->number > 0) {
        churn(thread);
        return;
    }
    for (size_t round = 0; round < load->rounds / 10 && stress_goes_on(); round++) {
        struct mrp_pool_stats found = {.struct_size = sizeof found};

        STRESS_CHECK(mrp_pool_stats(load->world.pool, &found) == MRP_OK);
        STRESS_CHECK(found.mapped_size <= found.max_bytes);
        for (size_t tier = 0; tier < MRP_TIERS; tier++) {
            STRESS_CHECK(found.tiers[tier].n_free <= found.tiers[tier].n_regions);
        }
        STRESS_CHECK(mrp_context_stats(load->world.context, &stats) == MRP_OK);
        STRESS_CHECK(stats.n_pools == 1);
    }
}

static void stats__beside_growth(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {
        .rounds = 500, .sizes = {64, 500, 4000, 60000, 2000000}, .n_sizes = 5};

    (void)state;
    params.chunk_min = params.chunk_max = 256 * MRP_KIB;
    for (size_t round = 0; round < stress_rounds(20); round++) {
        stress_create(&load.world, &params);
        stress_run(STRESS_THREADS, churn_or_count, &load);
        stress_destroy(&load.world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(growth__eight_threads_on_an_empty_pool_register_once),
        cmocka_unit_test(growth__all_classes_at_once),
        cmocka_unit_test(growth__goes_on_after_refusals),
        cmocka_unit_test(growth__region_init_runs_once_a_region),
        cmocka_unit_test(pool__found_while_it_is_made),
        cmocka_unit_test(stats__beside_growth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
