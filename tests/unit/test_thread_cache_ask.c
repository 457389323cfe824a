/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A thread that runs dry asks the others: what they keep of the class comes back with the
 * next region they free, and then they keep regions again.
 *
 * thread model: counting
 */
#include "thread_cache.h"

#include <semaphore.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define SIZE 1000
#define OTHER_SIZE 300
#define MOST 2000
#define KEPT 20 /* more than one magazine */

/* Thread a has taken all there is, and given back KEPT of it, which it keeps. */
struct stage {
    struct pool_fixture *f;
    struct mrp_pool *pool;
    struct partner a;
    struct mrp_region *regions[MOST];
    size_t n_all, n_held; /* regions[0 .. n_held) are live */
    size_t n; /* of the next job */
    size_t kept; /* answer of the last one */
};

static _Atomic uint32_t *asks_of(struct stage *stage)
{
    return &cache_depot(stage->pool, SIZE)->asks;
}

static void job_take(void *argument)
{
    struct stage *stage = argument;

    while (stage->n > 0) {
        struct mrp_region *region = mrp_region_alloc(stage->pool, SIZE);

        if (!CHECK(region != NULL)) {
            return;
        }
        stage->regions[stage->n_held++] = region;
        stage->n--;
    }
    stage->kept = cache_count(stage->pool, SIZE);
}

static void job_give(void *argument)
{
    struct stage *stage = argument;

    for (; stage->n > 0; stage->n--) {
        CHECK(mrp_region_free(stage->regions[--stage->n_held]) == MRP_OK);
    }
    stage->kept = cache_count(stage->pool, SIZE);
}

static void job_keep_another_class(void *argument)
{
    struct stage *stage = argument;
    struct mrp_region *region = mrp_region_alloc(stage->pool, OTHER_SIZE);

    CHECK(mrp_region_free(region) == MRP_OK);
    stage->kept = cache_count(stage->pool, OTHER_SIZE);
}

static void job_flush(void *argument)
{
    CHECK(mrp_thread_flush(argument) == MRP_OK);
}

/* What the thread keeps after n of its regions have been given back. */
static size_t a_gives(struct stage *stage, size_t n)
{
    stage->n = n;
    partner_do(&stage->a, job_give, stage);
    return stage->kept;
}

static struct stage *set_stage(void **state, size_t max_bytes)
{
    struct stage *stage = calloc(1, sizeof *stage);
    struct mrp_pool_params params;

    stage->f = *state;
    params = pool_fixture_params(stage->f);
    params.max_bytes = max_bytes;
    params.chunk_min = params.chunk_max = 512 * MRP_KIB;
    params.thread_cache_size = MRP_GIB;
    params.checks = MRP_CHECKS_STATE;
    pool_fixture_create(stage->f, &params);
    stage->pool = stage->f->pool;
    partner_start(&stage->a);
    partner_do(&stage->a, job_keep_another_class, stage);
    return stage;
}

/* The pool is at its end, max_bytes. */
static struct stage *set_exhausted_stage(void **state)
{
    struct stage *stage = set_stage(state, MRP_MIB);
    struct mrp_region *region, *all[MOST];

    while ((region = mrp_region_alloc(stage->pool, SIZE)) != NULL) {
        all[stage->n_all++] = region;
    }
    assert_int_equal(mrp_region_free_many(all, stage->n_all, NULL), MRP_OK);
    pool_fixture_free(mrp_region_alloc(stage->pool, SIZE)); /* answers the refusal */
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), 0);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    stage->n = stage->n_all;
    partner_do(&stage->a, job_take, stage);
    assert_int_equal(stage->kept, 0);
    assert_int_equal(a_gives(stage, KEPT), KEPT);
    return stage;
}

static void clear_stage(struct stage *stage)
{
    a_gives(stage, stage->n_held);
    partner_stop(&stage->a);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(mrp_pool_check(stage->pool), MRP_OK);
    assert_int_equal(pool_fixture_stats(stage->pool).cached_size, 0);
    free(stage);
}

/* Take until refused; the regions go back at once. */
static size_t take_all(struct stage *stage, uint32_t flags, enum mrp_status wanted)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region, *taken[MOST];
    size_t n = 0;

    request.flags = flags;
    mrp_error_clear();
    while ((region = mrp_region_alloc_with(stage->pool, SIZE, &request)) != NULL) {
        taken[n++] = region;
    }
    assert_int_equal(mrp_error_last()->status, wanted);
    assert_int_equal(mrp_region_free_many(taken, n, NULL), MRP_OK);
    return n;
}

