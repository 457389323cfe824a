/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The depot: free regions of a class on its stacks, and those who ask for them.
 */
#ifndef MRP_POOL_DEPOT_H
#define MRP_POOL_DEPOT_H

#include "pool/pool.h"

/** One free region of the class without any lock, or NULL. */
struct mrp_region *mrp_depot_take(struct mrp_pool *pool, unsigned class);

/** One free region, loose or from a magazine (whose rest becomes loose). Under the mutex.
 */
struct mrp_region *mrp_depot_take_locked(struct mrp_pool *pool, unsigned class);

/** Give one region back; cannot fail. */
void mrp_depot_put(struct mrp_pool *pool, struct mrp_region *region);

/** Take up to `count` regions; whole magazines first. Lock-free. */
size_t mrp_depot_take_many(
    struct mrp_pool *pool, unsigned class, size_t count, struct mrp_region **regions);

/** A magazine of the class: full, or empty to be filled. NULL when there is none. */
struct mrp_magazine *mrp_depot_take_full(struct mrp_pool *pool, unsigned class);
struct mrp_magazine *mrp_depot_take_empty(struct mrp_pool *pool, unsigned class);

/** Give one back: full, or with no regions in it. */
void mrp_depot_put_full(
    struct mrp_pool *pool, unsigned class, struct mrp_magazine *magazine);
void mrp_depot_put_empty(
    struct mrp_pool *pool, unsigned class, struct mrp_magazine *magazine);

/** Threads that are dry, or were refused. Whoever has put something into the depot calls
 * mrp_depot_tell() then. */
static inline uint32_t mrp_depot_asks(const struct mrp_pool *pool, unsigned class)
{
    /* pairs with the fence in ask() of grow.c */
    return mrp_load_seq_cst(&pool->depots[class].asks);
}

/** Link regions[0..count), count > 0, and push them on `loose`. */
void mrp_depot_put_loose(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count);

/** Give back regions of one class; full magazines where there are enough. */
void mrp_depot_put_many(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count);

/** Magazines for `n_regions` more regions of the class. Under the mutex. */
enum mrp_status mrp_depot_provision(
    struct mrp_pool *pool, unsigned class, size_t n_regions);

/** Chain a region into a list; take its first, or NULL. Under the mutex. */
void mrp_list_push(
    struct mrp_pool *pool, struct mrp_region_list *list, struct mrp_region *region);
struct mrp_region *mrp_list_pop(struct mrp_pool *pool, struct mrp_region_list *list);

#endif
