/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_region_alloc and mrp_region_free, inlined: for callers that count instructions.
 * Same results, same refusals; what a thread's cache cannot serve goes to the functions.
 *
 *     #include <mrpool/inline.h>
 *     region = mrp_region_alloc_inline(pool, 4096);
 *
 * This ties an object file to layout version 1 of what follows. The version is in the
 * name of the thread-local variable, so an object compiled against another one does not
 * link, or load. Everything here but the two functions at the end is the library's own:
 * use no field.
 *
 *     thread-local   arena                    slot of a pool           magazine
 *     mrp_bins_v1 -> window, 64 slots   ->    bin per size class  ->   array of regions
 *
 * An arena, a slot or a bin that is not in use is all zero, which reads both as empty and
 * as full: a new thread, an unknown pool, a request of no class, a forked child fall into
 * the slow path without a test of their own.
 */
#ifndef MRPOOL_INLINE_H
#define MRPOOL_INLINE_H

#include "mrpool/pool.h"

#include <stddef.h>

#if __SIZEOF_POINTER__ != 8
#error "mrpool needs 64-bit addresses"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* -- layout version 1 -- */

/** A descriptor: one cache line, outside the registered memory. */
struct mrp_region {
    int64_t offset; /* from the descriptor to the payload */
    size_t capacity; /* bytes of payload */
    size_t size; /* asked for */
    size_t length; /* of the message, set by the owner */
    uint32_t state; /* MRP_V1_FREE + number of references; 0: never cut */
    uint32_t generation; /* owners it has had */
    uint32_t cache; /* bytes from a thread's arena to the bin it goes back to */
    uint32_t chunk; /* index in the chunk table: key lines are found by it */
    uint16_t owner; /* process slot, for shared pools */
    /* whose depot it goes back to; MRP_CLASS_BARE has no memory of its own */
    uint8_t size_class;
    uint8_t kind; /* enum mrp_region_kind; counters read both at any time */
    uint32_t parent; /* index of a slice's root */
    uint64_t cookie; /* reserved for the origin of debug builds */
};

#define MRP_V1_FREE UINT32_C(0x80000000)
#define MRP_V1_LIVE (MRP_V1_FREE + 1) /* with its only reference */

#define MRP_V1_RANGE_SHIFT 31 /* a pool's range of addresses; its handle is the first */
#define MRP_V1_GROUP_SHIFT 12 /* 64 descriptors, all of one class */
#define MRP_V1_GROUPS_OFFSET (UINT64_C(2) << 20) /* in the range: the bin of each group */
#define MRP_V1_SLOTS 64 /* pools with thread caches at one time */
#define MRP_V1_SLOT_SHIFT 14 /* log2 of the bytes of one */
/** Bin 0 never has room: of descriptors that no bin takes. 1 to 233 are for sizes, the
 * others for classes that are no bin of sizes exactly. */
#define MRP_V1_BINS 298

/** A thread's free regions of one pool, by bin: [bottom, top) of the loaded magazine, and
 * a second magazine that is full or empty. The bin of a size is 4m + (x >> (m - 2)) - 26
 * for x = (size - 1) | 63 and m = floor(log2 x). Only its thread writes a bin, except
 * that others set `limit` to zero to ask for what is freed next. */
struct mrp_cache_slot {
    struct mrp_region **top[MRP_V1_BINS];
    struct mrp_region **bottom[MRP_V1_BINS];
    /* The last one, and what keeps it off the fastest path: MRP_V1_UNCHECKED, _ROOMY.
     * Written by its thread alone: a pool that has gone leaves it here, and bins that are
     * zero. */
    uintptr_t pool;
    size_t charge; /* bytes its magazines can hold; 0: none is open */
    uint32_t n_refused, hand; /* bins that found no room; the next to make some */
    uint64_t active[5]; /* bins that have magazines */
    struct mrp_region **limit[MRP_V1_BINS];
    void *previous[MRP_V1_BINS];
    char unused[(1 << MRP_V1_SLOT_SHIFT) - 8 * 8 - MRP_V1_BINS * 32];
};

/* Bits that no handle has. */
#define MRP_V1_UNCHECKED (UINT64_C(1) << 62) /* alloc and free leave descriptors alone */
#define MRP_V1_ROOMY (UINT64_C(1) << 63) /* headroom and tailroom are added to a size */

/** From a bin's `top` to its `limit`. */
#define MRP_V1_LIMIT \
    ((offsetof(struct mrp_cache_slot, limit) - offsetof(struct mrp_cache_slot, top)) / \
        sizeof(void *))

/** All that a thread keeps. */
struct mrp_cache_arena {
    struct mrp_cache_slot slots[MRP_V1_SLOTS];
    /* Descriptors this thread knows of, in lines from window_begin: [0, checked_end) of
     * pools that check, [unchecked_begin, unchecked_end) of those that do not. */
    uintptr_t window_begin;
    size_t checked_end, unchecked_begin, unchecked_end;
};

extern MRP_API __thread struct mrp_cache_arena *mrp_bins_v1
    __attribute__((tls_model("initial-exec")));

#define MRP_V1_INLINE static inline __attribute__((always_inline))
#define MRP_V1_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define MRP_V1_LOAD(object) __atomic_load_n(&(object), __ATOMIC_RELAXED)
#define MRP_V1_STORE(object, value) __atomic_store_n(&(object), (value), __ATOMIC_RELAXED)

/** Take a region out of a bin; NULL when that is empty. Plain loads are of what only this
 * thread writes. */
