/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Regions that are a chunk, and how any region begins and ends.
 */
#ifndef MRP_POOL_LARGE_H
#define MRP_POOL_LARGE_H

#include "pool/pool.h"

/* -- alloc.c -- */

/** mrp_region_alloc of what the calling thread's cache does not have at hand, for
 *  `caller`: a return address. */
struct mrp_region *mrp_region_alloc_slow(
    struct mrp_pool *pool, size_t size, const void *caller);

/* -- large.c -- */

/** A region with a chunk of its own, from the idle ones or new. */
struct mrp_region *mrp_large_alloc(struct mrp_pool *pool, size_t size, size_t alignment,
    const struct mrp_region_request *request);

/** From the idle ones, not live yet; or NULL. */
struct mrp_region *mrp_large_reuse(struct mrp_pool *pool, size_t size);

/** A region beyond the pool's budgets, mapped and registered for itself. */
struct mrp_region *mrp_large_temporary(
    struct mrp_pool *pool, size_t size, size_t alignment, int node);

/** Stand in line for one, without waiting; see mrp_line_join. */
struct mrp_region *mrp_large_join(
    struct mrp_pool *pool, size_t size, struct mrp_waiter *waiter);

/** Give back a region that is a chunk: idle large ones are kept, user memory is
 * deregistered. */
enum mrp_status mrp_large_free(struct mrp_pool *pool, struct mrp_region *region);

/** Build a chunk for `request` with a region of its own; NULL with an error record. */
struct mrp_region *mrp_large_make(
    struct mrp_pool *pool, struct mrp_chunk_request *request, enum mrp_region_kind kind);

/** Take a chunk's region and number away and deregister it. Its memory goes back to where
 * it came from, unless the caller wants it: then as mrp_chunk_forget. */
enum mrp_status mrp_large_dissolve(struct mrp_chunk *chunk, bool is_memory_wanted);

/** That the caller's own memory can be: not NULL, not empty, no overflow. */
enum mrp_status mrp_large_check_range(const void *address, size_t size, const char *verb);

/** Deregister and unmap a region that is a chunk and that nobody holds, whatever its
 *  network says; what that refuses is parked, with MRP_ERR_REGISTER. */
enum mrp_status mrp_large_discard(struct mrp_pool *pool, struct mrp_region *region);

/** A descriptor without memory, for a slice or a region that is a chunk; NULL with an
 *  error record. */
struct mrp_region *mrp_region_take_bare(struct mrp_pool *pool);

/** Verify a free region (where checks are full, or free blocks are poisoned) and make it
 *  live. The region is lost for use where that fails. */
enum mrp_status mrp_region_hand_over(
    struct mrp_pool *pool, struct mrp_region *region, unsigned class, size_t size);

/** Run region_init, if there is one, on a region whose state is live; a failure has a
 * record. */
enum mrp_status mrp_region_init_user(struct mrp_pool *pool, struct mrp_region *region);

/** Make a region live for its new owner. */
static inline void mrp_region_begin(
    struct mrp_pool *pool, struct mrp_region *region, size_t size)
{
    if (!mrp_is_unchecked(pool, region)) {
        mrp_v1_begin(region, size);
    }
}

/** MRP_OK for a free region of the class whose descriptor is as the pool wrote it. Where
 * checks are full. */
enum mrp_status mrp_region_verify(
    struct mrp_pool *pool, const struct mrp_region *region, unsigned class);

/** End a region's life: back to its depot, its chunk, or its root. */
enum mrp_status mrp_region_end(struct mrp_pool *pool, struct mrp_region *region);

/** From live to free: of two that end one region at once, one wins, and the other has
 *  MRP_ERR_STALE. */
enum mrp_status mrp_region_claim(struct mrp_region *region);

#endif
