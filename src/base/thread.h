/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The thread model in force, and what the pool does by it: wait, and learn that a thread
 * has ended.
 */
#ifndef MRP_BASE_THREAD_H
#define MRP_BASE_THREAD_H

#include "mrpool/thread.h"

#include <pthread.h>
#include <stdatomic.h>

/** The model in force, which from now on stays. Never NULL. */
const struct mrp_thread_model *mrp_thread_model_use(void);

/** The calling thread: a user-level one where the model has such. Never 0. */
uint64_t mrp_thread_id(void);

/** Where threads wait for a change of what a mutex protects: a condition variable under
 * POSIX threads, a counter that is polled under any other model. */
struct mrp_waitpoint {
    pthread_cond_t woken;
    const struct mrp_thread_model *model; /* NULL: POSIX threads */
    _Atomic uint64_t wakes;
};

/** Settles the thread model. */
void mrp_wait_init(struct mrp_waitpoint *point);

/** Nobody waits there. */
void mrp_wait_destroy(struct mrp_waitpoint *point);

/** Release the mutex, wait until woken, take it again. Wakes may be spurious: wait in a
 *  loop. The caller may come back on another OS thread: addresses of thread-local data
 *  found before are another thread's. */
void mrp_wait(struct mrp_waitpoint *point, pthread_mutex_t *mutex);

/** mrp_wait, but no longer than until `deadline`, ns of CLOCK_MONOTONIC: false then. */
bool mrp_wait_until(
    struct mrp_waitpoint *point, pthread_mutex_t *mutex, uint64_t deadline);

/** Wake all who wait. A change made under the mutex is not missed, whether the mutex is
 *  still held or not. */
void mrp_wake_all(struct mrp_waitpoint *point);

/** Have at_exit(value) run at the end of each OS thread that has set a value. To be
 *  called before the first mrp_thread_exit_set, as often as one likes, always with the
 *  same function: the library has one key. May yield. */
enum mrp_status mrp_thread_exit_prepare(void (*at_exit)(void *value));

/** The calling OS thread's value; NULL: its end is nobody's concern. The last one counts.
 *  Nothing runs for the thread that ends the process. Never yields. */
enum mrp_status mrp_thread_exit_set(void *value);

#endif
