/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The data model of a pool. Read this file first.
 *
 *   struct mrp_region      a descriptor, one line: what users hold (mrpool/inline.h)
 *   struct mrp_key_line    what one rail needs for one chunk, one line
 *   struct mrp_cache_slot  a thread's free regions of one pool (mrpool/inline.h, cache.h)
 *   struct mrp_depot       the free regions of one size class, on three lock-free stacks:
 *                            loose    single regions, one compare-and-swap each
 *                            full     magazines of them, which move whole
 *                            empty    magazines waiting to be filled
 *   struct mrp_pool        all of it, at the front of its range (range.h)
 *
 * A region is in exactly one place: with its user, in a thread's cache, on `loose`, in a
 * full magazine, or in quarantine.
 */
#ifndef MRP_POOL_POOL_H
#define MRP_POOL_POOL_H

#include "base/process.h"
#include "base/thread.h"
#include "context/context.h"
#include "mrpool/inline.h"
#include "mrpool/pool.h"
#include "pool/classes.h"
#include "pool/quarantine.h"
#include "pool/range.h"
#include "pool/stack.h"

#define MRP_GRANULE_SHIFT 14 /* slabs are runs of granules: 16 KiB in small chunks, */
#define MRP_GRANULE_SHIFT_MAX 17 /* 128 KiB in large ones, */
#define MRP_GRANULES_PER_CHUNK_SHIFT 10 /* so that lookup tables stay in the cache */
#define MRP_GRANULE_SIZE ((size_t)1 << MRP_GRANULE_SHIFT)
#define MRP_CHUNKS_MAX ((uint32_t)1 << 16)
#define MRP_REGIONS_MAX ((uint32_t)1 << 24)
#define MRP_REGIONS_PER_GROUP 64u /* a slab takes descriptors in groups of one class */
#define MRP_SLAB_BUCKETS 64 /* free records by groups; the last: as many or more */

/* The state of a descriptor that was never cut, or whose pool is gone, is 0. */
#define MRP_STATE_FREE MRP_V1_FREE
#define MRP_STATE_LIVE MRP_V1_LIVE
#define MRP_REFERENCES_MAX (MRP_V1_FREE - 1)
#define MRP_STATE_QUARANTINED UINT32_C(1) /* neither live nor free: quarantine.h */

_Static_assert(sizeof(struct mrp_region) == MRP_LINE, "a descriptor is one line");
_Static_assert(
    sizeof(struct mrp_cache_slot) == 1 << MRP_V1_SLOT_SHIFT, "slots are 16 KiB");
_Static_assert(MRP_V1_RANGE_SHIFT == MRP_RANGE_SHIFT, "inline.h knows the range");
_Static_assert(MRP_V1_GROUPS_OFFSET == MRP_GROUPS_OFFSET, "inline.h knows the groups");

#define MRP_CLASS_BARE MRP_CLASSES_MAX

/** What the send path reads: one line per chunk and rail. Written under the pool's mutex
 * (rails.c), valid while its flags say so; atomic because nobody who reads it has that. */
struct mrp_key_line {
    _Atomic(void *) local_desc;
    _Atomic uint64_t remote_key;
    _Atomic uint64_t remote_delta; /* remote address - virtual address */
    _Atomic(void *) native;
    /* enum mrp_key_flag, and above them, below bit 31, a count of the times that the line
     * was closed; where a descriptor has its state */
    _Atomic uint32_t flags;
    uint32_t unused;
    _Atomic uintptr_t base; /* of the chunk */
    _Atomic size_t size;
    uint64_t unused_too;
};
_Static_assert(sizeof(struct mrp_key_line) == MRP_LINE, "keys are one line");

enum mrp_key_flag {
    MRP_KEY_REGISTERED = 1 << 0,
    MRP_KEY_REMOTE = 1 << 1, /* has a remote key of up to 64 bits */
    MRP_KEY_BLOB = 1 << 2 /* has a remote key that only mrp_region_key_pack carries */
};
#define MRP_KEY_FLAGS UINT32_C(7)
#define MRP_KEY_CLOSED UINT32_C(8) /* is added */
#define MRP_KEY_WRAP UINT32_C(0x7ffffff8)

/** A provider as the pool knows it, by index. Under the mutex; `provider` does not change
 * while a passage is under way, or a chunk held, that began when it was there (rails.h). */
