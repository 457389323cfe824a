/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Trim beside everything else: nobody's region is touched, no request fails, nothing is
 * mapped that memory in a trim's hands would have saved, and what has gone has gone once.
 *
 * thread model: counting
 */
#include "mrpool/thread.h"
#include "stress.h"

#define CHUNK MRP_MIB
#define PAGE 4096
#define N_SHARED 64
#define N_HELD 48

struct load {
    struct stress_world world;
    size_t rounds, n_workers;
    uint32_t flags; /* of requests */
    _Atomic(struct mrp_region *) shared[N_SHARED]; /* from thread to thread */
    atomic_size_t n_over, n_trims;
    size_t held_most, size; /* of one thread; 0: several sizes */
    pthread_barrier_t phase;
};

static void create(struct load *load, uint32_t checks, size_t max_bytes, size_t cache)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.max_bytes = max_bytes;
    params.chunk_min = params.chunk_max = CHUNK;
    params.checks = checks;
    params.thread_cache_size = cache;
    stress_create(&load->world, &params);
}

static bool is_over(const struct load *load)
{
    return atomic_load(&load->n_over) == load->n_workers || !stress_goes_on();
}

/* -- a mixed load -- */

static struct mrp_region *take(struct load *load, size_t size)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;

    request.flags = load->flags;
    region = mrp_region_alloc_with(load->world.pool, size, &request);
    if (STRESS_CHECK(region != NULL)) {
        stress_fill(region, (uintptr_t)region);
    }
    return region;
}

static void give(struct load *load, struct mrp_region *region)
{
    if (region != NULL) {
        struct mrp_region *found =
            mrp_region_find(load->world.pool, mrp_region_address(region));

        STRESS_CHECK(found == region);
        STRESS_CHECK(stress_is_intact(region, (uintptr_t)region));
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
}

static size_t mixed_size(struct stress_thread *thread)
{
    static const size_t sizes[] = {
        64, 200, 1000, PAGE, PAGE, 10000, 16 * MRP_KIB, 50000, 64 * MRP_KIB, 300000};

    return stress_random(thread) % 200 == 0
        ? MRP_MIB + 1 + stress_random(thread) % MRP_MIB
        : sizes[stress_random(thread) % 10];
}

static void exchange(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *held[N_HELD] = {NULL};

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        size_t i = stress_random(thread) % N_HELD;

        if (held[i] == NULL) {
            held[i] = take(load, mixed_size(thread));
        } else if (stress_random(thread) % 4 == 0) {
            held[i] =
                atomic_exchange(&load->shared[stress_random(thread) % N_SHARED], held[i]);
        } else {
            give(load, held[i]);
            held[i] = NULL;
        }
        if (stress_random(thread) % 512 == 0) { /* what is left is little: slabs empty */
            for (size_t j = 0; j < N_HELD; j++) {
                give(load, held[j]);
                held[j] = NULL;
            }
            STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
        }
    }
    for (size_t i = 0; i < N_HELD; i++) {
        give(load, held[i]);
    }
    atomic_fetch_add(&load->n_over, 1);
}

static void trim_on_and_on(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_pool_stats stats = {.struct_size = sizeof stats};

    while (!is_over(load)) {
        size_t keep = stress_random(thread) % 3 == 0 ? 0 : SIZE_MAX, released;

        STRESS_CHECK(mrp_pool_trim(load->world.pool, keep, &released) == MRP_OK);
        STRESS_CHECK(mrp_pool_stats(load->world.pool, &stats) == MRP_OK);
        atomic_fetch_add(&load->n_trims, 1);
        if (stress_random(thread) % 16 == 0) {
            STRESS_CHECK(mrp_context_trim(load->world.context, CHUNK) == MRP_OK);
        }
    }
}

static void come_and_go(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_region *regions[300];

    params.chunk_min = params.chunk_max = CHUNK;
    params.max_bytes = 8 * MRP_MIB;
    while (!is_over(load)) {
        struct mrp_pool *pool = stress_add_pool(&load->world, &params);

        for (size_t i = 0; pool != NULL && i < 300; i++) {
            regions[i] = mrp_region_alloc(pool, PAGE);
            STRESS_CHECK(regions[i] != NULL);
        }
        STRESS_CHECK(mrp_region_free_many(regions, 300, NULL) == MRP_OK);
        if (stress_random(thread) % 2 == 0) {
            STRESS_CHECK(mrp_thread_flush(pool) == MRP_OK);
            STRESS_CHECK(
                mrp_pool_trim(pool, stress_random(thread) % 2 * MRP_MIB, NULL) == MRP_OK);
        }
        STRESS_CHECK(mrp_pool_destroy(pool) == MRP_OK);
    }
}

