/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From an address to the chunk that holds it, without a lock.
 *
 *   aligned chunks    radix    root[address >> 34] -> leaf[address >> 21 & 0x1fff] -> chunk
 *   adopted memory    ranges   two sorted arrays, one read while the other is rewritten
 *
 * The radix table is one for the process, since an address has one chunk whoever asks: a
 * lookup begins without reading its pool or context. Ranges are the context's.
 *
 * A chunk found here may be withdrawn at any moment after: the caller validates its
 * generation (chunk.h). Chunk records are never freed, so reading one is always safe.
 */
#ifndef MRP_CONTEXT_ADDRESS_MAP_H
#define MRP_CONTEXT_ADDRESS_MAP_H

#include "base/atomic.h"
#include "mrpool/base.h"

#include <pthread.h>

struct mrp_chunk;
struct mrp_pool;

#define MRP_MAP_ADDRESS_BITS \
    48 /* user space of x86-64 and aarch64 without five-level paging */
#define MRP_MAP_GRANULE_SHIFT 21
#define MRP_MAP_GRANULE ((size_t)1 << MRP_MAP_GRANULE_SHIFT)
#define MRP_MAP_LEAF_SHIFT 13
#define MRP_MAP_LEAF_SIZE ((size_t)1 << MRP_MAP_LEAF_SHIFT)
#define MRP_MAP_ROOT_SIZE \
    ((size_t)1 << (MRP_MAP_ADDRESS_BITS - MRP_MAP_GRANULE_SHIFT - MRP_MAP_LEAF_SHIFT))

struct mrp_map_leaf {
    _Atomic(struct mrp_chunk *) chunks[MRP_MAP_LEAF_SIZE];
};

struct mrp_range {
    _Atomic uintptr_t start, end; /* [start, end) */
    _Atomic uintptr_t max_end; /* largest end among this entry and those before it */
    _Atomic(struct mrp_chunk *) chunk;
};

struct mrp_range_array {
    _Atomic(struct mrp_range *) ranges; /* sorted by start */
    _Atomic size_t n_ranges;
    size_t capacity;
};

struct mrp_address_map {
    struct mrp_range_array arrays[2];
    _Atomic uint64_t begun,
        published; /* counts rewrites; arrays[published & 1] is current */
    pthread_mutex_t mutex; /* of writers of ranges; leaf lock */
    void **retired; /* outgrown arrays, readable until the map goes */
    size_t n_retired;
};

/** Leaves are made when first needed and kept. */
extern _Atomic(struct mrp_map_leaf *) mrp_map_root[MRP_MAP_ROOT_SIZE];

void mrp_address_map_create(struct mrp_address_map *map);
void mrp_address_map_destroy(struct mrp_address_map *map);

/** Enter a chunk. Aligned ones (base on a granule boundary, no other chunk in its
 * granules) go to the radix table, others, which may overlap anything, to the ranges.
 * MRP_ERR_MEMORY. */
enum mrp_status mrp_address_map_insert(struct mrp_address_map *map,
    struct mrp_chunk *chunk, uintptr_t base, size_t size, bool aligned);

/** Take a chunk out; cannot fail. */
void mrp_address_map_remove(struct mrp_address_map *map, struct mrp_chunk *chunk,
    uintptr_t base, size_t size, bool aligned);

/** A chunk of the pool that adopted `size` bytes at `address`, or NULL. Several pools,
 *  and one pool several times, may have registered the same memory. O(log n), and what
 *  overlaps. */
struct mrp_chunk *mrp_address_map_find_range(struct mrp_address_map *map,
    const struct mrp_pool *pool, uintptr_t address, size_t size);

/** The aligned chunk whose granules include `address`, or NULL; the address may still lie
 *  beyond the chunk's end. O(1). */
static inline struct mrp_chunk *mrp_address_map_find_aligned(uintptr_t address)
{
    size_t granule = address >> MRP_MAP_GRANULE_SHIFT;
    struct mrp_map_leaf *leaf;

    if (granule >> MRP_MAP_LEAF_SHIFT >= MRP_MAP_ROOT_SIZE) {
        return NULL;
    }
    /* both acquires pair with the releases in mrp_address_map_insert */
    leaf = mrp_load_acquire(&mrp_map_root[granule >> MRP_MAP_LEAF_SHIFT]);
    if (leaf == NULL) {
        return NULL;
    }
    return mrp_load_acquire(&leaf->chunks[granule & (MRP_MAP_LEAF_SIZE - 1)]);
}

#endif
