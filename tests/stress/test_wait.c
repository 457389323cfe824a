/* SPDX-License-Identifier: BSD-3-Clause
 *
 * More threads than memory: everybody is served, in fair turns, and no wake-up is lost. A
 * deadline of a minute is never met: a request that fails, or a test that hangs, is the
 * failure.
 *
 * thread model: counting
 */
#include "mrpool/thread.h"
#include "stress.h"

#include <sched.h>
#include <time.h>

#define CHUNK MRP_MIB
#define BLOCK (64 * MRP_KIB)
#define N_BLOCKS (CHUNK / BLOCK)
#define PATIENCE_MS 60000

struct load {
    struct stress_world world;
    size_t rounds, n_workers;
    struct mrp_region *ballast[N_BLOCKS];
    size_t n_ballast;
    atomic_size_t n_over, turn, longest;
};

static void create(
    struct load *load, uint32_t checks, size_t n_chunks, uint32_t at_limit, size_t cache)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.max_bytes = n_chunks * CHUNK;
    params.chunk_min = params.chunk_max = CHUNK;
    params.checks = checks;
    params.at_limit = at_limit;
    params.wait_ms = PATIENCE_MS;
    params.thread_cache_size = cache;
    stress_create(&load->world, &params);
}

static bool is_over(const struct load *load)
{
    return atomic_load(&load->n_over) == load->n_workers || !stress_goes_on();
}

/* All goes back, and nobody stands in line. */
static void finish(struct load *load)
{
    struct mrp_pool_stats stats;

    assert_int_equal(mrp_region_free_many(load->ballast, load->n_ballast, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(load->world.pool), MRP_OK);
    stats = stress_check_rest(load->world.pool);
    assert_int_equal(stats.n_waiting, 0);
    assert_int_equal(mrp_pool_trim(load->world.pool, 0, NULL), MRP_OK);
    assert_int_equal(stress_stats(load->world.pool).mapped_size, 0);
    stress_destroy(&load->world);
}

/* -- eight threads, memory for three -- */

static void take_turns(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct mrp_region *region = mrp_region_alloc(load->world.pool, BLOCK);

        if (!STRESS_CHECK(region != NULL)) {
            break;
        }
        stress_fill(region, thread->number);
        if (round % 8 == 0) {
            sched_yield();
        }
        STRESS_CHECK(stress_is_intact(region, thread->number));
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
    atomic_fetch_add(&load->n_over, 1);
}

static void hold_all_but(struct load *load, size_t n_left)
{
    load->n_ballast = N_BLOCKS - n_left;
    for (size_t i = 0; i < load->n_ballast; i++) {
        load->ballast[i] = mrp_region_alloc(load->world.pool, BLOCK);
        assert_non_null(load->ballast[i]);
    }
    assert_int_equal(mrp_thread_flush(load->world.pool), MRP_OK);
}

static void line__of_equals_serves_everybody(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct load load = {.rounds = stress_rounds(3000), .n_workers = STRESS_THREADS};

        create(&load, checks[i], 1, MRP_AT_LIMIT_WAIT, 0);
        hold_all_but(&load, 3);
        stress_run(STRESS_THREADS, take_turns, &load);
        finish(&load);
    }
}

/* -- fairness, counted -- */

struct place {
    struct mrp_waiter waiter;
    struct load *load;
    struct mrp_region *region;
    atomic_bool is_called;
    atomic_size_t begin; /* turns when it stood in line for certain */
};

/* Turns there had been when this thread's call of the pool began. What it hands out has
 * been waited for until then: a thread may stand still between that and calling back, and
 * the turns of others meanwhile were not before this one. */
static _Thread_local size_t call_begin;

/* The longest wait, in turns of others. */
static void count_turn(struct load *load, size_t begin)
{
    size_t waited = call_begin - mrp_min(begin, call_begin);
    size_t longest = atomic_load(&load->longest);

    atomic_fetch_add(&load->turn, 1);
    while (longest < waited &&
        !atomic_compare_exchange_weak(&load->longest, &longest, waited)) {
    }
}

static void call_place(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    struct place *place = waiter->user;

    STRESS_CHECK(status == MRP_OK || status == MRP_ERR_AGAIN);
    place->region = region;
    if (region != NULL) {
        count_turn(place->load, atomic_load(&place->begin));
    }
    atomic_store(&place->is_called, true);
}

