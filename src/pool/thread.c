/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The arenas of all threads. An arena is made when a thread first needs one, given to a
 * later thread when its own ends, and never unmapped: whoever asks all threads for a
 * class walks them without a lock.
 */
#include "base/thread.h"
#include "base/error.h"
#include "base/handle.h"
#include "base/process.h"
#include "pool/cache.h"
#include "pool/wait.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct mrp_thread {
    struct mrp_cache_arena *arena;
    struct mrp_thread *next; /* made before it; constant */
    uint32_t
        epoch; /* of the process in which somebody has it, or 0; under the process lock */
};

static _Atomic(struct mrp_thread *) threads;

/* Two arenas that have nothing and get nothing: of threads that have none yet, and of
 * those that shall have none. Nobody writes them. */
static _Alignas(64) char no_arenas[sizeof(struct mrp_cache_arena) + 64];
#define NONE_YET ((struct mrp_cache_arena *)(void *)no_arenas)
#define NONE_EVER ((struct mrp_cache_arena *)(void *)(no_arenas + 64))

__thread struct mrp_cache_arena *mrp_bins_v1 = NONE_YET;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* -- making and ending -- */

/* Pools whose regions have been given back: they stay until they have been told. */
struct audience {
    struct mrp_pool *pools[MRP_V1_SLOTS];
    size_t n;
};

/* Give back what an arena keeps of a pool, or of all (NULL). Under the process lock: there
 * a pool in a slot is a live one. Others' pools may be going, and mrp_thread_forget()
 * comes before their end. */
static void empty(
    struct mrp_cache_arena *arena, const struct mrp_pool *pool, struct audience *audience)
{
    audience->n = 0;
    for (size_t i = 0; i < MRP_V1_SLOTS; i++) {
        struct mrp_cache_slot *slot = &arena->slots[i];

        if (slot->charge != 0 && (pool == NULL || pool->cache_slot == i)) {
            struct mrp_pool *closed = mrp_cache_close(slot);

            mrp_add_relaxed(&closed->member.n_visitors, 1);
            audience->pools[audience->n++] = closed;
        }
    }
}

/* Tell who waits in those pools. What they do then may be slow: no lock. */
static void tell(struct audience *audience)
{
    while (audience->n > 0) {
        mrp_pool_tell_all(audience->pools[--audience->n]);
    }
}

/* Empty an arena and let others have it. */
static void retire(struct mrp_thread *thread)
{
    struct audience audience;

    mrp_process_lock();
    empty(thread->arena, NULL, &audience);
    thread->epoch = 0;
    mrp_process_unlock();
    tell(&audience);
}

static void at_thread_exit(void *value)
{
    struct mrp_thread *thread = value;
    bool is_own = mrp_bins_v1 == thread->arena; /* not a child's, which has lost it */

    mrp_bins_v1 = NONE_EVER; /* what other destructors free goes to the depot */
    if (is_own) {
        retire(thread);
    }
}

/* A child has the arenas of its parent's threads, wiped, and none of the threads. */
static void after_fork_in_child(void)
{
    if (mrp_bins_v1 != NONE_EVER) {
        mrp_bins_v1 = NONE_YET;
    }
}

static void prepare(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child);
}

static struct mrp_cache_arena *map_arena(void)
{
    size_t size = sizeof(struct mrp_cache_arena);
    void *address = mrp_reserve_addresses(NULL, size);

    if (address != NULL &&
        (mprotect(address, size, PROT_READ | PROT_WRITE) != 0 ||
            madvise(address, size, MADV_WIPEONFORK) != 0)) {
        munmap(address, size);
        address = NULL;
    }
    return address;
}

/* One that nobody has in this process, or NULL. Under the process lock. */
static struct mrp_thread *find_free(void)
{
    struct mrp_thread *thread = mrp_load_acquire(&threads);

    while (thread != NULL && thread->epoch == mrp_process_epoch) {
        thread = thread->next;
    }
    return thread;
}

/* An empty arena of one's own; NULL when there is no memory for it. */
static struct mrp_thread *acquire(void)
{
    struct mrp_thread *thread;

    mrp_process_lock();
    thread = find_free();
    if (thread != NULL) {
        thread->epoch = mrp_process_epoch;
    }
    mrp_process_unlock();
    if (thread == NULL) {
        thread = calloc(1, sizeof *thread);
        if (thread == NULL) {
            return NULL;
        }
        thread->arena = map_arena();
        if (thread->arena == NULL) {
            free(thread);
            return NULL;
        }
        thread->epoch = mrp_process_epoch;
        mrp_process_lock();
        thread->next = mrp_load_relaxed(&threads);
        mrp_store_release(
            &threads, thread); /* pairs with the acquire in mrp_thread_next() */
        mrp_process_unlock();
    }
    mrp_thread_refresh(thread->arena);
    return thread;
}

