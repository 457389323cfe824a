/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the library learns of the end of a thread: once, under any model, also where the
 * model fails and across a fork.
 */
#include "thread_child.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>

/* -- the end of a thread -- */

#define BATCH 32

struct leaver {
    pthread_t thread;
    pthread_barrier_t *start;
    enum {
        SET_ONCE,
        SET_TWICE,
        SET_ANOTHER,
        SET_BACK,
        SET_NEVER,
        HABITS
    } habit;
    atomic_size_t n_exits, n_false_exits;
};

static void note_exit(void *value)
{
    atomic_fetch_add((atomic_size_t *)value, 1);
}

static enum mrp_status set_exit_value(void *value)
{
    enum mrp_status status = mrp_thread_exit_prepare(note_exit);

    return status == MRP_OK ? mrp_thread_exit_set(value) : status;
}

static void *leave(void *argument)
{
    struct leaver *leaver = argument;

    pthread_barrier_wait(leaver->start);
    if (leaver->habit == SET_NEVER) {
        return NULL;
    }
    if (leaver->habit == SET_ANOTHER) {
        EXPECT(set_exit_value(&leaver->n_false_exits) == MRP_OK);
    }
    EXPECT(set_exit_value(&leaver->n_exits) == MRP_OK);
    if (leaver->habit == SET_TWICE) {
        EXPECT(set_exit_value(&leaver->n_exits) == MRP_OK);
    }
    if (leaver->habit == SET_BACK) {
        EXPECT(set_exit_value(NULL) == MRP_OK);
    }
    EXPECT(atomic_load(&leaver->n_exits) == 0);
    return NULL;
}

static void run_leavers(const struct mrp_thread_model *model)
{
    size_t n_batches = test_is_watched() ? 10 : 150;
    struct leaver leavers[BATCH];
    pthread_barrier_t start;

    pthread_barrier_init(&start, NULL, BATCH);
    for (size_t batch = 0; batch < n_batches; batch++) {
        memset(leavers, 0, sizeof leavers);
        for (size_t i = 0; i < BATCH; i++) {
            leavers[i].start = &start;
            leavers[i].habit = i % HABITS;
            EXPECT(pthread_create(&leavers[i].thread, NULL, leave, &leavers[i]) == 0);
        }
        for (size_t i = 0; i < BATCH; i++) {
            pthread_join(leavers[i].thread, NULL);
            EXPECT(atomic_load(&leavers[i].n_exits) == (leavers[i].habit < SET_BACK));
            EXPECT(atomic_load(&leavers[i].n_false_exits) == 0);
        }
    }
    pthread_barrier_destroy(&start);
    EXPECT(atomic_load(&test_thread_counts.n_tls_create) == (model != NULL ? 1 : 0));
}

static void exit__runs_once_in_each_of_thousands_of_threads(void **state)
{
    (void)state;
    under_both(run_leavers);
}

/* -- a model that fails -- */

static size_t n_failures_left;
static bool fails_silently;

static enum mrp_status fail_or(enum mrp_status status)
{
    if (n_failures_left == 0) {
        return status;
    }
    n_failures_left--;
    return fails_silently ? MRP_ERR_LIMIT : mrp_fail(MRP_ERR_LIMIT, 7, "no more keys");
}

static enum mrp_status failing_tls_create(void (*at_exit)(void *value), void **key)
{
    enum mrp_status status = fail_or(MRP_OK);

    return status == MRP_OK ? test_counting_model()->tls_create(at_exit, key) : status;
}

static enum mrp_status failing_tls_set(void *key, void *value)
{
    enum mrp_status status = fail_or(MRP_OK);

    return status == MRP_OK ? test_counting_model()->tls_set(key, value) : status;
}

static void fail_and_recover(const struct mrp_thread_model *unused)
{
    static atomic_size_t value;

    (void)unused;
    EXPECT(is_refused(mrp_thread_exit_set(&value), MRP_ERR_UNAVAILABLE, "no key"));
    for (int round = 0; round < 2; round++) { /* tls_create, then tls_set */
        const char *slot = round == 0 ? "failing: tls_create" : "failing: tls_set";

        n_failures_left = 2;
        fails_silently = false;
        EXPECT(is_refused(set_exit_value(&value), MRP_ERR_LIMIT, "no more keys"));
        EXPECT(mrp_error_last()->native == 7);
        fails_silently = true; /* the last record is no sentence for this one */
        EXPECT(is_refused(set_exit_value(&value), MRP_ERR_LIMIT, slot));
        n_failures_left = 0;
        mrp_fail(MRP_ERR_STALE, 3, "before");
        EXPECT(set_exit_value(round == 0 ? NULL : &value) == MRP_OK);
        EXPECT(is_refused(MRP_ERR_STALE, MRP_ERR_STALE, "before"));
    }
}

