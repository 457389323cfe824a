/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Chunks that are one region: kept, taken again, evicted by their own pool, by another
 * one, by a trim, and while their pool is being destroyed.
 */
#include "stress.h"

#include <time.h>

struct load {
    struct stress_world world;
    size_t rounds;
    atomic_bool is_over;
    atomic_size_t n_refused;
};

static size_t large_size(struct stress_thread *thread)
{
    return MRP_MIB + 1 + stress_random(thread) % (2 * MRP_MIB);
}

static void churn_large(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *held[2] = {NULL};

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        size_t i = round % 2, size = large_size(thread);

        if (held[i] != NULL) {
            STRESS_CHECK(stress_is_intact(held[i], thread->number));
            STRESS_CHECK(mrp_region_free(held[i]) == MRP_OK);
        }
        held[i] = mrp_region_alloc(load->world.pool, size);
        if (held[i] == NULL) {
            atomic_fetch_add(&load->n_refused, 1);
            STRESS_CHECK(mrp_error_last()->status == MRP_ERR_LIMIT);
            continue;
        }
        STRESS_CHECK(mrp_region_capacity(held[i]) >= size);
        stress_fill(held[i], thread->number);
    }
    for (size_t i = 0; i < 2; i++) {
        if (held[i] != NULL) {
            STRESS_CHECK(mrp_region_free(held[i]) == MRP_OK);
        }
    }
    atomic_store(&load->is_over, true);
}

static void create_with_bounds(struct load *load, size_t count, size_t max_bytes)
{
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    context_params.retained_count = count;
    context_params.retained_size = 8 * MRP_MIB;
    stress_create_context(&load->world, &context_params);
    params.max_bytes = max_bytes;
    load->world.pool = stress_add_pool(&load->world, &params);
    assert_non_null(load->world.pool);
}

static void large__beside_evictions(void **state)
{
    struct load load = {.rounds = stress_rounds(120)};
    struct mrp_pool_stats stats;

    (void)state;
    for (size_t count = 1; count <= 4; count *= 2) {
        create_with_bounds(&load, count, 0);
        stress_run(STRESS_THREADS, churn_large, &load);
        stats = stress_stats(load.world.pool);
        assert_in_range(stats.n_idle, 1, count);
        assert_in_range(stats.idle_size, 1, 8 * MRP_MIB);
        assert_int_equal(stats.n_large, 0);
        assert_int_equal(atomic_load(&load.n_refused), 0);
        stress_destroy(&load.world);
    }
}

/* Sixteen of up to 3 MiB are wanted, 24 MiB are there. */
static void large__beside_the_cap(void **state)
{
    struct load load = {.rounds = stress_rounds(120)};

    (void)state;
    create_with_bounds(&load, 4, 24 * MRP_MIB);
    stress_run(STRESS_THREADS, churn_large, &load);
    assert_true(atomic_load(&load.n_refused) > 0);
    assert_in_range(atomic_load(&load.world.network.peak_size), 1, 24 * MRP_MIB);
    stress_destroy(&load.world);
}

/* -- two pools, of which one goes -- */

static void make_idle_and_destroy(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        struct mrp_pool *pool = stress_add_pool(&load->world, &params);
        struct mrp_region *regions[6];

        for (size_t i = 0; pool != NULL && i < 6; i++) {
            regions[i] = mrp_region_alloc(pool, large_size(thread));
            STRESS_CHECK(regions[i] != NULL);
        }
        for (size_t i = 0; pool != NULL && i < 6; i++) {
            STRESS_CHECK(mrp_region_free(regions[i]) == MRP_OK);
        }
        STRESS_CHECK(mrp_pool_destroy(pool) == MRP_OK);
    }
    atomic_store(&load->is_over, true);
}

/* Evicts whatever idles in the context, other pools' memory included. */
static void evict_everybody(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    while (!atomic_load(&load->is_over) && stress_goes_on()) {
        struct mrp_region *region =
            mrp_region_alloc(load->world.pool, large_size(thread));

        STRESS_CHECK(region != NULL && mrp_region_free(region) == MRP_OK);
        STRESS_CHECK(
            mrp_context_trim(load->world.context, thread->number * MRP_MIB) == MRP_OK);
    }
}

