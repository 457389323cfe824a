/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Debugging of a pool at run time, as pool->debug says: hooks where a block changes
 * hands. All are on slow paths: a pool that debugs has no thread caches. What a block
 * goes through:
 *
 *   chunk   made                      hidden
 *   cut     for region_init           shown
 *   end     after that, or a free     poisoned, hidden
 *   begin   before it is given out    shown, its poison verified
 *   own     the owner is known        origin noted
 *
 * Shown and hidden is told to memory checkers (base/memcheck.h). A chunk that is given up
 * is shown by context/chunk.c.
 */
#ifndef MRP_POOL_DEBUG_H
#define MRP_POOL_DEBUG_H

#include "context/origin.h"
#include "pool/pool.h"

#define MRP_POISON UINT32_C(0xdeadbeef)

/* -- settings -- */

/** What params and environment say, without MRP_DEBUG_OFF; needs no pool yet. */
enum mrp_status mrp_debug_resolve(const struct mrp_pool_params *params, uint32_t *debug);

/** MRP_ERR_UNSUPPORTED for what the pool's backend cannot. */
enum mrp_status mrp_debug_check(struct mrp_pool *pool);

/* -- hooks: debug.c -- */

void mrp_debug_chunk_made(struct mrp_pool *pool, struct mrp_chunk *chunk);
void mrp_debug_block_cut(struct mrp_pool *pool, struct mrp_region *region);
void mrp_debug_block_end(struct mrp_pool *pool, struct mrp_region *region);
enum mrp_status mrp_debug_block_begin(struct mrp_pool *pool, struct mrp_region *region);
void mrp_debug_guard(
    struct mrp_pool *pool, size_t size, struct mrp_chunk_request *request);
void mrp_debug_guarded(
    const struct mrp_chunk_request *request, struct mrp_region *region);
void mrp_debug_inherit(struct mrp_region *heir, const struct mrp_region *region);
void mrp_debug_note(struct mrp_pool *pool, struct mrp_region *region, const char *tag,
    const void *caller);

/** A chunk has been made, of which nothing is in use but adopted memory. */
static inline void mrp_debug_chunk(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    if (pool->debug != 0) {
        mrp_debug_chunk_made(pool, chunk);
    }
}

/** A block's descriptor is written; region_init comes next. */
static inline void mrp_debug_cut(struct mrp_pool *pool, struct mrp_region *region)
{
    if (pool->debug != 0) {
        mrp_debug_block_cut(pool, region);
    }
}

/** A block is nobody's from now on; before it can be found anywhere. */
static inline void mrp_debug_end(struct mrp_pool *pool, struct mrp_region *region)
{
    if (pool->debug != 0) {
        mrp_debug_block_end(pool, region);
    }
}

/** A free block is about to be given out. MRP_ERR_CORRUPT: it was written to; it is in no
 *  list any more, and is to stay so. */
static inline enum mrp_status mrp_debug_begin(
    struct mrp_pool *pool, struct mrp_region *region)
{
    return pool->debug == 0 ? MRP_OK : mrp_debug_block_begin(pool, region);
}

/** Ask for guard pages about a region of `size` bytes, where the pool has them. */
static inline void mrp_debug_request(
    struct mrp_pool *pool, size_t size, struct mrp_chunk_request *request)
{
    if ((pool->debug & MRP_DEBUG_GUARD) != 0) {
        mrp_debug_guard(pool, size, request);
    }
}

/** Move a region that is a guarded chunk to the chunk's end. */
static inline void mrp_debug_place(
    const struct mrp_chunk_request *request, struct mrp_region *region)
{
    if (request->guarded) {
        mrp_debug_guarded(request, region);
    }
}

/** Remember whose a live region is: the tag, else the backtrace from `caller` on where
 *  the pool keeps those. */
static inline void mrp_debug_own(
    struct mrp_pool *pool, struct mrp_region *region, const char *tag, const void *caller)
{
    if (tag != NULL || pool->debug != 0) {
        mrp_debug_note(pool, region, tag, caller);
    }
}

/** A live region takes the place of another: it is whose that was. */
static inline void mrp_debug_succeed(
    struct mrp_pool *pool, struct mrp_region *heir, const struct mrp_region *region)
{
    if (region->cookie != 0 || pool->debug != 0) {
        mrp_debug_inherit(heir, region);
    }
}

/* -- what is remembered: origins.c -- */

/** Who took a region last: its owner's tag or backtrace, as text; of a free region its
 *  last owner's. False when it is not known. */
bool mrp_region_origin(const struct mrp_pool *pool, const struct mrp_region *region,
    char *text, size_t size);

/** Live regions of one origin. */
struct mrp_origin_total {
    bool is_known; /* false: of all whose origin is not known */
    char text[MRP_ORIGIN_TEXT];
    size_t n_regions; /* slices, too */
    size_t size; /* bytes asked for; those of a slice are its root's */
};

/** Totals of the origins that hold most bytes, largest first, into totals[0..n_totals).
 *  Those of a tag are one, whichever copy of its text was passed. Regions that other
 *  threads take or give back meanwhile may be missed. Pooled regions of a pool without
 *  checks are not counted.
 *  @return how many there are in all, which may be more; 0 without memory for it. */
size_t mrp_pool_origins(
    struct mrp_pool *pool, struct mrp_origin_total *totals, size_t n_totals);

#endif
