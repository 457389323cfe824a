/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Thread caches: what stands between a thread and the depot. mrpool/inline.h has the
 * layout and the fast path, docs/CONCURRENCY.md the arguments.
 */
#ifndef MRP_POOL_CACHE_H
#define MRP_POOL_CACHE_H

#include "pool/pool.h"

struct mrp_thread; /* what a thread, or a thread slot, has: thread.c */

/* -- cache.c: one thread, one pool. No lock, unless said. -- */

/** A free region from the calling thread's cache or, without the mutex, from the depot.
 * NULL: there is none, or the depot is to be asked under the mutex. */
struct mrp_region *mrp_cache_take(struct mrp_pool *pool, unsigned class);

/** Up to `count`; from the cache first. */
size_t mrp_cache_take_many(
    struct mrp_pool *pool, unsigned class, size_t count, struct mrp_region **regions);

/** Give back to the cache, or to the depot when that has no room or others ask. Cannot
 * fail. Takes the mutex to wake a waiter, and the first time a thread meets a class. */
void mrp_cache_put(struct mrp_pool *pool, struct mrp_region *region);

/** Regions of one class. */
void mrp_cache_put_many(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count);

/** Close the calling thread's bin of the class if others ask for it; tell them then. */
void mrp_cache_give_asked(struct mrp_pool *pool, unsigned class);

/** Give everything in a slot back to its pool, and its magazines; its bins are zero then.
 */
struct mrp_pool *mrp_cache_close(struct mrp_cache_slot *slot);

/* -- thread.c: all threads -- */

/** The calling thread's arena, made at its first use; NULL if it cannot be had, or the
 * thread is ending. */
struct mrp_cache_arena *mrp_thread_arena(void);

/** Let the arena know of descriptors in ranges that are newer than it. */
void mrp_thread_refresh(struct mrp_cache_arena *arena);

/** The pool's slot in every arena, one at a time; NULL as *cursor begins, and ends. */
struct mrp_cache_slot *mrp_thread_next(
    const struct mrp_pool *pool, struct mrp_thread **cursor);

/** Empty the pool's slot in every arena. No thread uses the pool. */
void mrp_thread_forget(struct mrp_pool *pool);

/** Have alloc and free of the calling thread use a slot's caches; returns what it used.
 */
enum mrp_status mrp_thread_enter(
    struct mrp_thread_slot *handle, struct mrp_cache_arena **before);
void mrp_thread_leave(struct mrp_cache_arena *before);

/* -- arithmetic -- */

/** The magazine whose array begins at `bottom`. */
static inline struct mrp_magazine *mrp_magazine_of(struct mrp_region **bottom)
{
    return (struct mrp_magazine *)(void *)((char *)bottom -
        offsetof(struct mrp_magazine, regions));
}

/** Calls `statement` for each bin of a slot that has magazines. */
#define MRP_FOR_ACTIVE(slot, bin) \
    for (unsigned bin = mrp_next_active(slot, 0); bin < MRP_V1_BINS; \
         bin = mrp_next_active(slot, bin + 1))

static inline unsigned mrp_next_active(const struct mrp_cache_slot *slot, unsigned bin)
{
    for (; bin < MRP_V1_BINS; bin = (bin | 63) + 1) {
        uint64_t word = mrp_load_relaxed(&slot->active[bin / 64]) >> bin % 64;

        if (word != 0) {
            return bin + (unsigned)__builtin_ctzl(word);
        }
    }
    return MRP_V1_BINS;
}

/** Regions in a bin; a guess while its thread is at work. */
static inline size_t mrp_bin_count(
    const struct mrp_cache_slot *slot, unsigned bin, size_t capacity)
{
    size_t loaded = (size_t)(mrp_load_relaxed(&slot->top[bin]) -
        mrp_load_relaxed(&slot->bottom[bin]));
    struct mrp_magazine *previous = mrp_load_relaxed(&slot->previous[bin]);

    return (loaded <= capacity ? loaded
                               : 0) + /* top of one magazine, bottom of another */
        (previous == NULL ? 0 : mrp_load_relaxed(&previous->count));
}

#endif
