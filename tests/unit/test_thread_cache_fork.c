/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Caches and fork: the child finds none of its parent's, and has its own; the parent
 * loses nothing.
 */
#include "support/child.h"
#include "thread_cache.h"

#include <sys/wait.h>
#include <unistd.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define SIZE 200
#define HELD 300

struct family {
    struct mrp_pool *pool;
    struct mrp_region *held[HELD];
};

static pid_t start_child(void (*job)(struct family *family), struct family *family)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(120);
        job(family);
        _exit(0);
    }
    return child;
}

static bool is_fine(pid_t child)
{
    int status = -1;

    return waitpid(child, &status, 0) == child && status == 0;
}

/* The parent has live regions and caches of them. */
static void settle(struct family *family, struct mrp_pool *pool)
{
    struct mrp_region *more[HELD];

    family->pool = pool;
    for (size_t i = 0; i < HELD; i++) {
        family->held[i] = mrp_region_alloc(pool, SIZE);
        more[i] = mrp_region_alloc(pool, SIZE);
        CHECK(family->held[i] != NULL && more[i] != NULL);
    }
    for (size_t i = 0; i < HELD; i++) {
        CHECK(mrp_region_free(more[i]) == MRP_OK);
    }
}

static void leave(struct family *family)
{
    for (size_t i = 0; i < HELD; i++) {
        CHECK(mrp_region_free(family->held[i]) == MRP_OK);
    }
}

/* -- what the child is refused -- */

static bool is_forked(enum mrp_status status)
{
    return status == MRP_ERR_FORKED && mrp_error_last()->status == MRP_ERR_FORKED &&
        strstr(mrp_error_last()->text, "parent") != NULL;
}

static bool gives_nothing(const struct mrp_region *region)
{
    return region == NULL && is_forked(mrp_error_last()->status);
}

static void try_all(struct family *family)
{
    struct mrp_region *region = family->held[0], *many[4] = {NULL};

    for (size_t size = 0; size <= 300; size += 50) {
        EXPECT(gives_nothing(mrp_region_alloc(family->pool, size)));
        EXPECT(gives_nothing(mrp_region_alloc_inline(family->pool, size)));
        EXPECT(gives_nothing(mrp_region_alloc_with(family->pool, size, NULL)));
        EXPECT(mrp_region_alloc_many(family->pool, size, 4, many) == 0);
        EXPECT(gives_nothing(many[0]));
    }
    for (size_t i = 0; i < HELD; i++) {
        region = family->held[i];
        EXPECT(is_forked(mrp_region_free(region)));
        EXPECT(is_forked(mrp_region_free_inline(region)));
        EXPECT(is_forked(mrp_region_free_many(&region, 1, NULL)));
        EXPECT(is_forked(mrp_region_release(region)));
    }
    EXPECT(is_forked(mrp_thread_flush(family->pool)));
    EXPECT(mrp_thread_flush(NULL) == MRP_OK);
}

