/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Thread models for tests.
 *
 * counting: POSIX threads that are not called "pthreads", so that the library waits as
 * under any user's model; counts what is called. Any test program runs under it with
 * MRP_TEST_THREAD_MODEL=counting in the environment, and fails if it did not use it. A
 * line "thread model: counting" in a comment near the head of a test runs it so as a
 * second test, <suite>.<name>+counting.
 *
 * user threads: stackful threads that a few OS threads run in turn and that move between
 * them at each yield, as those of Argobots, HPX and Boost.Fiber do.
 */
#ifndef TEST_THREAD_MODELS_H
#define TEST_THREAD_MODELS_H

#include "mrpool/thread.h"

#include <stdatomic.h>

struct test_thread_counts {
    atomic_size_t n_id, n_yield, n_sleep, n_tls_create, n_tls_set, n_tls_get;
    atomic_size_t longest_sleep; /* ns asked for */
};
extern struct test_thread_counts test_thread_counts;

/** The counting model over the one in force at the first call. */
const struct mrp_thread_model *test_counting_model(void);

/** Whether ThreadSanitizer or Valgrind watches: neither follows from stack to stack. */
bool test_lacks_user_threads(void);

/** For mrp_thread_model_set, also while nothing runs. */
extern const struct mrp_thread_model test_user_threads;

typedef void test_user_work(void *shared, size_t number);

/** Run work(shared, 0 ... n_threads - 1) as user threads on n_workers OS threads; returns
 *  when all have ended. CMocka's assertions do not work in there. */
void test_user_threads_run(
    size_t n_workers, size_t n_threads, test_user_work *work, void *shared);

#endif