/* -- refused -- */

static const struct {
    uint32_t flags;
    enum mrp_status status;
} requests[] = {
    {0, MRP_ERR_LIMIT},
    {MRP_REQUEST_NOGROW, MRP_ERR_AGAIN},
    {MRP_REQUEST_NOWAIT, MRP_ERR_AGAIN},
};

static void refused__gets_all_that_is_kept_at_the_next_free(void **state)
{
    for (size_t i = 0; i < N_OF(requests); i++) {
        struct stage *stage = set_exhausted_stage(state);

        assert_int_equal(take_all(stage, requests[i].flags, requests[i].status), 0);
        assert_int_equal(mrp_load_relaxed(asks_of(stage)), MRP_ASKS_REFUSED);
        assert_int_equal(a_gives(stage, 1), 0);
        assert_int_equal(
            take_all(stage, requests[i].flags, requests[i].status), KEPT + 1);
        clear_stage(stage);
        assert_int_equal(
            mrp_pool_destroy((*(struct pool_fixture **)state)->pool), MRP_OK);
        (*(struct pool_fixture **)state)->pool = NULL;
    }
}

static void refused__gets_it_in_one_call(void **state)
{
    struct stage *stage = set_exhausted_stage(state);
    struct mrp_region *taken[MOST];

    assert_int_equal(mrp_region_alloc_many(stage->pool, SIZE, 10, taken), 0);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_int_equal(a_gives(stage, 2), 0);
    assert_int_equal(mrp_region_alloc_many(stage->pool, SIZE, MOST, taken), KEPT + 2);
    assert_int_equal(mrp_region_free_many(taken, KEPT + 2, NULL), MRP_OK);
    clear_stage(stage);
}

/* Asked for one class, a thread keeps what it has of the others. */
static void refused__asks_for_its_class_only(void **state)
{
    struct stage *stage = set_exhausted_stage(state);
    size_t cached;

    take_all(stage, 0, MRP_ERR_LIMIT);
    assert_int_equal(a_gives(stage, 1), 0);
    cached = pool_fixture_stats(stage->pool).cached_size;
    assert_true(cached > 0);
    assert_int_equal(cached % cache_class(stage->pool, OTHER_SIZE)->block_size, 0);
    partner_do(&stage->a, job_keep_another_class, stage);
    assert_true(stage->kept > 0);
    clear_stage(stage);
}

/* Once answered, regions stay with those who free them. */
static void answered__threads_keep_regions_again(void **state)
{
    struct stage *stage = set_exhausted_stage(state);
    struct mrp_region *region;

    take_all(stage, 0, MRP_ERR_LIMIT);
    assert_int_equal(a_gives(stage, 1), 0);
    assert_int_equal(a_gives(stage, 3), 0); /* not yet answered */
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), MRP_ASKS_REFUSED);
    region = mrp_region_alloc(stage->pool, SIZE);
    assert_non_null(region);
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), 0);
    assert_int_equal(a_gives(stage, 5), 5);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    clear_stage(stage);
}

/* Somebody else has answered before the thread noticed: it loses nothing. */
static void answered__by_another_before_the_thread_notices(void **state)
{
    struct stage *stage = set_exhausted_stage(state);
    struct mrp_region *region;

    take_all(stage, 0, MRP_ERR_LIMIT);
    pool_fixture_free(stage->regions[--stage->n_held]);
    region = mrp_region_alloc(stage->pool, SIZE);
    assert_non_null(region);
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), 0);
    assert_int_equal(a_gives(stage, 3), KEPT + 3);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    clear_stage(stage);
}

/* A thread that is asked may still take what it has. */
static void asked__its_own_regions_are_at_hand(void **state)
{
    struct stage *stage = set_exhausted_stage(state);

    take_all(stage, 0, MRP_ERR_LIMIT);
    stage->n = KEPT;
    partner_do(&stage->a, job_take, stage);
    assert_int_equal(stage->kept, 0);
    assert_int_equal(stage->n_held, stage->n_all);
    clear_stage(stage);
}