static void check_parent(struct family *family, size_t n_cached)
{
    assert_int_equal(cache_count(family->pool, SIZE), n_cached);
    if (mrp_pool_check(family->pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
}

static void child__is_refused_the_parents_regions(void **state)
{
    struct pool_fixture *f = *state;

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        struct family family;
        size_t n_cached;

        cache_create(f, (enum mrp_checks)checks, 0);
        settle(&family, f->pool);
        n_cached = cache_count(f->pool, SIZE);
        assert_true((n_cached > 0) == (checks != MRP_CHECKS_FULL));
        assert_true(is_fine(start_child(try_all, &family)));
        check_parent(&family, n_cached);
        leave(&family);
        check_fail();
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* -- what the child has -- */

static void *use_own_pool(void *argument)
{
    struct family own;

    settle(&own, argument);
    EXPECT(pool_fixture_stats(own.pool).cached_size > 0);
    leave(&own);
    return NULL;
}

static struct mrp_context *make_own_pool(struct mrp_pool **pool)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;

    params.max_bytes = 256 * MRP_MIB;
    params.checks = MRP_CHECKS_STATE;
    EXPECT(mrp_context_create(NULL, &context) == MRP_OK);
    EXPECT(mrp_pool_create(context, &params, pool) == MRP_OK);
    return context;
}

static void work_alone(struct family *family)
{
    struct mrp_pool *pool;
    struct mrp_context *context = make_own_pool(&pool);
    (void)family;

    EXPECT(pool->cache_slot != MRP_NO_SLOT);
    use_own_pool(pool);
    EXPECT(check_line == 0);
    EXPECT(pool_fixture_stats(pool).n_threads == 1);
    EXPECT(cache_count(pool, SIZE) > 0);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

/* The arenas of the parent's threads are there for the child's. */
static void work_with_threads(struct family *family)
{
    struct mrp_pool *pool;
    struct mrp_context *context = make_own_pool(&pool);
    pthread_t threads[6];

    try_all(family);
    use_own_pool(pool);
    for (size_t i = 0; i < N_OF(threads); i++) {
        EXPECT(pthread_create(&threads[i], NULL, use_own_pool, pool) == 0);
    }
    for (size_t i = 0; i < N_OF(threads); i++) {
        EXPECT(pthread_join(threads[i], NULL) == 0);
    }
    EXPECT(check_line == 0);
    EXPECT(pool_fixture_stats(pool).n_threads == 1);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
    try_all(family);
}

static void work_and_fork_again(struct family *family)
{
    struct mrp_pool *pool;
    struct mrp_context *context = make_own_pool(&pool);
    struct family own;

    settle(&own, pool);
    EXPECT(is_fine(start_child(try_all, family)));
    EXPECT(is_fine(start_child(try_all, &own)));
    EXPECT(is_fine(start_child(work_with_threads, &own)));
    leave(&own);
    EXPECT(check_line == 0);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

/* With caches full: nothing of the library runs for the last thread. */
static void leave_by_exit(struct family *family)
{
    struct mrp_pool *pool;

    make_own_pool(&pool);
    use_own_pool(pool);
    EXPECT(cache_count(pool, SIZE) > 0);
    try_all(family);
    exit(0);
}

static void with_children(void **state, void (*job)(struct family *family))
{
    struct pool_fixture *f = *state;
    struct family family;
    size_t n_cached;

    cache_create(f, MRP_CHECKS_STATE, 0);
    settle(&family, f->pool);
    n_cached = cache_count(f->pool, SIZE);
    for (int i = 0; i < 3; i++) {
        assert_true(is_fine(start_child(job, &family)));
        check_parent(&family, n_cached);
    }
    leave(&family);
    check_fail();
}

static void child__has_caches_of_its_own(void **state)
{
    with_children(state, work_alone);
}

static void child__has_threads_with_caches(void **state)
{
    with_children(state, work_with_threads);
}

static void child__may_fork_again(void **state)
{
    with_children(state, work_and_fork_again);
}

static void child__may_leave_by_exit_with_caches_full(void **state)
{
    const char *under = getenv("MRP_TEST_UNDER");

    if (under != NULL && strstr(under, "address") != NULL) {
        test_skip(__func__, "what the parent holds is a leak of the child's");
        return;
    }
    with_children(state, leave_by_exit);
}

/* -- forking elsewhere -- */

struct forker {
    struct family family;
    bool is_fine;
    size_t n_before, n_after;
};

static void job_fork(void *argument)
{
    struct forker *forker = argument;

    settle(&forker->family, forker->family.pool);
    forker->n_before = cache_count(forker->family.pool, SIZE);
    forker->is_fine = is_fine(start_child(work_with_threads, &forker->family));
    forker->n_after = cache_count(forker->family.pool, SIZE);
    leave(&forker->family);
}

/* The child's only thread is one that the parent made; others have caches too. */
static void fork__by_a_thread_with_caches(void **state)
{
    struct pool_fixture *f = *state;
    struct forker forker = {.is_fine = false};
    struct partner partners[2];
    struct family family;

    if (getenv("MRP_TEST_UNDER") != NULL &&
        strcmp(getenv("MRP_TEST_UNDER"), "thread") == 0) {
        test_skip(__func__, "ThreadSanitizer does not support threads after it");
        return;
    }
    cache_create(f, MRP_CHECKS_STATE, 0);
    settle(&family, f->pool);
    for (size_t i = 0; i < N_OF(partners); i++) {
        partner_start(&partners[i]);
        forker.family.pool = f->pool;
        partner_do(&partners[i], job_fork, &forker);
        assert_true(forker.is_fine);
        assert_true(forker.n_before > 0);
        assert_int_equal(forker.n_after, forker.n_before);
    }
    for (size_t i = 0; i < N_OF(partners); i++) {
        partner_stop(&partners[i]);
    }
    leave(&family);
    check_fail();
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
}

/* -- while others hammer -- */

struct crowd {
    struct mrp_pool *pool;
    atomic_bool stop;
    atomic_size_t n_rounds;
};

/* Many magazines back and forth, and now and then all of them. */
static void job_hammer(void *argument)
{
    struct crowd *crowd = argument;
    struct mrp_region *regions[500];

    while (!crowd->stop) {
        for (size_t i = 0; i < N_OF(regions); i++) {
            regions[i] = mrp_region_alloc_inline(crowd->pool, i % 2 == 0 ? SIZE : 2000);
            CHECK(regions[i] != NULL);
        }
        for (size_t i = 0; i < N_OF(regions); i++) {
            CHECK(mrp_region_free_inline(regions[i]) == MRP_OK);
        }
        if (crowd->n_rounds++ % 8 == 0) {
            CHECK(mrp_thread_flush(NULL) == MRP_OK);
        }
    }
}

static void fork__while_others_hammer(void **state)
{
    struct pool_fixture *f = *state;
    struct crowd crowd = {.stop = false};
    struct partner partners[3];
    struct family family;

    if (getenv("MRP_TEST_UNDER") != NULL &&
        strcmp(getenv("MRP_TEST_UNDER"), "thread") == 0) {
        test_skip(__func__, "ThreadSanitizer does not support threads after it");
        return;
    }
    cache_create(f, MRP_CHECKS_STATE, 0);
    crowd.pool = f->pool;
    settle(&family, f->pool);
    for (size_t i = 0; i < N_OF(partners); i++) {
        partner_start(&partners[i]);
        partner_begin(&partners[i], job_hammer, &crowd);
    }
    while (crowd.n_rounds < N_OF(partners)) {
        sched_yield();
    }
    for (size_t i = 0; i < (test_is_watched() ? 5 : 40); i++) {
        assert_true(is_fine(start_child(work_with_threads, &family)));
    }
    crowd.stop = true;
    for (size_t i = 0; i < N_OF(partners); i++) {
        partner_wait(&partners[i]);
        partner_stop(&partners[i]);
    }
    leave(&family);
    check_fail();
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).cached_size, 0);
    assert_int_equal(pool_fixture_stats(f->pool).tiers[0].n_live, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(child__is_refused_the_parents_regions),
        POOL_TEST(child__has_caches_of_its_own),
        POOL_TEST(child__has_threads_with_caches),
        POOL_TEST(child__may_fork_again),
        POOL_TEST(child__may_leave_by_exit_with_caches_full),
        POOL_TEST(fork__by_a_thread_with_caches),
        POOL_TEST(fork__while_others_hammer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
