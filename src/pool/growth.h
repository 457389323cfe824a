/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory that comes and goes: slabs, sifting, chunks and their budgets, the slow path of a
 * request.
 */
#ifndef MRP_POOL_GROWTH_H
#define MRP_POOL_GROWTH_H

#include "pool/pool.h"

/** The chunk that is idle. */
static inline struct mrp_chunk *mrp_idle_chunk(const struct mrp_retained *item)
{
    return (struct mrp_chunk *)(void *)((char *)(uintptr_t)item -
        offsetof(struct mrp_chunk, retained));
}

/* -- slab.c: all under the mutex -- */

/** A slab for the class, from a chunk with room, on the class's list and announced as
 *  being cut. MRP_ERR_AGAIN, without a record, when no chunk has room;
 *  MRP_ERR_LIMIT when what is left is reserved for other tiers. */
enum mrp_status mrp_slab_take(
    struct mrp_pool *pool, unsigned class, struct mrp_slab **slab);

/** Descriptors without memory, for slices and regions that are a chunk. */
enum mrp_status mrp_slab_take_bare(struct mrp_pool *pool, struct mrp_slab **slab);

/** The granules of a slab whose regions are all collected go back to its chunk; they are
 *  live no more. The record stays retired until mrp_slab_recycle: some list may still
 *  hold its regions. */
void mrp_slab_retire(struct mrp_pool *pool, struct mrp_slab *slab);
void mrp_slab_recycle(struct mrp_pool *pool, struct mrp_slab *slab);

/** MRP_ERR_LIMIT when `size` more bytes for a tier (MRP_TIERS: for none) would not leave the
 *  others what they may still claim: of what is not mapped, of room in chunks, and of idle
 *  memory, which growth takes first. */
enum mrp_status mrp_heed_reserves(struct mrp_pool *pool, unsigned tier, size_t size);

/** Put a chunk on the list of those with room, oldest first, unless it is there. */
void mrp_chunk_offer(struct mrp_pool *pool, struct mrp_chunk *chunk);

void mrp_chunk_retract(struct mrp_pool *pool, struct mrp_chunk *chunk);

/** Bytes from a thread's arena to its bin of the class; 0: it has none. */
uint32_t mrp_bin_offset(const struct mrp_pool *pool, unsigned class);

/* -- trim.c -- */

/** Take all free regions of the class off the stacks, retire the slabs that are nothing
 *  but free, put the others back; chunks without slabs go to the retention list. Under the
 *  mutex, which is released now and then; waits for who sifts already. */
void mrp_pool_sift(struct mrp_pool *pool, unsigned class);

/** The same for all classes, or for those that seem to have a slab's worth of free regions;
 *  true when that has made room. */
bool mrp_pool_sift_all(struct mrp_pool *pool, bool is_thorough);

/** Sift all; when it returns, what has become idle can be found as such. True when room has
 *  been made, by whomever, since the number of openings was as given. No lock. */
bool mrp_pool_regroup(struct mrp_pool *pool, uint64_t n_openings);
uint64_t mrp_pool_openings(struct mrp_pool *pool);

/** A region that a sifter has in its hands, or NULL. Under the mutex. */
struct mrp_region *mrp_sift_take(struct mrp_pool *pool, unsigned class);

/** Bytes of free blocks in the depots, roughly: no more than there are. Under the mutex.
 */
size_t mrp_depots_size(struct mrp_pool *pool);

/** Now and then, on a slow path: give back what has been idle for long. No lock. */
void mrp_pool_tick(struct mrp_pool *pool);

/* -- charge.c -- */

/** What a chunk of those rails takes of the context's budgets: `charged` bytes of memory
 *  that the pool has mapped, `registered` bytes of any. The rails do not go meanwhile: under
 *  the mutex, or in a passage. */
struct mrp_charge mrp_charge_of(
    const struct mrp_pool *pool, uint64_t rails, size_t charged, size_t registered);

/** Charge the pool's own budgets, choose the chunk's rails, give it a number, and begin a
 *  passage; evicts idle memory of the pool where that makes room. */
enum mrp_status mrp_charge_pool(
    struct mrp_pool *pool, struct mrp_chunk_request *request, uint32_t *chunk_id);

/** What a chunk, or one that could not be made, is charged with. */
struct mrp_chunk_bill {
    size_t charged;
    size_t registered; /* bytes of each registration; 0: there are none yet */
    uint64_t rails; /* with which it is registered, or was to be */
    uint64_t refused; /* of them, those that would not deregister it */
    bool is_over; /* the budgets */
    uint32_t chunk_id;
    unsigned passage; /* which ends here */
};

/** Lift it in the pool's budgets. */
void mrp_discharge_pool(struct mrp_pool *pool, const struct mrp_chunk_bill *bill);

/** A chunk has been made: what it really has is charged. */
void mrp_charge_settle(struct mrp_pool *pool, const struct mrp_chunk_request *request,
    struct mrp_chunk *chunk, uint64_t n_refusals);

/** A charge of the pool's, or of the context's, is taken back: no room for who made it, but
 *  for those who have been refused beside it, if the numbers of refusals have moved. */
void mrp_charge_tell_refused(struct mrp_pool *pool, uint64_t n_refusals);
void mrp_charge_lift(
    struct mrp_pool *pool, const struct mrp_charge *charge, uint64_t n_refusals);

/** Whether an idle chunk is registered with one of the rails: of a uint64_t. */
bool mrp_idle_has(const struct mrp_retained *item, const void *rails);

/* -- chunks.c -- */

/** `n` chunks of `size` bytes became idle, or are no longer (negative). Whoever waits for
 *  room, or for the last of them to go, looks again. */