struct mrp_cache_arena *mrp_thread_arena(void)
{
    struct mrp_thread *thread;
    struct mrp_error before;

    if (mrp_bins_v1 == NONE_EVER) {
        return NULL;
    }
    if (mrp_bins_v1 != NONE_YET) {
        return mrp_bins_v1;
    }
    before = *mrp_error_last();
    pthread_once(&once, prepare);
    thread = mrp_thread_exit_prepare(at_thread_exit) == MRP_OK ? acquire() : NULL;
    if (thread != NULL && mrp_thread_exit_set(thread) != MRP_OK) {
        retire(thread);
        thread = NULL;
    }
    if (thread == NULL) { /* the depot does, until the next try */
        mrp_error_restore(&before);
        return NULL;
    }
    mrp_bins_v1 = thread->arena;
    return thread->arena;
}

void mrp_thread_refresh(struct mrp_cache_arena *arena)
{
    mrp_range_window(&arena->window_begin, &arena->checked_end, &arena->unchecked_begin,
        &arena->unchecked_end);
}

/* -- of all threads -- */

struct mrp_cache_slot *mrp_thread_next(
    const struct mrp_pool *pool, struct mrp_thread **cursor)
{
    struct mrp_cache_slot *slot;

    if (pool->cache_slot == MRP_NO_SLOT) {
        return NULL;
    }
    do {
        *cursor = *cursor == NULL ? mrp_load_acquire(&threads) : (*cursor)->next;
        if (*cursor == NULL) {
            return NULL;
        }
        slot = &(*cursor)->arena->slots[pool->cache_slot];
    } while (mrp_load_relaxed(&slot->charge) == 0);
    return slot;
}

void mrp_thread_forget(struct mrp_pool *pool)
{
    struct mrp_thread *cursor = NULL;
    struct mrp_cache_slot *slot;

    mrp_process_lock(); /* a thread that ends meanwhile comes before, or finds nothing */
    while ((slot = mrp_thread_next(pool, &cursor)) != NULL) {
        mrp_cache_close(slot);
    }
    mrp_process_unlock();
}

/* -- for users -- */

enum mrp_status mrp_thread_flush(struct mrp_pool *pool)
{
    struct mrp_cache_arena *arena = mrp_bins_v1;
    struct audience audience;

    if (pool != NULL && mrp_pool_check_handle(pool) != MRP_OK) {
        return mrp_error_last()->status;
    }
    if (arena != NONE_YET && arena != NONE_EVER) {
        mrp_process_lock();
        empty(arena, pool, &audience);
        mrp_process_unlock();
        tell(&audience);
    }
    return MRP_OK;
}

enum mrp_status mrp_thread_slot_create(struct mrp_thread_slot **created)
{
    struct mrp_thread *thread;
    void *handle;

    if (created == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "slot is NULL: pass where to store the handle");
    }
    pthread_once(&once, prepare);
    thread = acquire();
    if (thread == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, errno,
            "cannot map %zu KiB of addresses for a thread slot: free memory, or raise "
            "vm.max_map_count",
            sizeof(struct mrp_cache_arena) / MRP_KIB);
    }
    handle = mrp_handle_create(MRP_HANDLE_THREAD, thread);
    if (handle == NULL) {
        retire(thread);
        return mrp_error_last()->status;
    }
    *created = handle;
    return MRP_OK;
}

enum mrp_status mrp_thread_slot_destroy(struct mrp_thread_slot *slot)
{
    void *thread;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_THREAD, slot, &thread);

    if (status == MRP_OK) {
        status = mrp_handle_destroy(MRP_HANDLE_THREAD, slot);
    }
    if (status == MRP_OK) {
        retire(thread);
    }
    return status;
}

enum mrp_status mrp_thread_enter(
    struct mrp_thread_slot *handle, struct mrp_cache_arena **before)
{
    void *thread;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_THREAD, handle, &thread);

    if (status == MRP_OK) {
        *before = mrp_bins_v1;
        mrp_bins_v1 = ((struct mrp_thread *)thread)->arena;
    }
    return status;
}

void mrp_thread_leave(struct mrp_cache_arena *before)
{
    mrp_bins_v1 = before;
}