static void take_counted_turns(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct place place = {.load = load};

    place.waiter.notify = call_place;
    place.waiter.user = &place;
    for (size_t round = 0; round < load->rounds && stress_has_time();) {
        enum mrp_status status;

        place.region = NULL;
        atomic_store(&place.is_called, false);
        atomic_store(&place.begin, SIZE_MAX);
        call_begin = atomic_load(&load->turn);
        status =
            mrp_region_alloc_async(load->world.pool, BLOCK, &place.waiter, &place.region);
        if (status == MRP_OK) {
            atomic_fetch_add(&load->turn, 1);
        } else if (STRESS_CHECK(status == MRP_ERR_AGAIN)) {
            atomic_store(&place.begin, atomic_load(&load->turn));
            while (!atomic_load(&place.is_called) && stress_goes_on()) {
                sched_yield();
            }
        }
        if (place.region != NULL) {
            sched_yield(); /* others come meanwhile */
            call_begin = atomic_load(&load->turn);
            STRESS_CHECK(mrp_region_free(place.region) == MRP_OK);
            round++;
        }
    }
    atomic_fetch_add(&load->n_over, 1);
}

/* Before one who stands in line the other seven may be served once, and seven have been
 * served but not counted when it began to count; a few more while one thread hands out and
 * another is to call back. Unfair is what grows with the rounds. */
static void line__is_fair_among_equals(void **state)
{
    struct load load = {.rounds = stress_rounds(3000), .n_workers = STRESS_THREADS};

    (void)state;
    create(&load, MRP_CHECKS_STATE, 1, MRP_AT_LIMIT_FAIL, 0);
    hold_all_but(&load, 3);
    stress_run(STRESS_THREADS, take_counted_turns, &load);
    print_message("longest wait: %zu turns of others; %zu of %zu requests waited\n",
        atomic_load(&load.longest), (size_t)stress_stats(load.world.pool).n_waits,
        STRESS_THREADS * load.rounds);
    assert_in_range(atomic_load(&load.longest), 1, 8 * STRESS_THREADS);
    finish(&load);
}

/* -- all classes, all sizes, over one small budget -- */

static size_t any_size(struct stress_thread *thread)
{
    static const size_t sizes[] = {64, 1024, 4096, 16 * MRP_KIB, 48 * MRP_KIB, BLOCK,
        256 * MRP_KIB, MRP_MIB, MRP_MIB + 4096, 2 * MRP_MIB};

    return sizes[stress_random(thread) % 10];
}

/* Each holds one region at a time, so that nobody waits for himself. */
static void take_anything(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct mrp_region *region = mrp_region_alloc(load->world.pool, any_size(thread));

        if (!STRESS_CHECK(region != NULL)) {
            break;
        }
        stress_fill(region, thread->number);
        STRESS_CHECK(stress_is_intact(region, thread->number));
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
    if (thread->number % 2 == 0) {
        STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
    }
    atomic_fetch_add(&load->n_over, 1);
}

static void trim_now_and_then(struct load *load)
{
    while (!is_over(load)) {
        struct timespec pause = {0, 200000};

        STRESS_CHECK(mrp_pool_trim(load->world.pool, 0, NULL) == MRP_OK);
        nanosleep(&pause, NULL);
    }
}

static void take_anything_or_trim(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number < load->n_workers) {
        take_anything(thread);
    } else {
        trim_now_and_then(load);
    }
}

static void line__of_all_sizes_is_served(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct load load = {.rounds = stress_rounds(800), .n_workers = 7};

        create(&load, checks[i % 3], 3, MRP_AT_LIMIT_WAIT, i == 3);
        stress_run(i % 2 == 0 ? 7 : 8, take_anything_or_trim, &load);
        finish(&load);
    }
}

/* -- deadlines that come -- */

static void take_with_little_patience(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct mrp_region *region;

        request.wait_ms = 1 + stress_random(thread) % 3;
        region = mrp_region_alloc_with(
            load->world.pool, stress_random(thread) % 4 == 0 ? MRP_MIB : BLOCK, &request);
        if (region == NULL) {
            STRESS_CHECK(mrp_error_last()->status == MRP_ERR_LIMIT);
            continue;
        }
        stress_fill(region, thread->number);
        if (stress_random(thread) % 8 == 0) {
            struct timespec pause = {0, 1000000};

            nanosleep(&pause, NULL);
        }
        STRESS_CHECK(stress_is_intact(region, thread->number));
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    }
    atomic_fetch_add(&load->n_over, 1);
}

