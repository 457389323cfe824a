/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The line of those who wait for memory at the limit: first come, first served.
 *
 * A region that comes back is handed to the oldest waiter of its class. Room that only
 * growth can use (a slab has become free, a chunk idle, a charge been lifted) is counted
 * in n_rooms and offered to the oldest waiter of all, who tries to grow; then, whether
 * that has helped or not, to the next one. One at a time has an offer. While anybody waits
 * no thread caches regions of the pool, so that every free passes here.
 *
 * Who makes room only counts it (mrp_line_room). What follows, mrp_line_settle(), is done
 * by the same thread before its call ends, and by every waiter before it sleeps.
 */
#ifndef MRP_POOL_WAIT_H
#define MRP_POOL_WAIT_H

#include "pool/depot.h"
#include "pool/pool.h"

/** Room has come that growth can use. Under the mutex. */
void mrp_line_room(struct mrp_pool *pool);

/** Hand out what is there, sift what may have a free slab, offer what room there is. Under
 *  the mutex, released meanwhile. */
void mrp_line_settle(struct mrp_pool *pool);

/** End of a call that may have made room, in this pool or others, or served somebody: see
 *  to those who wait. No lock; calls waiters back. */
void mrp_line_end(struct mrp_pool *pool);

/** Regions have reached the depot of a class that is asked for: tell who waits. After the
 *  push. No lock; calls waiters back. regions: those given back, NULL where they are not
 *  known (a whole bin). */
void mrp_depot_tell(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count);

/** The same after whole caches have been given back, of any classes, by a visitor. */
void mrp_pool_tell_all(struct mrp_pool *pool);

/** Try to get the region by growing: under the mutex, released meanwhile. */
typedef struct mrp_region *mrp_line_attempt(struct mrp_pool *pool, void *user);

/** Stand in line until there is a region, or wait_ms have passed (UINT32_MAX: for ever),
 *  with the last attempt's record and how long it was. Under the mutex, released
 *  meanwhile. class: MRP_CLASS_BARE for larger than huge. */
struct mrp_region *mrp_line_wait(struct mrp_pool *pool, unsigned class, size_t size,
    uint32_t wait_ms, mrp_line_attempt *attempt, void *user);

/** The same for one who does not sleep: a region at once, or NULL, and it stands in line,
 *  or has been called back already: the waiter is not the caller's to look at any more. No
 *  lock; gives back what this thread's caches keep, and calls waiters back. */
struct mrp_region *mrp_line_join(struct mrp_pool *pool, unsigned class, size_t size,
    struct mrp_waiter *waiter, mrp_line_attempt *attempt, void *user);

/** Whether one who comes now has to stand in line instead of growing: room has come that
 *  those who wait have not tried yet. Under the mutex. */
static inline bool mrp_line_is_served(const struct mrp_pool *pool)
{
    return mrp_load_relaxed(&pool->n_waiting) > 0 &&
        (pool->n_offered > 0 || pool->n_rooms != pool->n_rooms_seen);
}

/** Serve this pool's line, for another pool's thread; ends a visit. */
void mrp_line_serve(struct mrp_pool *pool);

/** Call all waiters back, as the pool goes. No lock. */
void mrp_line_close(struct mrp_pool *pool);

#endif