static void refused__gets_what_a_flush_or_an_exit_gives_back(void **state)
{
    struct stage *stage = set_exhausted_stage(state);

    size_t n_regions, n_all;

    take_all(stage, 0, MRP_ERR_LIMIT);
    n_regions = cache_depot(stage->pool, SIZE)->n_regions;
    partner_do(&stage->a, job_flush, stage->pool);
    /* the other class's slab, which is free now, serves this one */
    n_all = take_all(stage, 0, MRP_ERR_LIMIT);
    assert_true(n_all > KEPT);
    assert_int_equal(n_all - KEPT, cache_depot(stage->pool, SIZE)->n_regions - n_regions);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    stage->n = KEPT;
    partner_do(&stage->a, job_take, stage);
    assert_int_equal(a_gives(stage, KEPT), KEPT);
    take_all(stage, 0, MRP_ERR_LIMIT);
    partner_stop(&stage->a);
    assert_int_equal(take_all(stage, 0, MRP_ERR_LIMIT), n_all);
    partner_start(&stage->a);
    clear_stage(stage);
}

/* -- waiting for another thread's growth -- */

struct gate {
    atomic_bool is_closed, is_reached;
    sem_t opened;
};

static enum mrp_status wait_at_gate(
    struct mrp_region *region, void *user_data, void *init_user)
{
    struct gate *gate = init_user;
    (void)region;
    (void)user_data;

    if (gate->is_closed) {
        gate->is_reached = true;
        while (sem_wait(&gate->opened) != 0) {
        }
    }
    return MRP_OK;
}

struct taker {
    struct partner partner;
    struct mrp_pool *pool;
    struct mrp_region *region;
};

static void job_alloc(void *argument)
{
    struct taker *taker = argument;

    taker->region = mrp_region_alloc(taker->pool, SIZE);
    CHECK(taker->region != NULL);
}

static void job_free(void *argument)
{
    CHECK(mrp_region_free(argument) == MRP_OK);
}

static void start_taker(struct taker *taker, struct mrp_pool *pool)
{
    taker->pool = pool;
    taker->region = NULL;
    partner_start(&taker->partner);
    partner_begin(&taker->partner, job_alloc, taker);
}

static void stop_taker(struct taker *taker)
{
    partner_wait(&taker->partner);
    assert_non_null(taker->region);
    partner_stop(&taker->partner);
    pool_fixture_free(taker->region);
}

static void pause_for(long milliseconds)
{
    struct timespec time = {0, milliseconds * 1000000};

    nanosleep(&time, NULL);
}

static void wait_for_asks(struct stage *stage, uint32_t asks)
{
    for (int i = 0; mrp_load_relaxed(asks_of(stage)) != asks && i < 20000; i++) {
        pause_for(1);
    }
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), asks);
}

/* Thread a has all that was cut and keeps KEPT; a grower stands at the gate; the others
 * wait for it. */
#define WAITERS 3

static struct stage *set_growing_stage(void **state, struct gate *gate,
    struct taker *grower, struct taker *waiters, size_t n_waiters)
{
    struct stage *stage = calloc(1, sizeof *stage);
    struct mrp_pool_params params;

    stage->f = *state;
    params = pool_fixture_params(stage->f);
    params.max_bytes = 64 * MRP_MIB;
    params.thread_cache_size = MRP_GIB;
    params.checks = MRP_CHECKS_STATE;
    params.user_size = 8;
    params.region_init = wait_at_gate;
    params.region_init_user = gate;
    sem_init(&gate->opened, 0, 0);
    gate->is_closed = gate->is_reached = false;
    pool_fixture_create(stage->f, &params);
    stage->pool = stage->f->pool;
    partner_start(&stage->a);
    stage->n = 1;
    partner_do(&stage->a, job_take, stage);
    stage->n = cache_depot(stage->pool, SIZE)->n_regions - 1;
    partner_do(&stage->a, job_take, stage);
    assert_int_equal(a_gives(stage, KEPT), KEPT);
    gate->is_closed = true;
    start_taker(grower, stage->pool);
    while (!gate->is_reached) {
        pause_for(1);
    }
    for (size_t i = 0; i < n_waiters; i++) {
        start_taker(&waiters[i], stage->pool);
        wait_for_asks(stage, (uint32_t)i + 1);
    }
    return stage;
}

static void clear_growing_stage(
    struct stage *stage, struct gate *gate, struct taker *grower)
{
    assert_false(partner_ends_within(&grower->partner, 0));
    gate->is_closed = false;
    sem_post(&gate->opened);
    stop_taker(grower);
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), 0);
    clear_stage(stage);
    sem_destroy(&gate->opened);
}