MRP_V1_INLINE struct mrp_region *mrp_v1_pop(struct mrp_cache_slot *slot, size_t bin)
{
    struct mrp_region **top = slot->top[bin], *region;

    if (MRP_V1_LIKELY(top != slot->bottom[bin])) {
        MRP_V1_STORE(slot->top[bin], top - 1);
        region = top[-1];
        if (region == NULL) {
            __builtin_unreachable();
        }
        return region;
    }
    return NULL;
}

/** Put a region into the bin whose `top` this is; false when that is full, or asked for.
 */
MRP_V1_INLINE bool mrp_v1_push(void *bin, struct mrp_region *region)
{
    struct mrp_region ***fields = (struct mrp_region ***)bin;
    struct mrp_region **top = fields[0];

    if (MRP_V1_LIKELY(top < MRP_V1_LOAD(fields[MRP_V1_LIMIT]))) {
        *top = region;
        MRP_V1_STORE(fields[0], top + 1);
        return true;
    }
    return false;
}

MRP_V1_INLINE struct mrp_cache_slot *mrp_v1_slot(const struct mrp_pool *pool)
{
    return mrp_bins_v1->slots +
        (((uintptr_t)pool >> MRP_V1_RANGE_SHIFT) & (MRP_V1_SLOTS - 1));
}

MRP_V1_INLINE size_t mrp_v1_bin(size_t size)
{
    size_t x = (size - 1) | 63;
    unsigned m = 63u ^ (unsigned)__builtin_clzl(x);

    return 4 * m + (unsigned)(x >> (m - 2)) - 26;
}

/** Make it its owner's. */
MRP_V1_INLINE void mrp_v1_begin(struct mrp_region *region, size_t size)
{
    MRP_V1_STORE(region->size, size);
    MRP_V1_STORE(region->length, (size_t)0);
    MRP_V1_STORE(region->state, MRP_V1_LIVE);
    MRP_V1_STORE(region->generation, region->generation + 1);
}

/** A region of the calling thread's cache; NULL when it has none, or the arguments are
 * wrong. */
MRP_V1_INLINE struct mrp_region *mrp_v1_take(struct mrp_pool *pool, size_t size)
{
    struct mrp_cache_slot *slot = mrp_v1_slot(pool);
    struct mrp_region *region = NULL;

    if (MRP_V1_LIKELY(slot->pool == (uintptr_t)pool)) {
        region = mrp_v1_pop(slot, mrp_v1_bin(size));
        if (MRP_V1_LIKELY(region != NULL)) {
            mrp_v1_begin(region, size);
        }
    }
    return region;
}

/** The same of a pool that does not check. */
MRP_V1_INLINE struct mrp_region *mrp_v1_take_unchecked(struct mrp_pool *pool, size_t size)
{
    struct mrp_cache_slot *slot = mrp_v1_slot(pool);

    return slot->pool == ((uintptr_t)pool | MRP_V1_UNCHECKED)
        ? mrp_v1_pop(slot, mrp_v1_bin(size))
        : NULL;
}

/** Lines from the window's begin; out of all bounds for what is not on a line's begin. */
MRP_V1_INLINE uintptr_t mrp_v1_line(uintptr_t begin, const struct mrp_region *region)
{
    uintptr_t distance = (uintptr_t)region - begin;

    return distance >> 6 | distance << 58;
}

/** Put a region into the calling thread's cache; false when that has no room, or the
 * pointer is no live region with one reference. */
MRP_V1_INLINE bool mrp_v1_give(struct mrp_region *region)
{
    struct mrp_cache_arena *arena = mrp_bins_v1;
    uintptr_t line = mrp_v1_line(arena->window_begin, region);

    if (MRP_V1_LIKELY(line < arena->checked_end)) {
        /* acquire: pairs with the release of who held it too, in mrp_region_release */
        if (MRP_V1_LIKELY(
                __atomic_load_n(&region->state, __ATOMIC_ACQUIRE) == MRP_V1_LIVE) &&
            mrp_v1_push((char *)arena + region->cache, region)) {
            MRP_V1_STORE(region->state, MRP_V1_FREE);
            return true;
        }
    } else if (line >= arena->unchecked_begin && line < arena->unchecked_end) {
        uintptr_t range = (uintptr_t)region >> MRP_V1_RANGE_SHIFT << MRP_V1_RANGE_SHIFT;
        size_t group = ((uintptr_t)region - range) >> MRP_V1_GROUP_SHIFT;
        const uint32_t *bins =
            (const uint32_t *)(range + MRP_V1_GROUPS_OFFSET); /* NOLINT */

        return mrp_v1_push((char *)arena + MRP_V1_LOAD(bins[group]), region);
    }
    return false;
}

/* -- for callers -- */

/** mrp_region_alloc. */
MRP_V1_INLINE struct mrp_region *mrp_region_alloc_inline(
    struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region = mrp_v1_take(pool, size);

    if (MRP_V1_LIKELY(region != NULL)) {
        return region;
    }
    region = mrp_v1_take_unchecked(pool, size);
    return MRP_V1_LIKELY(region != NULL) ? region : mrp_region_alloc(pool, size);
}

/** mrp_region_free. */
MRP_V1_INLINE enum mrp_status mrp_region_free_inline(struct mrp_region *region)
{
    return MRP_V1_LIKELY(mrp_v1_give(region)) ? MRP_OK : mrp_region_free(region);
}

#ifdef __cplusplus
}
#endif
#endif
