/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool used as transports use it: sizes of all kinds, regions freed by another thread
 * than the one that took them, threads that live for a moment, one size for ever.
 *
 * thread model: counting
 */
#include "stress.h"

#define RING 64
#define HELD_MAX 48

struct ring {
    _Alignas(64) atomic_size_t head; /* written by the producer */
    _Alignas(64) atomic_size_t tail; /* written by the consumer */
    struct mrp_region *regions[RING];
};

struct load {
    struct stress_world world;
    size_t rounds;
    struct ring rings[STRESS_THREADS / 2];
};

/* Mostly small, some as large as a chunk of their own. */
static size_t random_size(struct stress_thread *thread)
{
    uint32_t bits = 4 + stress_random(thread) % (stress_random(thread) % 8 == 0 ? 18 : 9);

    return stress_random(thread) & (((size_t)1 << bits) - 1);
}

static void churn(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *held[HELD_MAX] = {NULL};

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        size_t i = stress_random(thread) % HELD_MAX;

        if (held[i] != NULL) {
            STRESS_CHECK(stress_is_intact(held[i], thread->number * HELD_MAX + i));
            STRESS_CHECK(mrp_region_free(held[i]) == MRP_OK);
            held[i] = NULL;
        } else {
            size_t size = random_size(thread);

            held[i] = mrp_region_alloc(load->world.pool, size);
            if (STRESS_CHECK(held[i] != NULL)) {
                STRESS_CHECK(mrp_region_capacity(held[i]) >= size);
                stress_fill(held[i], thread->number * HELD_MAX + i);
            }
        }
    }
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (held[i] != NULL) {
            STRESS_CHECK(stress_is_intact(held[i], thread->number * HELD_MAX + i));
            STRESS_CHECK(mrp_region_free(held[i]) == MRP_OK);
        }
    }
}

static void sizes__random_in_every_thread(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(100000)};

    (void)state;
    params.chunk_min = MRP_MIB;
    stress_create(&load.world, &params);
    stress_run(STRESS_THREADS, churn, &load);
    stress_destroy(&load.world);
}

/* -- from producer to consumer -- */

static void produce(struct load *load, struct ring *ring, struct stress_thread *thread)
{
    for (size_t n = 0; n < load->rounds && stress_goes_on(); n++) {
        struct mrp_region *region =
            mrp_region_alloc(load->world.pool, random_size(thread) % 20000);

        if (!STRESS_CHECK(region != NULL)) {
            return;
        }
        stress_fill(region, n);
        STRESS_CHECK(mrp_region_set_length(region, n % 64) == MRP_OK);
        while (n - mrp_load_acquire(&ring->tail) >= RING && stress_goes_on()) {
            sched_yield();
        }
        ring->regions[n % RING] = region;
        mrp_store_release(&ring->head, n + 1);
    }
}

static void consume(struct load *load, struct ring *ring)
{
    for (size_t n = 0; n < load->rounds; n++) {
        struct mrp_region *region;

        while (mrp_load_acquire(&ring->head) == n) {
            if (!stress_goes_on()) {
                return;
            }
            sched_yield();
        }
        region = ring->regions[n % RING];
        mrp_store_release(&ring->tail, n + 1);
        STRESS_CHECK(stress_is_intact(region, n));
        STRESS_CHECK(mrp_region_length(region) == n % 64);
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
}

static void produce_or_consume(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct ring *ring = &load->rings[thread->number / 2];

    if (thread->number % 2 == 0) {
        produce(load, ring, thread);
    } else {
        consume(load, ring);
    }
}

static void free__by_another_thread(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(200000)};

    (void)state;
    params.chunk_min = MRP_MIB;
    stress_create(&load.world, &params);
    stress_run(STRESS_THREADS, produce_or_consume, &load);
    stress_destroy(&load.world);
}

/* -- threads that live for a moment -- */

static void threads__short_lived_leave_nothing_behind(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = 30};
    size_t n_threads = test_is_watched() ? 1000 : 3000, mapped, resident;

    (void)state;
    params.chunk_min = 16 * MRP_MIB;
    stress_create(&load.world, &params);
    for (size_t i = 0; i < 20; i++) {
        stress_run(STRESS_THREADS, churn, &load);
    }
    mapped = stress_stats(load.world.pool).mapped_size;
    resident = test_status_size("VmRSS:");
    for (size_t i = 0; i < n_threads; i += STRESS_THREADS) {
        stress_run(STRESS_THREADS, churn, &load);
    }
    assert_in_range(stress_stats(load.world.pool).mapped_size, mapped, 4 * mapped);
    if (!test_is_watched()) {
        assert_in_range(
            test_status_size("VmRSS:"), 0, resident + 3 * mapped + 8 * MRP_MIB);
    }
    stress_destroy(&load.world);
}

/* -- one size for ever -- */

static void take_and_give_sixteen(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds; round++) {
        struct mrp_region *region = mrp_region_alloc(load->world.pool, 16);

        if (!STRESS_CHECK(region != NULL) ||
            !STRESS_CHECK(mrp_region_free(region) == MRP_OK)) {
            return;
        }
    }
}

static void loop__sixteen_bytes_in_one_chunk(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load = {.rounds = stress_rounds(10000000)};
    struct mrp_pool_stats stats;

    (void)state;
    params.chunk_min = 256 * MRP_KIB;
    stress_create(&load.world, &params);
    stress_run(2, take_and_give_sixteen, &load);
    stats = stress_stats(load.world.pool);
    assert_int_equal(stats.n_growths, 1);
    assert_int_equal(stats.tiers[MRP_TIER_SMALL].n_allocs, 2 * load.rounds);
    assert_in_range(stats.tiers[MRP_TIER_SMALL].slab_size, 1, 64 * MRP_KIB);
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes__random_in_every_thread),
        cmocka_unit_test(free__by_another_thread),
        cmocka_unit_test(threads__short_lived_leave_nothing_behind),
        cmocka_unit_test(loop__sixteen_bytes_in_one_chunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