static void line__where_many_give_up(void **state)
{
    struct load load = {.rounds = stress_rounds(400), .n_workers = STRESS_THREADS};

    (void)state;
    create(&load, MRP_CHECKS_STATE, 2, MRP_AT_LIMIT_FAIL, 0);
    stress_run(STRESS_THREADS, take_with_little_patience, &load);
    finish(&load);
}

/* -- waiters without threads -- */

enum {
    N_TRANSFERS = 32
};

/* The states of a transfer. Who is in mrp_region_alloc_async with it: IN_CALL + number. */
enum {
    IDLE,
    TO_ASK_AGAIN,
    IN_LINE,
    CANCELLING,
    NOTIFIED_MEANWHILE, /* + IDLE or TO_ASK_AGAIN: left to who cancels */
    IN_CALL = 16
};

struct transfer {
    struct mrp_waiter waiter;
    size_t size;
    atomic_int state;
    atomic_size_t n_done;
};

static struct transfer transfers[N_TRANSFERS];

static void done_with(struct transfer *transfer, struct mrp_region *region)
{
    stress_fill(region, (uintptr_t)transfer);
    STRESS_CHECK(stress_is_intact(region, (uintptr_t)transfer));
    STRESS_CHECK(mrp_region_free(region) == MRP_OK);
    atomic_fetch_add(&transfer->n_done, 1);
}

static void notify(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    struct transfer *transfer = waiter->user;
    int before = atomic_load(&transfer->state);
    int after = region != NULL ? IDLE : TO_ASK_AGAIN;

    STRESS_CHECK(status == (region != NULL ? MRP_OK : MRP_ERR_AGAIN));
    if (region != NULL) {
        done_with(transfer, region);
    }
    while (!atomic_compare_exchange_weak(&transfer->state, &before,
        before == CANCELLING ? NOTIFIED_MEANWHILE + after : after)) {
    }
}

/* Ask, in the name of a thread; it may be called back before the call returns. */
static void ask(struct load *load, struct transfer *transfer, int in_call)
{
    struct mrp_region *region = NULL;
    enum mrp_status status = mrp_region_alloc_async(
        load->world.pool, transfer->size, &transfer->waiter, &region);

    if (status == MRP_OK) {
        done_with(transfer, region);
        atomic_store(&transfer->state, IDLE);
    } else {
        STRESS_CHECK(status == MRP_ERR_AGAIN);
        atomic_compare_exchange_strong(&transfer->state, &in_call, IN_LINE);
    }
}

static void cancel(struct transfer *transfer)
{
    if (mrp_waiter_cancel(&transfer->waiter) == MRP_OK) {
        STRESS_CHECK(atomic_exchange(&transfer->state, IDLE) == CANCELLING);
        return;
    }
    while (atomic_load(&transfer->state) == CANCELLING && stress_goes_on()) {
        sched_yield(); /* it is being called */
    }
    atomic_fetch_sub(&transfer->state, NOTIFIED_MEANWHILE);
}

/* Begin idle transfers, repeat those that shall, cancel some that stand in line. */
static void storm(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    int in_call = IN_CALL + (int)thread->number;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct transfer *transfer = &transfers[stress_random(thread) % N_TRANSFERS];
        int idle = IDLE, again = TO_ASK_AGAIN, in_line = IN_LINE;

        if (atomic_compare_exchange_strong(&transfer->state, &idle, in_call)) {
            transfer->size = stress_random(thread) % 3 == 0 ? MRP_MIB : BLOCK;
            ask(load, transfer, in_call);
        } else if (atomic_compare_exchange_strong(&transfer->state, &again, in_call)) {
            ask(load, transfer, in_call);
        } else if (stress_random(thread) % 8 == 0 &&
            atomic_compare_exchange_strong(&transfer->state, &in_line, CANCELLING)) {
            cancel(transfer);
        }
    }
    STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
    atomic_fetch_add(&load->n_over, 1);
}

static void storm_or_trim(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number < load->n_workers) {
        storm(thread);
    } else {
        trim_now_and_then(load);
    }
}