static void work_trim_or_come_and_go(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number < load->n_workers) {
        exchange(thread);
    } else if (thread->number == load->n_workers) {
        trim_on_and_on(thread);
    } else {
        come_and_go(thread);
    }
}

static void clear_shared(struct load *load)
{
    for (size_t i = 0; i < N_SHARED; i++) {
        give(load, atomic_exchange(&load->shared[i], NULL));
    }
    assert_int_equal(mrp_thread_flush(load->world.pool), MRP_OK);
}

/* All has been given back: a last trim leaves nothing. */
static void finish(struct load *load)
{
    struct mrp_pool_stats stats;

    clear_shared(load);
    stress_check_rest(load->world.pool);
    assert_int_equal(mrp_pool_trim(load->world.pool, 0, NULL), MRP_OK);
    stats = stress_check_rest(load->world.pool);
    assert_int_equal(stats.mapped_size, 0);
    assert_int_equal(atomic_load(&load->world.network.n_live), 0);
    stress_destroy(&load->world);
}

static void run_mixed(uint32_t checks, size_t cache)
{
    struct load load = {.rounds = stress_rounds(100000), .n_workers = 4};

    create(&load, checks, 512 * MRP_MIB, cache);
    stress_run(6, work_trim_or_come_and_go, &load);
    assert_true(atomic_load(&load.n_trims) > 0);
    finish(&load);
}

static void trim__beside_all_else_without_checks(void **state)
{
    (void)state;
    run_mixed(MRP_CHECKS_NONE, 0);
}

static void trim__beside_all_else_with_checks(void **state)
{
    (void)state;
    run_mixed(MRP_CHECKS_STATE, 0);
}

static void trim__beside_all_else_with_full_checks(void **state)
{
    (void)state;
    run_mixed(MRP_CHECKS_FULL, 0);
}

static void trim__beside_all_else_without_caches(void **state)
{
    (void)state;
    run_mixed(MRP_CHECKS_STATE, 1);
}

/* -- exactly enough -- */

/* All that a thread may hold, and back: of one class, then of the next. */
static void take_a_share(struct stress_thread *thread)
{
    static const size_t sizes[] = {PAGE, 16 * MRP_KIB, 1024, 8 * MRP_KIB};
    struct load *load = thread->shared;
    struct mrp_region *held[CHUNK / 64];

    for (size_t round = 0; round < load->rounds; round++) {
        size_t size = load->size != 0 ? load->size : sizes[round / 8 % 4];
        size_t n_held = load->held_most / size;
        struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

        if (round % 8 == 0) {
            pthread_barrier_wait(&load->phase); /* nobody holds anything */
        }
        /* what others have left is regrouped first: that is growth */
        request.flags = round % 8 == 0 ? 0 : load->flags;
        for (size_t i = 0; i < n_held; i++) {
            held[i] = mrp_region_alloc_with(load->world.pool, size, &request);
            if (!STRESS_CHECK(held[i] != NULL)) {
                n_held = i;
            }
        }
        if (round % 8 == 0) {
            pthread_barrier_wait(&load->phase); /* all have what they may hold */
        }
        STRESS_CHECK(mrp_region_free_many(held, n_held, NULL) == MRP_OK);
        if (round % 8 == 7) {
            STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
            pthread_barrier_wait(&load->phase);
        }
    }
    atomic_fetch_add(&load->n_over, 1);
}

static void share_or_trim(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number < load->n_workers) {
        take_a_share(thread);
    } else {
        while (!is_over(load)) {
            STRESS_CHECK(mrp_pool_trim(load->world.pool, SIZE_MAX, NULL) == MRP_OK);
            atomic_fetch_add(&load->n_trims, 1);
        }
    }
}

/* Four threads that hold 15/16 MiB each at most, 4 MiB, one trimmer. */
static void run_exactly(uint32_t checks, uint32_t flags, size_t size)
{
    struct load load = {
        .rounds = (stress_rounds(2400) + 31) / 32 * 32, .n_workers = 4, .flags = flags};

    if (size != 0) {
        load.rounds = load.rounds / 20 / 8 * 8 + 8;
    }
    load.size = size;
    load.held_most = size != 0 ? CHUNK : CHUNK / 16 * 15;
    create(&load, checks, 4 * CHUNK, 1);
    pthread_barrier_init(&load.phase, NULL, 4);
    stress_run(5, share_or_trim, &load);
    pthread_barrier_destroy(&load.phase);
    assert_true(atomic_load(&load.world.network.n_register) <= 4);
    assert_int_equal(atomic_load(&load.world.network.n_deregister), 0);
    assert_true(atomic_load(&load.n_trims) > 0);
    finish(&load);
}

