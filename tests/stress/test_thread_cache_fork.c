/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fork in the middle of everything: threads take and give back, come and go,
 * make and destroy pools, while the process forks again and again. A child
 * finds its copies of the caches empty, is refused whatever is its parent's,
 * and makes its own; the parent and its regions are as if nothing had been.
 */
#include "mrpool/inline.h"
#include "mrpool/thread.h"
#include "stress.h"
#include "support/child.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS 4
#define HELD 32
#define POOLS 3 /* one of each mode of checks */
#define OWN 300

struct load {
    struct stress_world world;
    struct mrp_pool *pools[POOLS];
    struct mrp_thread_slot *slot;
    struct mrp_region *held[POOLS]; /* live in the parent, whatever the children try */
    atomic_bool stops;
    bool children_may_malloc;
    size_t n_forks;
};

static const uint32_t modes[POOLS] = {MRP_CHECKS_STATE, MRP_CHECKS_NONE, MRP_CHECKS_FULL};

static size_t random_size(struct stress_thread *thread)
{
    return stress_random(thread) & (((size_t)1 << (4 + stress_random(thread) % 11)) - 1);
}

/* -- the child -- */

static bool is_forked(enum mrp_status status)
{
    return status == MRP_ERR_FORKED && mrp_error_last()->status == MRP_ERR_FORKED;
}

static bool is_none(const struct mrp_region *region)
{
    return region == NULL && mrp_error_last()->status == MRP_ERR_FORKED;
}

static void be_refused(struct load *load, size_t i)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;

    request.slot = load->slot;
    for (size_t size = 1; size < 100000; size *= 3) {
        EXPECT(is_none(mrp_region_alloc(load->pools[i], size)));
        EXPECT(is_none(mrp_region_alloc_inline(load->pools[i], size)));
    }
    EXPECT(is_none(mrp_region_alloc_with(load->pools[i], 100, &request)));
    EXPECT(mrp_region_alloc_many(load->pools[i], 100, 1, &region) == 0);
    EXPECT(mrp_ptr_alloc(load->pools[i], 100) == NULL);
    EXPECT(is_forked(mrp_region_free(load->held[i])));
    EXPECT(is_forked(mrp_region_free_inline(load->held[i])));
    EXPECT(is_forked(mrp_region_free_many(&load->held[i], 1, NULL)));
    EXPECT(is_forked(mrp_region_release(load->held[i])));
    EXPECT(is_forked(mrp_thread_flush(load->pools[i])));
    EXPECT(is_forked(mrp_pool_check(load->pools[i])));
    EXPECT(is_forked(mrp_pool_destroy(load->pools[i])));
}

static void use_own_pool(struct mrp_context *context, uint32_t checks)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_region *regions[OWN];
    struct mrp_pool *pool;

    params.max_bytes = 16 * MRP_MIB;
    params.checks = checks;
    EXPECT(mrp_pool_create(context, &params, &pool) == MRP_OK);
    for (size_t i = 0; i < OWN; i++) {
        regions[i] = mrp_region_alloc_inline(pool, 16 + i);
        EXPECT(regions[i] != NULL);
        stress_fill(regions[i], i);
    }
    for (size_t i = 0; i < OWN; i++) {
        EXPECT(stress_is_intact(regions[i], i));
        EXPECT(mrp_region_free_inline(regions[i]) == MRP_OK);
    }
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_thread_flush(pool) == MRP_OK);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_pool_destroy(pool) == MRP_OK);
}

