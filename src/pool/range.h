/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The range of a pool: 2 GiB of addresses on a 2 GiB boundary that hold everything about
 * its memory, and none of the memory. All distances are arithmetic: a descriptor's
 * address names its pool, its index, its key lines.
 *
 *     0         struct mrp_pool, 1 MiB
 *     1 MiB     chunk table, 64 Ki entries of 16 bytes
 *     2 MiB     groups: the thread caches' bin of each 4 KiB of the range
 *     4 MiB     slabs: the number of each group of 64 descriptors
 *     8 MiB     slab records, 256 Ki of 64 bytes
 *     32 MiB    granule tables: the slab of each 16 KiB of each chunk
 *     256 MiB   keys: for each of 64 rails one line per chunk
 *     512 MiB   links of the stacks of single regions
 *     576 MiB   magazines
 *     1 GiB     region descriptors, 16 Mi of 64 bytes
 *
 * Everything is readable from the start (it reads as zero) and writable as far as
 * committed, so that a late, foreign or made-up pointer into a range can be read safely.
 * A range is never unmapped: it is wiped and used again by a later pool.
 */
#ifndef MRP_POOL_RANGE_H
#define MRP_POOL_RANGE_H

#include "base/align.h"
#include "base/atomic.h"
#include "mrpool/base.h"

#define MRP_RANGE_SHIFT 31
#define MRP_RANGE_SIZE ((size_t)1 << MRP_RANGE_SHIFT)
#define MRP_RANGES_MAX ((size_t)1 << (48 - MRP_RANGE_SHIFT))

#define MRP_CHUNK_TABLE_OFFSET (1 * MRP_MIB)
#define MRP_GROUPS_OFFSET (2 * MRP_MIB)
#define MRP_SLAB_NUMBERS_OFFSET (4 * MRP_MIB)
#define MRP_SLABS_OFFSET (8 * MRP_MIB)
#define MRP_GRANULES_OFFSET (32 * MRP_MIB)
#define MRP_KEYS_OFFSET (256 * MRP_MIB)
#define MRP_LINKS_OFFSET (512 * MRP_MIB)
#define MRP_MAGAZINES_OFFSET (576 * MRP_MIB)
#define MRP_DESCRIPTORS_OFFSET (1024 * MRP_MIB)

/** 1 for each 2 GiB of the address space that is, or was, a pool's range. */
extern _Atomic uint8_t mrp_range_known[MRP_RANGES_MAX];

static inline bool mrp_range_contains(const void *address)
{
    uintptr_t slot = (uintptr_t)address >> MRP_RANGE_SHIFT;

    /* pairs with the release in mrp_range_acquire */
    return slot < MRP_RANGES_MAX && mrp_load_acquire(&mrp_range_known[slot]) != 0;
}

static inline void *mrp_range_of(const void *address)
{
    return (void *)((uintptr_t)address & ~(MRP_RANGE_SIZE - 1)); /* NOLINT */
}

/** An area that grows from the front. */
struct mrp_area {
    size_t begin, end; /* offsets in the range */
    size_t committed; /* offset up to which it is writable */
    size_t step; /* bytes committed at a time */
};

/** Addresses that read as zero and cost nothing until committed, at `where`, replacing
 *  what is there, or anywhere (NULL). NULL with errno. */
void *mrp_reserve_addresses(void *where, size_t size);

/** Where a range lies. Pools with thread caches share a window of 64 ranges, so that one
 * comparison tells a descriptor, and six bits of its address the pool's place in a
 * thread's arena: pools that check from its begin, pools that do not from its end; a
 * range stays of the kind that it has first served. */
enum mrp_range_place {
    MRP_RANGE_CHECKED,
    MRP_RANGE_UNCHECKED,
    MRP_RANGE_ELSEWHERE,
    MRP_RANGE_PLACES
};

/** A wiped range with its first MiB writable; elsewhere when the window is full or there
 * is none. NULL with MRP_ERR_MEMORY. */
void *mrp_range_acquire(enum mrp_range_place place);

/** Place in a thread's arena of the pool whose range this is; MRP_V1_SLOTS for a range
 * outside the window. */
unsigned mrp_range_slot(const void *range);

/** The parts of the window in use, in lines from *begin: [0, *checked_end) and
 * [*unchecked_begin, *unchecked_end). They only grow. */
void mrp_range_window(uintptr_t *begin, size_t *checked_end, size_t *unchecked_begin,
    size_t *unchecked_end);

/** Wipe a range. It rests until a later pool takes it; for good when `is_leaked`: live
 *  handles into it are about, and must never meet another pool's regions. */
void mrp_range_release(void *range, bool is_leaked);

/** Make an area writable up to `offset`. Under the pool's mutex. MRP_ERR_LIMIT at its
 * end. */
enum mrp_status mrp_range_commit(
    void *range, struct mrp_area *area, size_t offset, const char *what);

#endif