struct mrp_rail {
    struct mrp_provider_state *provider; /* NULL: unused */
    enum mrp_rail_state state;
    enum mrp_rail_policy policy;
    size_t max_registrations;
    size_t n_charged; /* chunks registered, or being so; not those beyond the budgets */
    size_t n_registrations, registered_size;
    uint64_t n_failures;
    bool has_missed; /* joining, and growth has gone on without it */
    char reason[MRP_RAIL_REASON_SIZE]; /* why it failed */
};

/** Where a chunk's number leads. The generation counts the chunks that have had it. */
struct mrp_chunk_entry {
    struct mrp_chunk *chunk; /* NULL: free */
    uint32_t generation;
    uint32_t next_free; /* index + 1 */
};

/** An array of free regions of one class. Units of 8 bytes from the area's begin are its
 * index. */
struct mrp_magazine {
    _Atomic uint32_t link;
    _Atomic uint32_t count; /* 0 or the class's capacity; of a loaded one, meaningless */
    struct mrp_region *regions[];
};

/** A run of a chunk's granules that is, or is being, cut into blocks of one class. A
 * record keeps its descriptors for good: it serves a later slab of about as many. All
 * under the pool's mutex, except that who cuts raises n_cut in private. */
struct mrp_slab {
    struct mrp_chunk *chunk; /* NULL: of bare descriptors */
    uint32_t granule, n_granules; /* the run */
    uint32_t descriptor, n_groups; /* of 64 descriptors each, from that one on */
    uint32_t n_blocks, n_cut;
    uint32_t n_collected; /* regions of it that a sifter has in its hands */
    /* At least so many have to come back before the slab is free: a lower bound, exact
     * after a sift. */
    uint32_t n_missing;
    uint32_t next, previous; /* number + 1: slabs of its class; next: free records */
    uint8_t size_class;
    bool is_cutting; /* some thread cuts it, under no lock */
    bool is_retired; /* its regions are not handed out again */
    uint8_t unused;
    uint64_t unused_too;
};
_Static_assert(sizeof(struct mrp_slab) == MRP_LINE, "slab records are one line");

/** Regions chained by their links, under the mutex. */
struct mrp_region_list {
    uint32_t first; /* index + 1; 0: none */
};

/** What a sifter has taken off the stacks of a class, and not yet put back (trim.c). */
struct mrp_sift {
    uint32_t magazines; /* index + 1 of the first; by their links */
    struct mrp_region_list loose;
    struct mrp_region_list dense; /* of slabs that are well used: they go back last */
    size_t n_regions; /* in both, less those of slabs retired since: free ones */
};

struct mrp_depot {
    _Alignas(64) struct mrp_stack loose;
    _Alignas(64) struct mrp_stack full;
    struct mrp_stack empty;

    /* Written under the pool's mutex. Bits 0..29: threads that wait for a growth; bit 30:
     * somebody stands in the pool's line; bit 31: one was refused since a region was last
     * found here. Not 0: nobody caches the class. */
    _Alignas(64) _Atomic uint32_t asks;

    /* Under the pool's mutex. */
    bool growing; /* some thread cuts a slab for this class: */
    uint64_t grower; /* its mrp_thread_id() */
    _Atomic size_t n_caches; /* bins that have magazines; raised under the mutex */
    size_t n_regions; /* cut, and not given back since */
    size_t n_preallocated; /* so many stay */
    size_t n_magazines;
    size_t slab_size; /* bytes of chunks in this class's slabs */
    uint32_t slabs; /* number + 1 of the newest */
    uint32_t pending; /* number + 1 of one whose region_init failed half-way */
    uint32_t n_waiting; /* requests for this class in the line */
    bool sift_due; /* one of its slabs may have become free */
    uint64_t n_allocs; /* of regions it has no more; less what its others had before */
    struct mrp_sift sift;
};

#define MRP_ASKS_REFUSED (UINT32_C(1) << 31)
#define MRP_ASKS_POOL (UINT32_C(1) << 30)
#define MRP_NO_SLOT MRP_V1_SLOTS

/* Besides enum mrp_region_request_flag: fails instead of waiting or going over budget. */
#define MRP_REQUEST_NO_LINE (UINT32_C(1) << 31)

struct mrp_pool {
    uint32_t epoch; /* of the process that made it; 0 before and after its life */
    uint32_t wire_id; /* random: tokens of other pools are refused */
    struct mrp_context_state *context;
    struct mrp_size_classes classes;

