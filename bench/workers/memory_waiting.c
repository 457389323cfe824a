/* SPDX-License-Identifier: BSD-3-Clause
 *
 * At the limit: what an alloc takes when it has to wait for somebody's free, and whether
 * equal threads get equal shares. Beside it the same with a POSIX semaphore and a list
 * under a mutex, which is what a program does by hand.
 */
#include "histogram.h"
#include "memory_mrpool.h"
#include "support.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define REGION_SIZE ((size_t)64 << 10)
#define POOL_BYTES ((size_t)4 << 20)
#define N_THREADS_MAX 8
#define N_EQUAL 8
#define N_REGIONS 2 /* that the eight wait for */
#define LIMIT_HOLD_NS 2000 /* spinning: there is one region for all */
#define SLEEP_FROM_NS 100000
#define HOLD_NS 1000000
#define FAIR_MS 1000
#define FAIR_MS_QUICK 100
#define LIMIT_OPS 20000
#define LIMIT_OPS_QUICK 500
#define N_FIRST 4 /* waits of a thread before the line has formed */

/* -- those who are waited for -- */

static struct mrp_context *context;
static struct mrp_pool *pool;
static struct mrp_region *others[POOL_BYTES / REGION_SIZE]; /* held: nobody's */
static size_t n_others;

/* A pool in which exactly n regions are free. */
static bool open_pool(size_t n)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    context = NULL;
    params.max_bytes = POOL_BYTES;
    if (mrp_context_create(NULL, &context) != MRP_OK ||
        mrp_pool_create(context, &params, &pool) != MRP_OK) {
        return sections_fail(context, "waiting");
    }
    n_others = sections_fill(pool, REGION_SIZE, sizeof others / sizeof others[0], others);
    while (n > 0 && n_others > 0) {
        mrp_region_free(others[--n_others]);
        n--;
    }
    mrp_thread_flush(pool);
    return true;
}

static void close_pool(void)
{
    mrp_region_free_many(others, n_others, NULL);
    mrp_context_destroy(context);
}

static void *take_region(void)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    request.wait_ms = 30000;
    return mrp_region_alloc_with(pool, REGION_SIZE, &request);
}

static void give_region(void *item)
{
    mrp_region_free(item);
}

static sem_t semaphore;
static pthread_mutex_t list_mutex = PTHREAD_MUTEX_INITIALIZER;
static void *list[N_THREADS_MAX];
static size_t n_listed;

static void make_list(size_t n)
{
    sem_init(&semaphore, 0, (unsigned)n);
    for (n_listed = 0; n_listed < n; n_listed++) {
        list[n_listed] = &list[n_listed];
    }
}

static void *take_listed(void)
{
    void *item;

    while (sem_wait(&semaphore) != 0) {
    }
    pthread_mutex_lock(&list_mutex);
    item = list[--n_listed];
    pthread_mutex_unlock(&list_mutex);
    return item;
}

static void give_listed(void *item)
{
    pthread_mutex_lock(&list_mutex);
    list[n_listed++] = item;
    pthread_mutex_unlock(&list_mutex);
    sem_post(&semaphore);
}

/* -- those who wait -- */

struct waiter_thread {
    void *(*take)(void);
    void (*give)(void *item);
    size_t n_ops; /* 0: until `ends` */
    double ends, hold_ns;
    size_t n_taken;
    double waited_ns, longest_ns;
    size_t turns, longest_turns; /* of others, while it waited */
    struct worker_histogram histogram;
    bool failed;
};

static struct waiter_thread waiters[N_THREADS_MAX];
static pthread_barrier_t barrier;
static atomic_size_t n_turns; /* regions that anybody has got */

static void hold(double ns)
{
    const struct timespec time = {.tv_nsec = (long)ns};
    double start = worker_wall_ns();

    if (ns >= SLEEP_FROM_NS) {
        nanosleep(&time, NULL);
    }
    while (ns < SLEEP_FROM_NS && worker_wall_ns() - start < ns) {
    }
}

static void note_wait(struct waiter_thread *waiter, double ns, size_t turns)
{
    waiter->n_taken++;
    waiter->waited_ns += ns;
    waiter->turns += turns;
    waiter->longest_ns = ns > waiter->longest_ns ? ns : waiter->longest_ns;
    waiter->longest_turns = turns > waiter->longest_turns ? turns : waiter->longest_turns;
}

static void *run_waiter(void *argument)
{
    struct waiter_thread *waiter = argument;

    pthread_barrier_wait(&barrier);
    for (size_t i = 0;
         waiter->n_ops != 0 ? i < waiter->n_ops : worker_wall_ns() < waiter->ends; i++) {
        size_t turns = atomic_load(&n_turns);
        double start = worker_wall_ns(), waited;
        void *item = waiter->take();

        waited = worker_wall_ns() - start;
        turns = atomic_fetch_add(&n_turns, 1) - turns;
        if (item == NULL) {
            waiter->failed = true;
            break;
        }
        hold(waiter->hold_ns);
        waiter->give(item);
        histogram_add(&waiter->histogram, (uint64_t)waited);
        if (i >= N_FIRST) {
            note_wait(waiter, waited, turns);
        }
    }
    return NULL;
}

