/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Size classes: from a request's size to the block it gets. Pure arithmetic on one table.
 *
 *     block   [ lead: headroom, rounded up to the alignment | payload | tailroom ]
 *
 * The table is n_base classes of the pool's own memory; then, for each further NUMA node
 * that somebody has asked for, the same again: a lane. A class of a lane has depot,
 * slabs and regions of its own, so that a region goes back to its node by its class alone.
 */
#ifndef MRP_POOL_CLASSES_H
#define MRP_POOL_CLASSES_H

#include "base/align.h"
#include "base/atomic.h"
#include "mrpool/base.h"
#include "mrpool/inline.h"

#define MRP_CLASSES_MAX 250 /* all lanes together; one more fits in a byte */
#define MRP_BINS 234 /* up to 2^64 - 1; bin 0 is of no size */
#define MRP_BLOCK_SIZES_MAX 64
#define MRP_MAGAZINE_REGIONS 126

extern const char *const mrp_tier_names[MRP_TIERS];

struct mrp_size_class {
    size_t block_size; /* bytes from one block to the next */
    size_t capacity; /* bytes of payload */
    uint64_t
        reciprocal; /* ceil(2^64 / block_size): offset / block_size is its high product */
    uint32_t magazine_capacity; /* regions in a full magazine; 1: the class has none */
    uint16_t bin; /* of the thread caches; 0: they do not take it */
    uint8_t tier;
    int node; /* where its chunks are asked to be: MRP_NODE(n), or 0 */
};

struct mrp_size_classes {
    size_t n_base; /* classes of one lane: sizes are looked up among the first of them */
    /* Of all lanes. Grows under the pool's mutex, by a release store. */
    _Atomic size_t n_classes;
    size_t lead, tailroom, alignment;
    size_t max_payload; /* of the largest class */
    size_t tier_max[MRP_TIERS]; /* largest request of each tier */
    uint8_t first_of_bin[MRP_BINS]; /* the smallest class a size of that bin can need */
    struct mrp_size_class classes[MRP_CLASSES_MAX];
};

/** Sizes of a bin are in (lower bound, upper bound]: the inverse of mrp_v1_bin. Four bins
 * per doubling above 256, every multiple of 64 below. Bins 2 to 4, 6 and 8 stay empty. */
static inline size_t mrp_bin_lower(unsigned bin)
{
    unsigned m = (bin + 22) >> 2;

    return (size_t)(bin + 26 - 4 * m) << (m - 2);
}

static inline size_t mrp_bin_upper(unsigned bin)
{
    unsigned m = (bin + 22) >> 2;

    return (size_t)(bin + 27 - 4 * m) << (m - 2);
}

/** Build the table: either the standard classes up to the last tier's limit, or exactly
 * the payload sizes given. All arguments have been validated. */
void mrp_size_classes_build(struct mrp_size_classes *classes, const size_t *tier_max,
    const size_t *block_sizes, size_t n_block_sizes, size_t lead, size_t tailroom,
    size_t alignment);

/** Settle the node of the first lane, the pool's own. */
static inline void mrp_size_classes_settle(struct mrp_size_classes *classes, int node)
{
    for (size_t i = 0; i < classes->n_base; i++) {
        classes->classes[i].node = node;
    }
}

/** Settle how many regions a magazine of each class holds: `magazine_size` bytes, at most
 * 126, so that it takes 1 KiB; and the thread caches' bins. */
void mrp_size_classes_divide(struct mrp_size_classes *classes, size_t magazine_size);

/** All lanes' classes, those another thread is just adding perhaps not. */
static inline size_t mrp_n_classes(const struct mrp_size_classes *classes)
{
    /* pairs with the release in mrp_size_classes_extend(): its entries are complete */
    return mrp_load_acquire(&classes->n_classes);
}

/** The first class of the node's lane; false: it has none. */
bool mrp_size_classes_find_lane(
    const struct mrp_size_classes *classes, int node, unsigned *first);

/** Add a lane; false: there is no room for one. Under the pool's mutex. */
bool mrp_size_classes_extend(struct mrp_size_classes *classes, int node, unsigned *first);

/** Class for a payload of `size` bytes, at most max_payload. */
static inline unsigned mrp_class_of(const struct mrp_size_classes *classes, size_t size)
{
    size_t block = size + classes->lead + classes->tailroom;
    unsigned index = classes->first_of_bin[mrp_v1_bin(block == 0 ? 1 : block)];

    while (classes->classes[index].capacity < size) {
        index++;
    }
    return index;
}

/** The block that a byte offset in a slab belongs to. Exact for offset * block_size <
 * 2^64 (Lemire, Kaser, Kurz, "Faster remainder by direct computation", 2019, theorem 1).
 */
static inline size_t mrp_block_of(const struct mrp_size_class *class, size_t offset)
{
    __extension__ unsigned __int128 product =
        (unsigned __int128)offset * class->reciprocal;

    return (size_t)(product >> 64);
}

#endif