static void waiting__all_are_woken_by_a_free(void **state)
{
    struct taker grower, waiters[WAITERS];
    struct gate gate;
    struct stage *stage = set_growing_stage(state, &gate, &grower, waiters, WAITERS);

    for (size_t i = 0; i < WAITERS; i++) {
        assert_false(partner_ends_within(&waiters[i].partner, 30));
    }
    assert_int_equal(a_gives(stage, 1), 0);
    for (size_t i = 0; i < WAITERS; i++) {
        partner_wait(&waiters[i].partner);
    }
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), 0);
    assert_int_equal(a_gives(stage, 4), 4);
    for (size_t i = 0; i < WAITERS; i++) {
        stop_taker(&waiters[i]);
    }
    clear_growing_stage(stage, &gate, &grower);
}

/* Whoever gives a region back wakes who waits: a thread that keeps none of the class, one
 * that flushes, one that ends. */
static void waiting__is_woken_by_anybody(void **state)
{
    struct taker grower, waiters[3];
    struct partner fresh;
    struct gate gate;
    struct stage *stage = set_growing_stage(state, &gate, &grower, waiters, 1);

    partner_start(&fresh);
    partner_do(&fresh, job_free, stage->regions[--stage->n_held]);
    partner_wait(&waiters[0].partner);
    partner_stop(&fresh);
    start_taker(&waiters[1], stage->pool);
    wait_for_asks(stage, 1);
    partner_do(&stage->a, job_flush, NULL);
    partner_wait(&waiters[1].partner);
    assert_int_equal(mrp_load_relaxed(asks_of(stage)), 0);
    partner_stop(&stage->a);
    partner_start(&stage->a);
    stop_taker(&waiters[0]);
    stop_taker(&waiters[1]);
    clear_growing_stage(stage, &gate, &grower);
}

/* NOWAIT and NOGROW do not join those who wait. */
static void waiting__is_not_for_those_who_may_not(void **state)
{
    struct taker grower;
    struct gate gate;
    struct stage *stage = set_growing_stage(state, &gate, &grower, NULL, 0);

    for (size_t i = 1; i < N_OF(requests); i++) {
        assert_int_equal(take_all(stage, requests[i].flags, MRP_ERR_AGAIN), 0);
        assert_int_equal(a_gives(stage, 1), 0);
        assert_int_equal(
            take_all(stage, requests[i].flags, MRP_ERR_AGAIN), i == 1 ? KEPT + 1 : 1);
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        stage->n = i == 1 ? KEPT + 1 : 1;
        partner_do(&stage->a, job_take, stage);
    }
    clear_growing_stage(stage, &gate, &grower);
}

/* -- the mutex -- */

static void job_alloc_nowait(void *argument)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct taker *taker = argument;

    request.flags = MRP_REQUEST_NOWAIT;
    taker->region = mrp_region_alloc_with(taker->pool, SIZE, &request);
}

/* A thread that has no cache yet would need the mutex to open one. */
static void nowait__does_not_wait_for_the_mutex(void **state)
{
    struct pool_fixture *f = *state;
    struct taker taker = {.region = NULL};

    cache_create(f, MRP_CHECKS_STATE, 0);
    taker.pool = f->pool;
    pool_fixture_free(pool_fixture_alloc(f, SIZE));
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    partner_start(&taker.partner);
    pthread_mutex_lock(&f->pool->mutex);
    partner_begin(&taker.partner, job_alloc_nowait, &taker);
    if (!partner_ends_within(&taker.partner, 20000)) {
        pthread_mutex_unlock(&f->pool->mutex);
        fail_msg("%s", "it waits for the mutex");
    }
    pthread_mutex_unlock(&f->pool->mutex);
    partner_stop(&taker.partner);
    if (taker.region != NULL) {
        pool_fixture_free(taker.region);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(refused__gets_all_that_is_kept_at_the_next_free),
        POOL_TEST(refused__gets_it_in_one_call),
        POOL_TEST(refused__asks_for_its_class_only),
        POOL_TEST(answered__threads_keep_regions_again),
        POOL_TEST(answered__by_another_before_the_thread_notices),
        POOL_TEST(asked__its_own_regions_are_at_hand),
        POOL_TEST(refused__gets_what_a_flush_or_an_exit_gives_back),
        POOL_TEST(waiting__all_are_woken_by_a_free),
        POOL_TEST(waiting__is_woken_by_anybody),
        POOL_TEST(waiting__is_not_for_those_who_may_not),
        POOL_TEST(nowait__does_not_wait_for_the_mutex),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
