/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Caches, threads and pools that end in any order, and more pools than have caches.
 *
 * thread model: counting
 */
#include "thread_cache.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define MANY 2000

/* Of `size` bytes each, as many as `n`. */
struct work {
    struct mrp_pool *pool;
    size_t size, n;
    struct mrp_region *regions[MANY];
};

static void take(void *argument)
{
    struct work *work = argument;

    for (size_t i = 0; i < work->n; i++) {
        work->regions[i] = mrp_region_alloc(work->pool, work->size);
        CHECK(work->regions[i] != NULL);
    }
}

static void give(void *argument)
{
    struct work *work = argument;

    for (size_t i = 0; i < work->n; i++) {
        CHECK(mrp_region_free(work->regions[i]) == MRP_OK);
    }
}

static void take_and_give(void *argument)
{
    take(argument);
    give(argument);
}

static void check_nothing_cached(struct mrp_pool *pool)
{
    struct mrp_pool_stats stats = pool_fixture_stats(pool);

    assert_int_equal(stats.n_threads, 0);
    assert_int_equal(stats.cached_size, 0);
    if (mrp_pool_check(pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
}

/* -- threads that end -- */

/* All that max_bytes allows, and again after the thread that had it in its cache. */
static void exit__gives_back_everything(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct work *work = calloc(1, sizeof *work);
    struct partner partner;

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        struct mrp_region *region;

        params.max_bytes = 8 * MRP_MIB;
        params.chunk_min = 256 * MRP_KIB;
        params.thread_cache_size = MRP_GIB;
        params.checks = (uint32_t)checks;
        pool_fixture_create(f, &params);
        *work = (struct work){.pool = f->pool, .size = 5000};
        while ((region = mrp_region_alloc(f->pool, work->size)) != NULL) {
            work->regions[work->n++] = region;
        }
        assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
        assert_true(work->n > 1000);
        give(work);
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        for (int i = 0; i < 3; i++) {
            partner_start(&partner);
            partner_do(&partner, take_and_give, work);
            assert_int_equal(
                pool_fixture_stats(f->pool).n_threads, checks == MRP_CHECKS_FULL ? 0 : 1);
            partner_stop(&partner);
            check_nothing_cached(f->pool);
        }
        take_and_give(work);
        check_fail();
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
    free(work);
}

/* Short-lived threads by the hundred use the arenas of those before them, 1 MiB each. */
static void exit__arenas_are_used_again(void **state)
{
    struct pool_fixture *f = *state;
    struct work work = {.size = 100, .n = 10};
    struct partner partner;
    size_t size = 0;

    cache_create(f, MRP_CHECKS_STATE, 0);
    work.pool = f->pool;
    for (size_t i = 0; i < 400; i++) {
        partner_start(&partner);
        partner_do(&partner, take_and_give, &work);
        partner_stop(&partner);
        if (i == 20) {
            size = test_status_size("VmSize:");
        }
    }
    assert_true(test_is_watched() || test_status_size("VmSize:") < size + 50 * MRP_MIB);
    check_nothing_cached(f->pool);
}

/* -- destructors that come after the library's -- */

static pthread_key_t late_key;

struct late {
    struct work work; /* regions to be given back */
    int rounds_left; /* of the destructors, before that */
    bool was_late;
};

static void late_destructor(void *argument)
{
    struct late *late = argument;
    struct mrp_region *region;

    if (late->rounds_left-- > 0) {
        CHECK(pthread_setspecific(late_key, late) == 0);
        return;
    }
    late->was_late = mrp_thread_arena() == NULL;
    give(&late->work);
    CHECK(mrp_region_free(late->work.regions[0]) == MRP_ERR_STALE);
    region = mrp_region_alloc(late->work.pool, late->work.size);
    CHECK(region != NULL);
    CHECK(mrp_region_free(region) == MRP_OK);
    region = mrp_region_alloc_inline(late->work.pool, late->work.size);
    CHECK(region != NULL);
    CHECK(mrp_region_free_inline(region) == MRP_OK);
    CHECK(mrp_thread_flush(late->work.pool) == MRP_OK);
    CHECK(mrp_thread_flush(NULL) == MRP_OK);
}

static void use_and_leave_late(void *argument)
{
    struct late *late = argument;

    take_and_give(&late->work);
    take(&late->work);
    CHECK(pthread_setspecific(late_key, late) == 0);
}

static void exit__later_destructors_use_the_depot(void **state)
{
    struct pool_fixture *f = *state;
    struct late *late = calloc(1, sizeof *late);

    assert_int_equal(pthread_key_create(&late_key, late_destructor), 0);
    cache_create(f, MRP_CHECKS_STATE, 0);
    for (int rounds = 0; rounds < 3; rounds++) {
        struct partner partner;

        late->work = (struct work){.pool = f->pool, .size = 200, .n = 500};
        late->rounds_left = rounds;
        late->was_late = false;
        partner_start(&partner);
        partner_do(&partner, use_and_leave_late, late);
        partner_stop(&partner);
        assert_true(late->was_late || rounds == 0); /* the library's has run before */
        check_nothing_cached(f->pool);
        assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
    }
    pthread_key_delete(late_key);
    free(late);
}

/* A thread whose destructor is its first use of the library. */
static void leave_unused(void *argument)
{
    CHECK(pthread_setspecific(late_key, argument) == 0);
}

static void exit__the_first_use_is_a_destructor(void **state)
{
    struct pool_fixture *f = *state;
    struct late *late = calloc(1, sizeof *late);
    struct partner partner;

    assert_int_equal(pthread_key_create(&late_key, late_destructor), 0);
    cache_create(f, MRP_CHECKS_STATE, 0);
    late->work = (struct work){.pool = f->pool, .size = 200, .n = 500};
    take(&late->work);
    partner_start(&partner);
    partner_do(&partner, leave_unused, late);
    partner_stop(&partner);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    check_nothing_cached(f->pool);
    pthread_key_delete(late_key);
    free(late);
}

/* -- who frees what -- */

/* A thread that only ever frees keeps what it frees, and gives it back. */
static void free__by_a_thread_that_never_took_any(void **state)
{
    struct pool_fixture *f = *state;
    struct work work = {.size = 200, .n = 1000};

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        struct partner partner;

        cache_create(f, (enum mrp_checks)checks, 0);
        work.pool = f->pool;
        take(&work);
        partner_start(&partner);
        partner_do(&partner, give, &work);
        assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
        assert_int_equal(
            pool_fixture_stats(f->pool).n_threads, checks == MRP_CHECKS_FULL ? 0 : 2);
        partner_stop(&partner);
        assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
        check_nothing_cached(f->pool);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

#define NEWER 12 /* more than all tests before have had at a time */

/* What this thread frees first goes the long way, and then by the fast path. */
static void give_and_go_on(void *argument)
{
    struct work *work = argument;
    struct mrp_region *region;

    give(work);
    region = mrp_region_alloc(work->pool, work->size);
    CHECK(region != NULL);
    CHECK(work->pool->cache_slot == MRP_NO_SLOT /* Valgrind: few addresses, few caches */
            ? mrp_region_free(region) == MRP_OK
            : mrp_v1_give(region));
}

/* Pools made after a thread's arena: the thread does not know their descriptors yet. */
static void free__of_a_pool_newer_than_the_thread(void **state)
{
    struct pool_fixture *f = *state;
    struct work work = {.size = 200, .n = 100};
    struct mrp_pool *pools[NEWER];
    struct partner partner;

    for (size_t i = 0; i < 2; i++) {
        partner_start(&partner);
        for (size_t j = 0; j < NEWER; j++) {
            cache_create(f, i == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE, 0);
            pools[j] = work.pool = f->pool;
            take(&work);
            partner_do(&partner, give_and_go_on, &work);
            assert_true((pool_fixture_stats(f->pool).cached_size > 0) ==
                (f->pool->cache_slot != MRP_NO_SLOT));
            assert_true(f->pool->cache_slot != MRP_NO_SLOT || test_is_watched());
            assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        }
        partner_stop(&partner);
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        for (size_t j = 0; j < NEWER; j++) {
            check_nothing_cached(pools[j]);
            assert_int_equal(mrp_pool_destroy(pools[j]), MRP_OK);
        }
        f->pool = NULL;
    }
}

/* -- pools that end -- */

/* Threads hold caches of a pool that goes. Its successor in the slot finds nothing. */
static void pool__ends_before_the_threads_that_cache_it(void **state)
{
    struct pool_fixture *f = *state;
    struct work work = {.n = 700};
    struct partner partners[3];
    size_t n_uses[MRP_V1_SLOTS] = {0}, round = 0;
    uint32_t slot;

    for (size_t i = 0; i < N_OF(partners); i++) {
        partner_start(&partners[i]);
    }
    do {
        struct mrp_region *stale;

        work.size = round % 2 == 0 ? 200 : 3000;
        cache_create(f, MRP_CHECKS_STATE, 0);
        slot = f->pool->cache_slot;
        assert_int_not_equal(slot, MRP_NO_SLOT);
        assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
        work.pool = f->pool;
        for (size_t i = 0; i < N_OF(partners); i++) {
            partner_do(&partners[i], take_and_give, &work);
            assert_int_equal(pool_fixture_stats(f->pool).n_threads, i + 1);
        }
        take_and_give(&work);
        assert_true(cache_slot(f->pool)->pool != 0);
        stale = work.regions[0];
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        assert_int_equal(mrp_bins_v1->slots[slot].charge, 0);
        assert_refused(mrp_region_free(stale), MRP_ERR_STALE, "destroyed");
        assert_refused(mrp_region_free_inline(stale), MRP_ERR_STALE, "destroyed");
        assert_none(mrp_region_alloc(f->pool, 200), MRP_ERR_STALE, "destroyed");
        assert_none(mrp_region_alloc_inline(f->pool, 200), MRP_ERR_STALE, "destroyed");
        f->pool = NULL;
        n_uses[slot]++;
    } while (n_uses[slot] < 3 && round++ < 3 * MRP_V1_SLOTS);
    assert_int_equal(n_uses[slot], 3);
    for (size_t i = 0; i < N_OF(partners); i++) {
        partner_stop(&partners[i]);
    }
}

/* Threads that end while a pool they cached is being destroyed: each region is in one
 * place, whoever comes first. */
static void pool__ends_as_its_threads_do(void **state)
{
    struct pool_fixture *f = *state;
    size_t n_rounds = test_is_watched() ? 10 : 150;
    struct work work[4] = {{.n = 0}};

    for (size_t round = 0; round < n_rounds; round++) {
        struct partner partners[N_OF(work)];

        cache_create(f, round % 2 == 0 ? MRP_CHECKS_STATE : MRP_CHECKS_NONE, 0);
        for (size_t i = 0; i < N_OF(work); i++) {
            work[i].pool = f->pool;
            work[i].size = 200;
            work[i].n = 300;
            partner_start(&partners[i]);
            partner_do(&partners[i], take_and_give, &work[i]);
        }
        for (size_t i = 0; i < N_OF(work); i++) { /* they end, unjoined */
            pthread_mutex_lock(&partners[i].mutex);
            partners[i].ends = true;
            pthread_cond_broadcast(&partners[i].changed);
            pthread_mutex_unlock(&partners[i].mutex);
        }
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
        for (size_t i = 0; i < N_OF(work); i++) {
            partner_stop(&partners[i]);
        }
    }
}

/* -- more pools than have caches -- */

static bool has_caches(struct mrp_pool *pool)
{
    struct work work = {.pool = pool, .size = 200, .n = 200};

    take_and_give(&work);
    check_fail();
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(pool_fixture_stats(pool).tiers[0].n_live, 0);
    assert_true(
        (pool->cache_slot == MRP_NO_SLOT) == (pool_fixture_stats(pool).n_threads == 0));
    return pool_fixture_stats(pool).cached_size > 0;
}

#define POOLS 100

static void pools__beyond_64_work_without_caches(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool *pools[POOLS];
    const char *under = getenv("MRP_TEST_UNDER");
    size_t n_with = 0;

    if (under != NULL && strcmp(under, "valgrind") == 0) {
        test_skip(__func__, "Valgrind has not the addresses for so many pools");
        return;
    }
    for (size_t round = 0; round < 2; round++) {
        n_with = 0;
        for (size_t i = 0; i < POOLS; i++) {
            cache_create(f, i % 3 == 0 ? MRP_CHECKS_NONE : MRP_CHECKS_STATE, 0);
            pools[i] = f->pool;
            n_with += has_caches(pools[i]);
        }
        assert_int_equal(n_with, 64);
        assert_false(has_caches(pools[POOLS - 1]));
        for (size_t i = 5; i < 15; i++) { /* their slots are for the next ten */
            assert_true(has_caches(pools[i]));
            assert_int_equal(mrp_pool_destroy(pools[i]), MRP_OK);
        }
        for (size_t i = 5; i < 15; i++) {
            cache_create(f, i % 3 == 0 ? MRP_CHECKS_NONE : MRP_CHECKS_STATE, 0);
            pools[i] = f->pool;
            assert_true(has_caches(pools[i]));
        }
        cache_create(f, MRP_CHECKS_STATE, 0);
        assert_false(has_caches(f->pool));
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        for (size_t i = 0; i < POOLS; i++) {
            assert_int_equal(mrp_pool_destroy(pools[i]), MRP_OK);
        }
        f->pool = NULL;
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(exit__gives_back_everything),
        POOL_TEST(exit__arenas_are_used_again),
        POOL_TEST(exit__later_destructors_use_the_depot),
        POOL_TEST(exit__the_first_use_is_a_destructor),
        POOL_TEST(free__by_a_thread_that_never_took_any),
        POOL_TEST(free__of_a_pool_newer_than_the_thread),
        POOL_TEST(pool__ends_before_the_threads_that_cache_it),
        POOL_TEST(pool__ends_as_its_threads_do),
        POOL_TEST(pools__beyond_64_work_without_caches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