    /* Settings, constant after create. */
    struct mrp_pool_member member;
    struct mrp_backend_state *backend;
    bool owns_backend;
    uint32_t access;
    enum mrp_checks checks;
    uint32_t debug; /* enum mrp_debug_flag without OFF: debug.h */
    uint32_t cache_slot; /* of each thread's arena; MRP_NO_SLOT: depot alone */
    size_t
        thread_cache_size; /* bytes one thread may keep; 0: all, a share of max_bytes */
    uint64_t native_flags;
    enum mrp_at_limit at_limit;
    uint32_t wait_ms, decay_ms, quarantine_ms;
    size_t reserve; /* idle bytes that decay leaves */
    bool never_free, is_isolated;
    bool keeps_nothing; /* no idle chunk: each goes at its free */
    int node; /* MRP_NODE(n), or 0 */
    size_t tier_reserve[MRP_TIERS];
    size_t max_bytes, max_registrations, chunk_min, chunk_max;
    bool heeds_networks; /* nobody has set max_registrations */
    const char *budget_remedy; /* how a refusal by max_bytes ends */
    const char *max_bytes_source, *max_registrations_source; /* where they come from */
    size_t user_size, user_stride;
    char *user_base; /* user data, index * user_stride; NULL without */
    size_t user_reserved; /* bytes of addresses */
    mrp_region_init *region_init;
    void *region_init_user;

    _Alignas(64) _Atomic uint32_t n_threads; /* that have open bins of this pool */
    _Atomic size_t cache_charge; /* bytes that their magazines can hold, */
    _Atomic size_t cache_most; /* and may, as far as the pool has grown */

    /* Growth: all below under `mutex`; nothing slow and no callback runs under it. */
    _Alignas(64) pthread_mutex_t mutex;
    struct mrp_waitpoint grown;
    bool chunk_growing; /* some thread builds a chunk: */
    uint64_t chunk_grower; /* its mrp_thread_id() */
    size_t mapped_size, n_chunks, chunk_size;
    size_t n_idle, idle_size; /* chunks on the retention list, or coming and going */
    uint64_t idle_changes; /* of the two */
    uint64_t n_openings; /* slabs retired, chunks begun and emptied: room for slabs */
    _Atomic uint64_t n_refusals; /* of charges, by max_bytes or max_registrations */
    uint64_t n_growths, n_taken_up, n_evictions, n_released, released_size;
    size_t n_temporary, temporary_size; /* charged to the context alone */
    size_t n_rails; /* one more than the highest index in use */
    struct mrp_rail rails[MRP_RAILS_MAX];
    bool rails_changing; /* some thread adds or removes one */
    unsigned phase; /* 0 or 1: of passages that begin now; rails.h */
    size_t n_passages[2];
    /* it has had memory without rails, or a rail that does not revoke: quarantine.c */
    bool has_lasting;
    _Atomic bool can_revoke;
    struct mrp_chunk *with_room; /* those with granules left, oldest first */
    uint64_t last_serial; /* of chunks */
    _Atomic bool is_sifting; /* some thread sifts a class; changes under the mutex */
    size_t n_coming; /* chunks on their way to the retention list, or off it */
    struct mrp_waiter *line_first, *line_last; /* who waits, by turn (wait.h) */
    _Atomic uint32_t n_waiting; /* in line */
    uint32_t n_offered; /* of them, about to try growing: 0 or 1 */
    uint64_t n_waits; /* ever joined */
    uint64_t n_rooms, n_rooms_seen; /* times that room has come; that all have tried */
    _Atomic bool is_closing; /* nobody joins any more */
    bool is_calling; /* some thread calls waiters back: */
    struct mrp_waiter *calls_first, *calls_last;
    _Atomic uint32_t n_dry; /* threads that want the mutex for a region */
    _Atomic uint64_t last_tick; /* ns */
    uint32_t n_descriptors, n_chunk_ids, free_chunk_id;
    uint32_t n_slabs; /* records ever made */
    uint32_t free_slabs[MRP_SLAB_BUCKETS]; /* number + 1, by number of groups */
    uint32_t free_tables[32]; /* offset / 8 in the granule area, by log2 of entries */
    size_t n_granule_words; /* of the granule area, ever used */
    size_t magazines_used; /* bytes of the magazine area */
    struct mrp_area chunk_area, group_area, number_area, slab_area, granule_area,
        link_area, magazine_area, descriptor_area, user_area;
    struct mrp_area key_areas[MRP_RAILS_MAX];

