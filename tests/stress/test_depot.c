/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Singles and magazines of one class, taken and given back by several threads at once; a
 * pool that is full; threads that may not wait beside threads that grow.
 */
#include "stress.h"

#define HELD_MAX 512

struct load {
    struct stress_world world;
    size_t rounds;
    size_t size;
    atomic_size_t n_refused, n_served;
};

struct held {
    struct mrp_region *regions[HELD_MAX];
    size_t n;
};

static uint64_t mark_of(const struct stress_thread *thread, const struct held *held)
{
    return (uint64_t)(thread->number + 1) << 32 ^ (uintptr_t)held;
}

static void take(struct load *load, struct stress_thread *thread, struct held *held)
{
    size_t count = stress_random(thread) % 2 == 0 ? 1 : 1 + stress_random(thread) % 200;
    size_t before = held->n, got = 1;

    count = mrp_min(count, HELD_MAX - held->n);
    if (count == 1) {
        held->regions[before] = mrp_region_alloc(load->world.pool, load->size);
        STRESS_CHECK(held->regions[before] != NULL);
    } else {
        got = mrp_region_alloc_many(
            load->world.pool, load->size, count, held->regions + before);
        STRESS_CHECK(got == count);
    }
    for (size_t i = 0; i < got && stress_goes_on(); i++) {
        stress_fill(held->regions[before + i], mark_of(thread, held));
    }
    held->n += got;
}

static void give(struct stress_thread *thread, struct held *held, size_t count)
{
    size_t n_freed = count, first = held->n - mrp_min(count, held->n);

    for (size_t i = first; i < held->n; i++) {
        STRESS_CHECK(stress_is_intact(held->regions[i], mark_of(thread, held)));
    }
    count = held->n - first;
    if (count == 1) {
        STRESS_CHECK(mrp_region_free(held->regions[first]) == MRP_OK);
    } else {
        STRESS_CHECK(
            mrp_region_free_many(held->regions + first, count, &n_freed) == MRP_OK);
        STRESS_CHECK(n_freed == count);
    }
    held->n = first;
}

static void take_and_give(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct held held = {.n = 0};

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        if (held.n == 0 || (held.n < HELD_MAX && stress_random(thread) % 2 == 0)) {
            take(load, thread, &held);
        } else {
            give(thread, &held,
                stress_random(thread) % 2 == 0 ? 1 : stress_random(thread) % 200 + 1);
        }
    }
    if (stress_goes_on()) {
        give(thread, &held, held.n);
    }
}

static void many__races_singles(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(20000)};
    static const size_t sizes[] = {64, 640, 12000};

    (void)state;
    params.chunk_min = MRP_MIB;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        stress_create(&load.world, &params);
        load.size = sizes[i];
        stress_run(STRESS_THREADS, take_and_give, &load);
        stress_destroy(&load.world);
    }
}

/* -- a full pool -- */

static void take_until_refused(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct held held = {.n = 0};

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        struct mrp_region *region =
            held.n < HELD_MAX ? mrp_region_alloc(load->world.pool, load->size) : NULL;

        if (region != NULL) {
            stress_fill(region, mark_of(thread, &held));
            held.regions[held.n++] = region;
            continue;
        }
        STRESS_CHECK(held.n == HELD_MAX || mrp_error_last()->status == MRP_ERR_LIMIT);
        give(thread, &held, 1 + stress_random(thread) % HELD_MAX);
    }
    if (stress_goes_on() && held.n > 0) {
        give(thread, &held, held.n);
    }
}

static size_t count_until_refused(struct load *load)
{
    struct mrp_region *regions[HELD_MAX];
    size_t n = 0, n_freed;

    while (n < HELD_MAX) {
        regions[n] = mrp_region_alloc(load->world.pool, load->size);
        if (regions[n] == NULL) {
            break;
        }
        n++;
    }
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_int_equal(mrp_region_free_many(regions, n, &n_freed), MRP_OK);
    return n;
}

static void cap__never_exceeded_and_every_region_comes_back(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(20000), .size = 60000};
    size_t n_regions, chunk_size;

    (void)state;
    params.max_bytes = 8 * MRP_MIB;
    params.chunk_min = MRP_MIB;
    stress_create(&load.world, &params);
    n_regions = count_until_refused(&load);
    chunk_size = stress_stats(load.world.pool).mapped_size;
    for (size_t i = 0; i < 5; i++) {
        stress_run(STRESS_THREADS, take_until_refused, &load);
        assert_int_equal(count_until_refused(&load), n_regions);
    }
    assert_int_equal(stress_stats(load.world.pool).mapped_size, chunk_size);
    assert_in_range(atomic_load(&load.world.network.peak_size), 1, params.max_bytes);
    stress_destroy(&load.world);
}

/* Growing up to the cap is the race here: each round begins with an empty pool. */
static void cap__never_exceeded_by_racing_growth(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = 200, .size = 60000};

    (void)state;
    params.max_bytes = 4 * MRP_MIB;
    params.chunk_min = params.chunk_max = 256 * MRP_KIB;
    for (size_t i = 0; i < stress_rounds(60); i++) {
        stress_create(&load.world, &params);
        stress_run(STRESS_THREADS, take_until_refused, &load);
        assert_in_range(atomic_load(&load.world.network.peak_size), 1, params.max_bytes);
        stress_destroy(&load.world);
    }
}

/* -- threads that may not grow -- */

static _Thread_local uint32_t my_flags;

static void check_caller(struct test_provider *provider, void *address, size_t size)
{
    (void)provider;
    (void)address;
    (void)size;
    STRESS_CHECK((my_flags & (MRP_REQUEST_NOWAIT | MRP_REQUEST_NOGROW)) == 0);
}

static void alloc_with_flags(struct stress_thread *thread)
{
    static const uint32_t flags[] = {0, MRP_REQUEST_NOWAIT, MRP_REQUEST_NOGROW};
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct load *load = thread->shared;
    struct held held = {.n = 0};

    my_flags = request.flags = flags[thread->number % 3];
    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        size_t size = (size_t)64 << stress_random(thread) % 12;
        struct mrp_region *region =
            mrp_region_alloc_with(load->world.pool, size, &request);

        if (region == NULL) {
            STRESS_CHECK(my_flags != 0 && mrp_error_last()->status == MRP_ERR_AGAIN);
            atomic_fetch_add(&load->n_refused, 1);
            continue;
        }
        atomic_fetch_add(&load->n_served, my_flags != 0);
        stress_fill(region, mark_of(thread, &held));
        held.regions[held.n++] = region;
        if (held.n == 16) {
            give(thread, &held, held.n);
        }
    }
    if (stress_goes_on() && held.n > 0) {
        give(thread, &held, held.n);
    }
    my_flags = 0;
}

static void nowait__beside_threads_that_grow(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = 300};

    (void)state;
    params.chunk_min = MRP_MIB;
    for (size_t i = 0; i < stress_rounds(100); i++) {
        stress_create(&load.world, &params);
        load.world.network.on_register = check_caller;
        stress_run(6, alloc_with_flags, &load);
        stress_destroy(&load.world);
    }
    assert_true(atomic_load(&load.n_refused) > 0);
    assert_true(atomic_load(&load.n_served) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many__races_singles),
        cmocka_unit_test(cap__never_exceeded_and_every_region_comes_back),
        cmocka_unit_test(cap__never_exceeded_by_racing_growth),
        cmocka_unit_test(nowait__beside_threads_that_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
