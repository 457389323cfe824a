/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: how a call of this library waits, and when it learns that a thread has ended.
 *
 * A program whose threads are POSIX threads needs nothing of this. One that runs
 * user-level threads (Argobots, HPX, Boost.Fiber) on a few OS threads registers a table
 * of its own before its first pool:
 *
 *     static const struct mrp_thread_model argobots = {
 *         .struct_size = sizeof argobots, .name = "argobots",
 *         .id = own_id, .yield = own_yield, .sleep = own_sleep};
 *     mrp_thread_model_set(&argobots);
 *
 * Which calls wait? Those that grow, register or evict, for another thread that is
 * doing it now. Such a call must not block the OS thread: what it waits for may be a
 * user-level thread of the same OS thread, and would never run. So it yields.
 *
 * What belongs to whom:
 *   - free regions kept by a thread belong to the OS thread that runs the call. Taking
 *     one from there and giving one back never yields, so user-level threads may move to
 *     another OS thread between any two calls;
 *   - the error record (mrp_error_last) belongs to the OS thread too: read it before the
 *     user-level thread yields;
 *   - no lock of the library is held while it yields, and none is held while a provider,
 *     a backend or region_init is called, so these may yield as well.
 */
#ifndef MRPOOL_THREAD_H
#define MRPOOL_THREAD_H

#include "mrpool/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mrp_pool;
struct mrp_thread_slot;

/** A kind of threads. Functions, and the text of the name, stay valid until the process
 *  ends. They are called from any thread, several at once, also from one that the model
 *  did not make (yield may then do nothing). None of them may call this library, and
 *  none but yield and sleep may let another user-level thread run. */
struct mrp_thread_model {
    size_t struct_size;
    const char *name; /**< for messages: "argobots" */

    /* required */
    uint64_t (*id)(void); /**< of the calling thread; no other live one has it; not 0 */
    void (*yield)(void); /**< let others run; may return on another OS thread */
    /** let others run for about so long, at most 100 us; may block the OS thread where
     *  the model has nothing better, may return early, may return on another one */
    void (*sleep)(uint64_t nanoseconds);

    /* All three or none (those of POSIX threads, which suit all models whose OS threads
     * are such): one value for each OS thread. */
    /** A key; its value is NULL in every thread. at_exit(value) runs in each OS thread
     *  whose value is not NULL, as it ends, with the value reset to NULL before. */
    enum mrp_status (*tls_create)(void (*at_exit)(void *value), void **key);
    enum mrp_status (*tls_set)(void *key, void *value); /**< the calling thread's */
    void *(*tls_get)(void *key); /**< of the calling thread */
};
#define MRP_THREAD_MODEL_INIT \
    { \
        sizeof(struct mrp_thread_model), NULL, NULL, NULL, NULL, NULL, NULL, NULL \
    }

/** Choose the model of this process; NULL: POSIX threads, the default. The table is
 *  copied. A forked child keeps it.
 *  @return MRP_ERR_INVALID names a slot that is missing; MRP_ERR_BUSY once the library
 *  has used a model, which the first pool does, unless it is this very one. */
MRP_API enum mrp_status mrp_thread_model_set(const struct mrp_thread_model *model);

/** Fill `model` with the one in force, all its slots: "pthreads" by default. */
MRP_API enum mrp_status mrp_thread_model_query(struct mrp_thread_model *model);

/* -- the caches of a thread --
 *
 * Each thread keeps a few free regions of each size class it uses, up to two magazines of
 * 126 regions or 2 MiB (a 1024th of max_bytes if that is less), and exchanges them with
 * the pool a magazine at a time. What a thread keeps, others do not get, until it frees a
 * region of that class after they have run dry: then it gives back all it has of the
 * class. A thread's caches are given back when it ends. 64 pools at a time have them,
 * fewer where pools have leaked or those that check have made way for those that do not;
 * later pools work without. */

/** Give back what the calling thread keeps of the pool, or of all pools (NULL): before it
 *  blocks for long. Waits for other threads that begin or end, not for growth. */
MRP_API enum mrp_status mrp_thread_flush(struct mrp_pool *pool);

/** A thread's caches as an object, for schedulers whose tasks are no threads: whoever
 *  names it in mrp_region_request.slot uses it instead of the calling thread's. One
 *  thread at a time. MRP_ERR_MEMORY, MRP_ERR_LIMIT (1,048,576 objects). */
MRP_API enum mrp_status mrp_thread_slot_create(struct mrp_thread_slot **slot);

/** Give back all that it keeps. */
MRP_API enum mrp_status mrp_thread_slot_destroy(struct mrp_thread_slot *slot);

#ifdef __cplusplus
}
#endif
#endif