static void exit__a_model_that_fails_is_asked_again(void **state)
{
    struct mrp_thread_model failing = *test_counting_model();

    (void)state;
    failing.name = "failing";
    failing.tls_create = failing_tls_create;
    failing.tls_set = failing_tls_set;
    in_child(fail_and_recover, &failing);
}

static void use_up_keys(const struct mrp_thread_model *unused)
{
    static pthread_key_t keys[PTHREAD_KEYS_MAX];
    static atomic_size_t value;
    size_t n_keys = 0;

    (void)unused;
    while (n_keys < PTHREAD_KEYS_MAX && pthread_key_create(&keys[n_keys], NULL) == 0) {
        n_keys++;
    }
    EXPECT(is_refused(set_exit_value(&value), MRP_ERR_LIMIT, "pthread_key_create"));
    EXPECT(mrp_error_last()->native == EAGAIN);
    pthread_key_delete(keys[--n_keys]);
    EXPECT(set_exit_value(&value) == MRP_OK);
}

static void exit__keys_of_the_process_are_used_up(void **state)
{
    (void)state;
    in_child(use_up_keys, NULL);
}

/* -- while another thread creates the key -- */

static atomic_int creation; /* 1: a thread is creating the key; 2: it may go on */

static enum mrp_status slow_tls_create(void (*at_exit)(void *value), void **key)
{
    int nobody = 0;

    if (atomic_compare_exchange_strong(&creation, &nobody, 1)) {
        while (atomic_load(&creation) != 2) {
            sched_yield();
        }
    }
    return test_counting_model()->tls_create(at_exit, key);
}

static void *set_exit(void *value)
{
    EXPECT(set_exit_value(value) == MRP_OK);
    return NULL;
}

static void start_creation(pthread_t *thread, atomic_size_t *value)
{
    EXPECT(pthread_create(thread, NULL, set_exit, value) == 0);
    while (atomic_load(&creation) != 1) {
        sched_yield();
    }
}

static void join_creation(const struct mrp_thread_model *unused)
{
    static atomic_size_t values[BATCH];
    pthread_t threads[BATCH];

    (void)unused;
    start_creation(&threads[0], &values[0]);
    for (size_t i = 1; i < BATCH; i++) {
        EXPECT(pthread_create(&threads[i], NULL, set_exit, &values[i]) == 0);
    }
    while (atomic_load(&test_thread_counts.n_yield) == 0) {
        sched_yield(); /* till one of them waits */
    }
    atomic_store(&creation, 2);
    for (size_t i = 0; i < BATCH; i++) {
        pthread_join(threads[i], NULL);
        EXPECT(atomic_load(&values[i]) == 1);
    }
    EXPECT(atomic_load(&test_thread_counts.n_tls_create) == 1);
    EXPECT(atomic_load(&test_thread_counts.n_yield) > 0);
}

static void exit__the_key_is_created_once(void **state)
{
    struct mrp_thread_model slow = *test_counting_model();

    (void)state;
    slow.name = "slow";
    slow.tls_create = slow_tls_create;
    in_child(join_creation, &slow);
}

/* The child has no thread that would go on with it. */
static void fork_meanwhile(const struct mrp_thread_model *unused)
{
    static atomic_size_t value;
    pthread_t thread;
    pid_t child;
    int status = 0;

    (void)unused;
    start_creation(&thread, &value);
    child = fork();
    if (child == 0) {
        alarm(60);
        set_exit(&value);
        EXPECT(is_in_force("slow"));
        _exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child && status == 0);
    atomic_store(&creation, 2);
    pthread_join(thread, NULL);
    EXPECT(atomic_load(&value) == 1);
    EXPECT(atomic_load(&test_thread_counts.n_tls_create) == 1);
}

static void fork__while_the_key_is_created(void **state)
{
    struct mrp_thread_model slow = *test_counting_model();

    (void)state;
    slow.name = "slow";
    slow.tls_create = slow_tls_create;
    in_child(fork_meanwhile, &slow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit__runs_once_in_each_of_thousands_of_threads),
        cmocka_unit_test(exit__a_model_that_fails_is_asked_again),
        cmocka_unit_test(exit__keys_of_the_process_are_used_up),
        cmocka_unit_test(exit__the_key_is_created_once),
        cmocka_unit_test(fork__while_the_key_is_created),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