    struct mrp_depot depots[MRP_CLASSES_MAX + 1]; /* the last: MRP_CLASS_BARE */
    struct mrp_quarantine quarantine;
};
_Static_assert(sizeof(struct mrp_pool) <= MRP_CHUNK_TABLE_OFFSET, "the header has 1 MiB");

/* -- arithmetic -- */

static inline struct mrp_pool *mrp_pool_of(const struct mrp_region *region)
{
    return mrp_range_of(region);
}

static inline struct mrp_region *mrp_region_at(
    const struct mrp_pool *pool, uint32_t index)
{
    return (struct mrp_region *)((uintptr_t)pool + MRP_DESCRIPTORS_OFFSET) +
        index; /* NOLINT */
}

static inline uint32_t mrp_region_index(const struct mrp_region *region)
{
    return (
        uint32_t)(((uintptr_t)region & (MRP_DESCRIPTORS_OFFSET - 1)) / sizeof *region);
}

static inline enum mrp_region_kind mrp_kind_of(const struct mrp_region *region)
{
    return (enum mrp_region_kind)mrp_load_relaxed(&region->kind);
}

/** Index of the depot it goes back to: its size class, or MRP_CLASS_BARE. */
static inline unsigned mrp_depot_of(const struct mrp_region *region)
{
    return mrp_load_relaxed(&region->size_class);
}

static inline uint32_t mrp_state_references(uint32_t state)
{
    return state & (MRP_STATE_FREE - 1);
}

static inline bool mrp_state_is_live(uint32_t state)
{
    return state > MRP_STATE_FREE;
}

/** Its descriptor stays as it was cut, live or free: neither state nor size are kept. */
static inline bool mrp_is_unchecked(
    const struct mrp_pool *pool, const struct mrp_region *region)
{
    return pool->checks == MRP_CHECKS_NONE && mrp_depot_of(region) != MRP_CLASS_BARE;
}

/** Served by a chunk of its own. */
static inline bool mrp_is_large(const struct mrp_pool *pool, size_t size)
{
    return size > pool->classes.max_payload || pool->is_isolated;
}

static inline void *mrp_payload(const struct mrp_region *region)
{
    return (void *)((uintptr_t)region + (uintptr_t)region->offset); /* NOLINT */
}

static inline struct mrp_key_line *mrp_key_line(
    const struct mrp_pool *pool, unsigned rail, uint32_t chunk)
{
    return (struct mrp_key_line *)((uintptr_t)pool + MRP_KEYS_OFFSET) + /* NOLINT */
        ((size_t)rail * MRP_CHUNKS_MAX + chunk);
}

static inline struct mrp_chunk_entry *mrp_chunk_entry(
    const struct mrp_pool *pool, uint32_t chunk)
{
    return (struct mrp_chunk_entry *)((uintptr_t)pool +
               MRP_CHUNK_TABLE_OFFSET) + /* NOLINT */
        chunk;
}

static inline struct mrp_magazine *mrp_magazine_at(
    const struct mrp_pool *pool, uint32_t index)
{
    return (struct mrp_magazine *)((uintptr_t)pool + MRP_MAGAZINES_OFFSET + /* NOLINT */
        (size_t)index * 8);
}

static inline uint32_t mrp_magazine_index(
    const struct mrp_pool *pool, const struct mrp_magazine *magazine)
{
    return (uint32_t)(((uintptr_t)magazine - (uintptr_t)pool - MRP_MAGAZINES_OFFSET) / 8);
}

/** The bin of a group of 64 descriptors, as mrp_v1_give() of inline.h reads it. */
static inline uint32_t *mrp_group_bin(const struct mrp_pool *pool, uint32_t descriptor)
{
    return (uint32_t *)((uintptr_t)pool + MRP_GROUPS_OFFSET) + /* NOLINT */
        ((MRP_DESCRIPTORS_OFFSET + descriptor * sizeof(struct mrp_region)) >>
            MRP_V1_GROUP_SHIFT);
}

static inline struct mrp_slab *mrp_slab_at(const struct mrp_pool *pool, uint32_t number)
{
    return (struct mrp_slab *)((uintptr_t)pool + MRP_SLABS_OFFSET) + number; /* NOLINT */
}

/** The number of the slab whose descriptor this is. */
static inline uint32_t *mrp_slab_number(const struct mrp_pool *pool, uint32_t descriptor)
{
    return (uint32_t *)((uintptr_t)pool + MRP_SLAB_NUMBERS_OFFSET) + /* NOLINT */
        descriptor / MRP_REGIONS_PER_GROUP;
}