static void trim__costs_no_request_that_its_memory_serves(void **state)
{
    (void)state;
    run_exactly(MRP_CHECKS_NONE, 0, 0);
    run_exactly(MRP_CHECKS_STATE, 0, 0);
    run_exactly(MRP_CHECKS_FULL, 0, 0);
}

static void trim__costs_no_request_that_may_not_grow(void **state)
{
    (void)state;
    run_exactly(MRP_CHECKS_STATE, MRP_REQUEST_NOGROW, 0);
}

/* So many regions that a trim lets others have the mutex while it holds most of them. */
static void trim__hands_out_what_it_holds(void **state)
{
    (void)state;
    run_exactly(MRP_CHECKS_STATE, MRP_REQUEST_NOGROW, 64);
    run_exactly(MRP_CHECKS_STATE, 0, 64);
}

/* -- the last regions of a slab -- */

static void free_the_last(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds; round++) {
        struct mrp_region *region = take(load, PAGE);

        pthread_barrier_wait(&load->phase);
        give(load, region);
        if (thread->number % 2 == 0) { /* who freed last may be the one, or another */
            STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
            STRESS_CHECK(mrp_pool_trim(load->world.pool, SIZE_MAX, NULL) == MRP_OK);
        }
        STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
        pthread_barrier_wait(&load->phase);
        if (thread->number == 0) {
            struct mrp_pool_stats stats = {.struct_size = sizeof stats};

            STRESS_CHECK(mrp_pool_trim(load->world.pool, SIZE_MAX, NULL) == MRP_OK);
            STRESS_CHECK(mrp_pool_stats(load->world.pool, &stats) == MRP_OK);
            STRESS_CHECK(stats.tiers[MRP_TIER_MEDIUM].n_regions == 0);
            STRESS_CHECK(stats.n_idle == 1 && stats.mapped_size == CHUNK);
        }
        pthread_barrier_wait(&load->phase);
    }
    atomic_fetch_add(&load->n_over, 1);
}

static void slab__freed_by_all_at_once_goes_once(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct load load = {.rounds = stress_rounds(400), .n_workers = STRESS_THREADS};

        create(&load, checks[i], 8 * CHUNK, 0);
        pthread_barrier_init(&load.phase, NULL, STRESS_THREADS);
        stress_run(STRESS_THREADS, free_the_last, &load);
        pthread_barrier_destroy(&load.phase);
        assert_int_equal(atomic_load(&load.world.network.n_register), 1);
        finish(&load);
    }
}

/* -- lookups -- */

/* What is live is found by address and token, whatever retires beside it. */
static void look_up(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct mrp_region *region = take(load, mixed_size(thread)), *found = NULL;
        struct mrp_wire wire = MRP_WIRE_INIT;
        char *address = mrp_region_address(region);
        size_t offset = stress_random(thread) % mrp_region_size(region);
        struct mrp_token token;

        STRESS_CHECK(mrp_region_token(region, &token) == MRP_OK);
        STRESS_CHECK(mrp_region_find(load->world.pool, address + offset) == region);
        STRESS_CHECK(mrp_resolve(load->world.pool, address, 1, 0, &wire) == MRP_OK);
        STRESS_CHECK(mrp_token_resolve(load->world.pool, &token, &found) == MRP_OK);
        STRESS_CHECK(found == region);
        give(load, region);
        if (round % 64 == 0) {
            STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
        }
        /* whoever it is by now, or nobody: no crash, no foreign region */
        found = mrp_region_find(load->world.pool, address + offset);
        STRESS_CHECK(
            mrp_token_resolve(load->world.pool, &token, &found) == MRP_ERR_STALE);
    }
    atomic_fetch_add(&load->n_over, 1);
}

static void look_up_or_trim(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number < load->n_workers) {
        look_up(thread);
    } else {
        trim_on_and_on(thread);
    }
}

static void lookups__beside_trims(void **state)
{
    struct load load = {.rounds = stress_rounds(20000), .n_workers = 3};

    (void)state;
    create(&load, MRP_CHECKS_STATE, 256 * MRP_MIB, 0);
    stress_run(5, look_up_or_trim, &load);
    finish(&load);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trim__beside_all_else_without_checks),
        cmocka_unit_test(trim__beside_all_else_with_checks),
        cmocka_unit_test(trim__beside_all_else_with_full_checks),
        cmocka_unit_test(trim__beside_all_else_without_caches),
        cmocka_unit_test(trim__costs_no_request_that_its_memory_serves),
        cmocka_unit_test(trim__costs_no_request_that_may_not_grow),
        cmocka_unit_test(trim__hands_out_what_it_holds),
        cmocka_unit_test(slab__freed_by_all_at_once_goes_once),
        cmocka_unit_test(lookups__beside_trims),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