static void destroy_or_evict(struct stress_thread *thread)
{
    if (thread->number < 3) {
        make_idle_and_destroy(thread);
    } else {
        evict_everybody(thread);
    }
}

/* Evictions take long enough for a destroy to overtake them. */
static void dawdle(struct test_provider *provider, void *address, size_t size)
{
    struct timespec pause = {0, 20000};

    (void)provider;
    (void)address;
    (void)size;
    nanosleep(&pause, NULL);
}

static void pools__evicted_while_destroyed(void **state)
{
    struct load load = {.rounds = stress_rounds(60)};

    (void)state;
    create_with_bounds(&load, 16, 0);
    load.world.network.on_deregister = dawdle;
    stress_run(6, destroy_or_evict, &load);
    stress_destroy(&load.world);
}

/* -- contexts -- */

static void live_and_die(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_backend_params backend_params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    backend_params.pages = MRP_PAGES_4K;
    backend_params.prefault = -1;
    params.max_bytes = 32 * MRP_MIB;
    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        struct mrp_context *context;
        struct mrp_pool *pool;

        if (!STRESS_CHECK(mrp_context_create(NULL, &context) == MRP_OK)) {
            break;
        }
        STRESS_CHECK(mrp_backend_create(
                         context, "mmap", &backend_params, &params.backend) == MRP_OK);
        if (STRESS_CHECK(mrp_pool_create(context, &params, &pool) == MRP_OK)) {
            struct mrp_region *region =
                mrp_region_alloc(pool, large_size(thread) >> stress_random(thread) % 12);
            STRESS_CHECK(region != NULL);
            stress_fill(region, thread->number);
            STRESS_CHECK(stress_is_intact(region, thread->number));
            STRESS_CHECK(mrp_region_free(region) == MRP_OK);
            STRESS_CHECK(mrp_region_free(region) == MRP_ERR_STALE);
        }
        STRESS_CHECK(mrp_context_destroy(context) == MRP_OK);
        STRESS_CHECK(mrp_context_check(context) == MRP_ERR_STALE);
    }
}

static void contexts__live_and_die_in_parallel(void **state)
{
    struct load load = {.rounds = stress_rounds(100)};
    size_t n_maps;

    (void)state;
    stress_run(STRESS_THREADS, live_and_die, &load);
    n_maps = test_count_maps();
    stress_run(STRESS_THREADS, live_and_die, &load);
    if (!test_is_watched()) {
        assert_in_range(test_count_maps(), 0, n_maps + 64);
    }
}

/* -- the last user -- */

/* One thread destroys the pool, the others ask until backend and provider let go. */
static void destroy_user_or_used(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct stress_world *world = &load->world;
    enum mrp_status status = MRP_ERR_BUSY;

    if (thread->number == 0) {
        STRESS_CHECK(mrp_pool_destroy(world->pool) == MRP_OK);
    }
    while (thread->number == 1 && status == MRP_ERR_BUSY) {
        status = mrp_backend_destroy(world->backend);
    }
    while (thread->number == 2 && status == MRP_ERR_BUSY) {
        status = mrp_provider_close(world->rail);
    }
    STRESS_CHECK(thread->number == 0 || status == MRP_OK);
}

static void backend__destroyed_as_its_last_pool_goes(void **state)
{
    struct load load = {.rounds = 0};

    (void)state;
    for (size_t round = 0; round < stress_rounds(100); round++) {
        create_with_bounds(&load, 4, 0);
        assert_int_equal(
            mrp_region_free(mrp_region_alloc(load.world.pool, 2 * MRP_MIB)), MRP_OK);
        stress_run(3, destroy_user_or_used, &load);
        load.world.pool = NULL;
        stress_destroy(&load.world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large__beside_evictions),
        cmocka_unit_test(large__beside_the_cap),
        cmocka_unit_test(pools__evicted_while_destroyed),
        cmocka_unit_test(contexts__live_and_die_in_parallel),
        cmocka_unit_test(backend__destroyed_as_its_last_pool_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