static bool run_waiters(size_t n, size_t n_ops, double ms, double hold_ns, bool by_hand)
{
    void *arguments[N_THREADS_MAX];
    bool is_done = true;

    memset(waiters, 0, sizeof waiters);
    for (size_t i = 0; i < n; i++) {
        waiters[i].take = by_hand ? take_listed : take_region;
        waiters[i].give = by_hand ? give_listed : give_region;
        waiters[i].n_ops = n_ops;
        waiters[i].ends = worker_wall_ns() + ms * 1e6;
        waiters[i].hold_ns = hold_ns;
        arguments[i] = &waiters[i];
    }
    pthread_barrier_init(&barrier, NULL, (unsigned)n);
    worker_on_threads(n, run_waiter, arguments);
    pthread_barrier_destroy(&barrier);
    for (size_t i = 0; i < n; i++) {
        is_done = is_done && !waiters[i].failed;
    }
    return is_done;
}

/* -- latency at the limit -- */

static void tell_limit(const char *name, size_t n_threads)
{
    static const struct {
        const char *name;
        double share;
    } quantiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1}};
    static struct worker_histogram all;
    char full[48];

    memset(&all, 0, sizeof all);
    for (size_t i = 0; i < n_threads; i++) {
        histogram_merge(&all, &waiters[i].histogram);
    }
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        snprintf(full, sizeof full, "%s-%s", name, quantiles[i].name);
        memory_tell_value(full, (unsigned)n_threads, "ns",
            histogram_quantile(&all, quantiles[i].share));
    }
}

/* One region for all. */
bool section_limit(const struct memory_arguments *arguments)
{
    static const size_t n_threads[] = {2, 8};
    size_t n_ops = arguments->quick ? LIMIT_OPS_QUICK : LIMIT_OPS;
    bool is_done;

    for (size_t i = 0; i < sizeof n_threads / sizeof n_threads[0]; i++) {
        size_t n = n_threads[i], each = n_ops / n;

        for (unsigned round = 0; round < arguments->repetitions; round++) {
            if (!open_pool(1)) {
                return false;
            }
            is_done = run_waiters(n, each, 0, LIMIT_HOLD_NS, false);
            if (!is_done) {
                return sections_fail(context, "waiting at the limit");
            }
            close_pool();
            tell_limit("limit", n);
            make_list(1);
            run_waiters(n, each, 0, LIMIT_HOLD_NS, true);
            sem_destroy(&semaphore);
            tell_limit("limit-by-hand", n);
        }
    }
    return true;
}

/* -- fairness -- */

static void tell_fairness(const char *by)
{
    double waited = 0, longest = 0, least_taken = 0, most_taken = 0, n_taken = 0;
    double turns = 0, longest_turns = 0;
    char name[48];

    for (size_t i = 0; i < N_EQUAL; i++) {
        double taken = (double)waiters[i].n_taken;

        double most_turns = (double)waiters[i].longest_turns;

        waited += waiters[i].waited_ns;
        turns += (double)waiters[i].turns;
        longest_turns = most_turns > longest_turns ? most_turns : longest_turns;
        n_taken += taken;
        longest = waiters[i].longest_ns > longest ? waiters[i].longest_ns : longest;
        least_taken = i == 0 || taken < least_taken ? taken : least_taken;
        most_taken = taken > most_taken ? taken : most_taken;
    }
    if (n_taken <= 0 || waited <= 0) {
        return;
    }
    snprintf(name, sizeof name, "longest-wait%s", by);
    memory_tell_value(name, N_EQUAL, "ns", longest);
    snprintf(name, sizeof name, "mean-wait%s", by);
    memory_tell_value(name, N_EQUAL, "ns", waited / n_taken);
    snprintf(name, sizeof name, "longest-over-mean%s", by);
    memory_tell_value(name, N_EQUAL, "times", longest / (waited / n_taken));
    snprintf(name, sizeof name, "mean-turns%s", by);
    memory_tell_value(name, N_EQUAL, "times", turns / n_taken);
    snprintf(name, sizeof name, "longest-turns%s", by);
    memory_tell_value(name, N_EQUAL, "count", longest_turns);
    snprintf(name, sizeof name, "most-over-least%s", by);
    memory_tell_value(
        name, N_EQUAL, "times", most_taken / (least_taken > 0 ? least_taken : 1));
}

bool section_waiting(const struct memory_arguments *arguments)
{
    double ms = arguments->quick ? FAIR_MS_QUICK : FAIR_MS;

    for (unsigned round = 0; round < arguments->repetitions; round++) {
        if (!open_pool(N_REGIONS)) {
            return false;
        }
        if (!run_waiters(N_EQUAL, 0, ms, HOLD_NS, false)) {
            return sections_fail(context, "waiting");
        }
        close_pool();
        tell_fairness("");
        make_list(N_REGIONS);
        run_waiters(N_EQUAL, 0, ms, HOLD_NS, true);
        sem_destroy(&semaphore);
        tell_fairness("-by-hand");
    }
    return true;
}