static void be_child(struct load *load)
{
    struct mrp_context *context;
    struct mrp_thread_slot *slot;

    for (size_t i = 0; i < POOLS; i++) {
        be_refused(load, i);
    }
    EXPECT(mrp_thread_flush(NULL) == MRP_OK);
    EXPECT(is_forked(mrp_thread_slot_destroy(load->slot)));
    if (!load->children_may_malloc) {
        return;
    }
    EXPECT(mrp_context_create(NULL, &context) == MRP_OK);
    for (size_t i = 0; i < POOLS; i++) {
        use_own_pool(context, modes[i]);
    }
    EXPECT(mrp_thread_slot_create(&slot) == MRP_OK);
    EXPECT(mrp_thread_slot_destroy(slot) == MRP_OK);
    for (size_t i = 0; i < POOLS; i++) { /* still, with caches of its own */
        be_refused(load, i);
    }
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

/* -- the parent -- */

static bool fork_once(struct load *load)
{
    pid_t child = fork();
    int status = 0;

    if (child == 0) {
        alarm(60);
        be_child(load);
        _exit(0);
    }
    return STRESS_CHECK(child > 0) && STRESS_CHECK(waitpid(child, &status, 0) == child) &&
        STRESS_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Caches in all states: a child's copy of any of them is of no use. */
static void fork_often(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    request.slot = load->slot;
    for (size_t n = 0; n < load->n_forks && stress_goes_on(); n++) {
        struct mrp_pool *pool = load->pools[n % POOLS];
        struct mrp_region *region = mrp_region_alloc_with(pool, 100, &request);

        STRESS_CHECK(region != NULL && mrp_region_free(region) == MRP_OK);
        if (n % 8 == 0) {
            STRESS_CHECK(mrp_thread_flush(NULL) == MRP_OK);
        }
        if (!fork_once(load)) {
            break;
        }
    }
    atomic_store(&load->stops, true);
}

static void churn(struct load *load, struct stress_thread *thread, size_t rounds)
{
    struct mrp_region *held[HELD] = {NULL};

    for (size_t round = 0; round < rounds && stress_goes_on(); round++) {
        size_t i = stress_random(thread) % HELD;
        uint64_t mark = thread->number << 32 | i;

        if (held[i] == NULL) {
            held[i] =
                mrp_region_alloc_inline(load->pools[i % POOLS], random_size(thread));
            if (STRESS_CHECK(held[i] != NULL)) {
                stress_fill(held[i], mark);
            }
        } else {
            STRESS_CHECK(stress_is_intact(held[i], mark));
            STRESS_CHECK(mrp_region_free_inline(held[i]) == MRP_OK);
            held[i] = NULL;
        }
    }
    for (size_t i = 0; i < HELD; i++) {
        if (held[i] != NULL) {
            STRESS_CHECK(stress_is_intact(held[i], thread->number << 32 | i));
            STRESS_CHECK(mrp_region_free(held[i]) == MRP_OK);
        }
    }
}

struct visit {
    struct load *load;
    struct stress_thread *thread;
};

static void *live_shortly(void *argument)
{
    struct visit *visit = argument;

    churn(visit->load, visit->thread, 200);
    return NULL;
}

/* Pools and threads come and go. */
static void replace(struct load *load, struct stress_thread *thread)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct visit visit = {load, thread};
    struct mrp_pool *pool;
    pthread_t visitor;

    params.chunk_min = 256 * MRP_KIB;
    params.checks = modes[stress_random(thread) % POOLS];
    pool = stress_add_pool(&load->world, &params);
    if (pool != NULL) {
        STRESS_CHECK(mrp_region_free(mrp_region_alloc(pool, 100)) == MRP_OK);
        STRESS_CHECK(mrp_pool_destroy(pool) == MRP_OK);
    }
    if (STRESS_CHECK(pthread_create(&visitor, NULL, live_shortly, &visit) == 0)) {
        pthread_join(visitor, NULL);
    }
}

static void work_or_fork(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number == 0) {
        fork_often(thread);
        return;
    }
    while (!atomic_load(&load->stops) && stress_goes_on()) {
        if (thread->number == 1) {
            replace(load, thread);
        } else {
            churn(load, thread, 1000);
        }
    }
}

/* The allocator of gcc 12's AddressSanitizer holds its locks across a fork: malloc waits
 * for ever in a child whose parent had another thread in it. */
static bool survives_fork(const char *test)
{
    const char *under = getenv("MRP_TEST_UNDER");
    bool survives = under == NULL || strstr(under, "address") == NULL;

    if (!survives) {
        printf("SKIP: %s: no pools of the children's: AddressSanitizer's malloc does not "
               "outlive a fork\n",
            test);
    }
    return survives;
}

static void fork__in_the_middle_of_everything(void **state)
{
    static struct load load;

    (void)state;
    memset(&load, 0, sizeof load);
    load.n_forks = stress_rounds(150);
    load.children_may_malloc = survives_fork(__func__);
    stress_create_context(&load.world, NULL);
    for (size_t i = 0; i < POOLS; i++) {
        struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

        params.chunk_min = MRP_MIB;
        params.checks = modes[i];
        load.pools[i] = stress_add_pool(&load.world, &params);
        assert_non_null(load.pools[i]);
        load.held[i] = mrp_region_alloc(load.pools[i], 1000);
        assert_non_null(load.held[i]);
        stress_fill(load.held[i], 4242 + i);
    }
    assert_int_equal(mrp_thread_slot_create(&load.slot), MRP_OK);
    stress_run(THREADS, work_or_fork, &load);
    assert_int_equal(mrp_thread_slot_destroy(load.slot), MRP_OK);
    for (size_t i = 0; i < POOLS; i++) {
        assert_true(stress_is_intact(load.held[i], 4242 + i));
        assert_int_equal(mrp_region_free(load.held[i]), MRP_OK);
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        stress_check_rest(load.pools[i]);
        assert_int_equal(mrp_pool_destroy(load.pools[i]), MRP_OK);
    }
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fork__in_the_middle_of_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