void mrp_pool_count_idle(struct mrp_pool *pool, int n, size_t size, bool is_evicted);

/** Put an idle chunk on the context's retention list. */
void mrp_pool_retain(struct mrp_pool *pool, struct mrp_chunk *chunk,
    bool (*evict)(struct mrp_retained *item));

/** A request for `size` bytes of the pool's backend, on that node and all the pool's
 *  rails. */
void mrp_pool_request_chunk(struct mrp_pool *pool, size_t size, size_t alignment,
    int node, struct mrp_chunk_request *request);

/** Charge, map and register. When the pool's budgets refuse, `less` bytes are tried; when
 *  those of the context do, too, with idle memory of all pools evicted as long as that
 *  helps; when the system refuses, idle memory is evicted and `less` bytes are tried, once.
 *  Waits for what others are giving up, unless the request is told of it. No lock. */
enum mrp_status mrp_pool_make_chunk(struct mrp_pool *pool,
    struct mrp_chunk_request *request, size_t less, struct mrp_chunk **made,
    uint32_t *chunk_id);

/** The context's budgets have refused the charge: evict what helps, or wait a moment for what
 *  others evict. True when it is time to try again. No lock. */
bool mrp_pool_relieve_context(
    struct mrp_pool *pool, const struct mrp_charge *charge, uint64_t deadline);

/** A moment for what others evict, if they do: a rail is full. True when it is time to try
 *  again. No lock. */
bool mrp_pool_await_eviction(struct mrp_pool *pool, uint64_t deadline);

/** ns until that deadline. */
#define MRP_EVICTION_PATIENCE UINT64_C(1000000000)

/** Give back a chunk that nobody finds any more by address: number, charges, memory. */
enum mrp_status mrp_pool_dissolve_chunk(struct mrp_chunk *chunk);

/** The same, but as mrp_chunk_forget. */
enum mrp_status mrp_pool_forget_chunk(struct mrp_chunk *chunk);

/** The same, leaving the error record as it is. */
void mrp_pool_unmake_chunk(struct mrp_chunk *chunk);

/** Tie a new chunk, whose id, region and granules are set, to its number: key lines and
 *  chunk table. Ends its passage. */
void mrp_pool_enter_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk);

/** The way back, once nobody holds it; begins a passage. */
void mrp_pool_leave_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk);

/** Bytes of the chunk that growth would map now. Under the mutex. */
size_t mrp_next_chunk_size(const struct mrp_pool *pool);

/** Take up again a chunk of at least `least` bytes of that node that has been idle since
 *  its last slab was retired; false when there is none. Under the mutex, released
 *  meanwhile. */
bool mrp_pool_take_up(struct mrp_pool *pool, size_t least, int node);

/** Build a chunk that slabs are cut from, of at least `least` bytes. The caller has set
 *  chunk_growing and holds the mutex, which is released meanwhile. */
enum mrp_status mrp_pool_build_chunk(
    struct mrp_pool *pool, size_t least, int node, bool is_told);

/** Bytes of it that count against max_bytes: none of the caller's own memory. */
static inline size_t mrp_chunk_charge(const struct mrp_chunk *chunk)
{
    return chunk->backend == NULL ? 0 : chunk->mapping.size;
}

/** About a thousand granules a chunk. */
static inline uint32_t mrp_granule_shift(size_t chunk_size)
{
    uint32_t shift =
        63u - (uint32_t)__builtin_clzl(chunk_size) - MRP_GRANULES_PER_CHUNK_SHIFT;

    if (chunk_size >> MRP_GRANULES_PER_CHUNK_SHIFT < MRP_GRANULE_SIZE) {
        return MRP_GRANULE_SHIFT;
    }
    return shift > MRP_GRANULE_SHIFT_MAX ? MRP_GRANULE_SHIFT_MAX : shift;
}

/* -- grow.c -- */

/** A free region of the class, cutting a slab or building a chunk if it must; NULL with
 *  an error record. */
struct mrp_region *mrp_pool_grow(struct mrp_pool *pool, unsigned class, size_t size,
    const struct mrp_region_request *request);

/** Stand in line for a region of the class, without waiting; see mrp_line_join. */
struct mrp_region *mrp_pool_join(
    struct mrp_pool *pool, unsigned class, size_t size, struct mrp_waiter *waiter);

/** It will stand in line, where it is told of what others give up: it need not wait for it. */
bool mrp_pool_is_told(
    const struct mrp_pool *pool, const struct mrp_region_request *request);

/** Milliseconds that a request which has just failed stands in line for `size` bytes of
 *  chunk; 0: not at all. Under the mutex. */
uint32_t mrp_pool_patience(
    struct mrp_pool *pool, size_t size, const struct mrp_region_request *request);

/** Whether a chunk of so many bytes, on the rails of now, is within the budgets at all. Under
 *  the mutex. */
bool mrp_pool_can_ever(struct mrp_pool *pool, size_t size);

/** Bytes of the smallest chunk that the class can grow by. */
size_t mrp_least_chunk(const struct mrp_pool *pool, unsigned class);

/** Bytes of the chunk of a larger-than-huge region. */
size_t mrp_large_chunk_size(const struct mrp_pool *pool, size_t size);

/** Whether there was no more memory, or registrations, to be had. */
bool mrp_is_no_more(enum mrp_status status);

/** A region from what is mapped already, whoever waits in line; no record. No lock. */
struct mrp_region *mrp_pool_cut(struct mrp_pool *pool, unsigned class);

/** Cut regions until the class has at least `count`. */
enum mrp_status mrp_pool_preallocate(struct mrp_pool *pool, unsigned class, size_t count);

#endif