/* What still stands in line, or shall ask again, is served in the end. */
static void end_storm(struct load *load)
{
    for (size_t i = 0; i < N_TRANSFERS; i++) {
        struct transfer *transfer = &transfers[i];

        for (size_t n = 0; atomic_load(&transfer->state) == TO_ASK_AGAIN && n < 100;
             n++) {
            atomic_store(&transfer->state, IN_CALL);
            ask(load, transfer, IN_CALL);
        }
    }
    for (size_t i = 0; i < N_TRANSFERS; i++) {
        if (atomic_load(&transfers[i].state) != IDLE) {
            fail_msg("transfer %zu of %zu bytes is in state %d: nobody called it", i,
                transfers[i].size, atomic_load(&transfers[i].state));
        }
        assert_true(atomic_load(&transfers[i].n_done) > 0);
    }
}

static void async__storm_with_cancels(void **state)
{
    struct load load = {.rounds = stress_rounds(20000), .n_workers = 6};

    (void)state;
    for (size_t round = 0; round < 2; round++) {
        atomic_store(&load.n_over, 0);
        create(&load, round == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE, 2,
            MRP_AT_LIMIT_FAIL, 0);
        for (size_t i = 0; i < N_TRANSFERS; i++) {
            struct mrp_waiter waiter = MRP_WAITER_INIT(notify, &transfers[i]);

            memset(&transfers[i], 0, sizeof transfers[i]);
            transfers[i].waiter = waiter;
        }
        stress_run(7, storm_or_trim, &load);
        end_storm(&load);
        finish(&load);
    }
}

/* -- the context's budget, shared by pools -- */

static struct mrp_pool *pools[3];

static void take_from_any_pool(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_has_time(); round++) {
        struct mrp_region *region =
            mrp_region_alloc(pools[stress_random(thread) % 3], any_size(thread));

        if (!STRESS_CHECK(region != NULL)) {
            break;
        }
        STRESS_CHECK(mrp_region_free(region) == MRP_OK);
        if (stress_random(thread) % 4 == 0) {
            for (size_t i = 0; i < 3; i++) {
                STRESS_CHECK(mrp_thread_flush(pools[i]) == MRP_OK);
            }
        }
    }
    for (size_t i = 0; i < 3; i++) { /* what it keeps might be what others wait for */
        STRESS_CHECK(mrp_thread_flush(pools[i]) == MRP_OK);
    }
    atomic_fetch_add(&load->n_over, 1);
}

/* Pools do not take from each other what is not idle: somebody has to trim. */
static void take_or_trim_all(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number < load->n_workers) {
        take_from_any_pool(thread);
        return;
    }
    while (!is_over(load)) {
        struct timespec pause = {0, 500000};

        STRESS_CHECK(mrp_pool_trim(pools[stress_random(thread) % 3], 0, NULL) == MRP_OK);
        nanosleep(&pause, NULL);
    }
}

static void line__over_the_budget_of_the_context(void **state)
{
    struct load load = {.rounds = stress_rounds(500), .n_workers = 6};
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    (void)state;
    context_params.max_bytes = 4 * CHUNK;
    stress_create_context(&load.world, &context_params);
    params.max_bytes = 4 * CHUNK;
    params.chunk_min = params.chunk_max = CHUNK;
    params.at_limit = MRP_AT_LIMIT_WAIT;
    params.wait_ms = PATIENCE_MS;
    params.thread_cache_size = 1;
    for (size_t i = 0; i < 3; i++) {
        pools[i] = stress_add_pool(&load.world, &params);
    }
    stress_run(7, take_or_trim_all, &load);
    for (size_t i = 0; i < 3; i++) {
        stress_check_rest(pools[i]);
        assert_int_equal(mrp_pool_destroy(pools[i]), MRP_OK);
    }
    assert_int_equal(mrp_context_stats(load.world.context, &stats), MRP_OK);
    assert_int_equal(stats.charged_size, 0);
    assert_int_equal(stats.n_charged, 0);
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line__of_equals_serves_everybody),
        cmocka_unit_test(line__is_fair_among_equals),
        cmocka_unit_test(line__of_all_sizes_is_served),
        cmocka_unit_test(line__where_many_give_up),
        cmocka_unit_test(async__storm_with_cancels),
        cmocka_unit_test(line__over_the_budget_of_the_context),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