static inline struct mrp_slab *mrp_slab_of(
    const struct mrp_pool *pool, const struct mrp_region *region)
{
    return mrp_slab_at(pool, *mrp_slab_number(pool, mrp_region_index(region)));
}

static inline struct mrp_links mrp_region_links(const struct mrp_pool *pool)
{
    return (struct mrp_links){(char *)(uintptr_t)pool + MRP_LINKS_OFFSET, 4}; /* NOLINT */
}

static inline struct mrp_links mrp_magazine_links(const struct mrp_pool *pool)
{
    return (struct mrp_links){
        (char *)(uintptr_t)pool + MRP_MAGAZINES_OFFSET, 8}; /* NOLINT */
}

/** A slab as the table entries of its granules tell it, 0 for a granule that is in none:
 *  bits 0..23 first descriptor, 24..47 offset in the chunk / 16 KiB, 48..55 class, 62 set
 *  when bytes are left behind its last block, 63 set. */
static inline uint64_t mrp_slab_pack(
    uint32_t descriptor, size_t offset, unsigned class, bool has_rest)
{
    return (uint64_t)1 << 63 | (uint64_t)has_rest << 62 | (uint64_t) class << 48 |
        (uint64_t)(offset >> MRP_GRANULE_SHIFT) << 24 | descriptor;
}

/** A slab that is nothing but blocks. */
static inline bool mrp_slab_is_whole(uint64_t slab)
{
    return slab >> 62 == 2;
}

static inline uint32_t mrp_slab_descriptor(uint64_t slab)
{
    return (uint32_t)slab & 0xffffff;
}

static inline size_t mrp_slab_offset(uint64_t slab)
{
    return ((size_t)(slab >> 24) & 0xffffff) << MRP_GRANULE_SHIFT;
}

static inline unsigned mrp_slab_class(uint64_t slab)
{
    return (unsigned)(slab >> 48) & 0xff;
}

/** Which kind of remote key a chunk has on a rail: MRP_KEY_REMOTE, MRP_KEY_BLOB or 0. */
static inline uint32_t mrp_remote_flags(
    const struct mrp_pool *pool, uint32_t chunk, unsigned rail)
{
    return mrp_load_acquire(&mrp_key_line(pool, rail, chunk)->flags) &
        (MRP_KEY_REMOTE | MRP_KEY_BLOB);
}

/* -- checks at the door -- */

/** MRP_OK for a live pool of this process; safe for any pointer. */
enum mrp_status mrp_pool_check_handle(const struct mrp_pool *pool);

/** MRP_OK for a live region of a live pool of this process; safe for any pointer. */
enum mrp_status mrp_region_check_handle(const struct mrp_region *region);

static inline bool mrp_pool_is_live(const struct mrp_pool *pool)
{
    uintptr_t address = (uintptr_t)pool;
    uintptr_t slot = address >> MRP_RANGE_SHIFT | address << (64 - MRP_RANGE_SHIFT);

    /* rotated: an address off the 2 GiB boundary has high bits, and is out of bounds */
    return slot < MRP_RANGES_MAX && mrp_load_acquire(&mrp_range_known[slot]) != 0 &&
        pool->epoch == mrp_process_epoch;
}

static inline bool mrp_region_is_live(const struct mrp_region *region)
{
    uintptr_t address = (uintptr_t)region;

    return mrp_range_contains(region) && (address & MRP_DESCRIPTORS_OFFSET) != 0 &&
        address % MRP_LINE == 0 && mrp_state_is_live(mrp_load_relaxed(&region->state)) &&
        mrp_pool_of(region)->epoch == mrp_process_epoch;
}

/* -- stats.c -- */

/** Free regions of the class in the depot, at most `n_regions`: those there are; of the
 *  loose ones at most `most_loose` are counted. A guess while others are at work. No lock. */
size_t mrp_depot_count(
    const struct mrp_pool *pool, size_t class, size_t n_regions, size_t most_loose);

/* -- pool.c -- */

/** A thread that came to the pool without being its user is done. No lock. */
void mrp_pool_end_visit(struct mrp_pool *pool);

/* -- report.c -- */

extern const struct mrp_pool_reporter mrp_pool_reporter;

/* -- check.c -- */

/** Set is_free[i] for each pooled descriptor that is in the depot or a thread's cache;
 * two or more of one that is there twice. Stops, with MRP_ERR_CORRUPT, where the lists
 * make no sense. */
enum mrp_status mrp_pool_mark_free(struct mrp_pool *pool, uint8_t *is_free);

#endif
