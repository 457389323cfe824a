/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Pools: regions of every size, over one backend and 0 to 64 rails, which may come and go.
 *
 * Memory comes in chunks, each registered once per rail; slabs cut chunks into blocks of
 * one size class (64, 128, 192, 256, then four per doubling: at most 25 % over the
 * request from 256 B on); four tiers group the classes.
 */
#ifndef MRPOOL_POOL_H
#define MRPOOL_POOL_H

#include "mrpool/base.h"
#include "mrpool/context.h"
#include "mrpool/region.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mrp_tier {
    MRP_TIER_SMALL,
    MRP_TIER_MEDIUM,
    MRP_TIER_LARGE,
    MRP_TIER_HUGE
};
#define MRP_TIERS 4

struct mrp_tier_params {
    /** largest request it serves, bytes; 0: MRPOOL_SMALL_MAX and so on (1 KiB, 16 KiB,
     *  64 KiB, 1 MiB). Ascending over the tiers. */
    size_t max_size;
    /** regions of its largest size made by mrp_pool_create, which stay; 0: none */
    size_t preallocate;
    /** bytes of slabs that other tiers, and larger-than-huge regions, leave to this one;
     *  0: none. All of them together at most max_bytes. */
    size_t reserve;
};

/** Fill a new region's user data, once, when its block is cut. Runs under no lock; must
 *  not call the pool. The keys are valid already. A failure fails the request; nothing
 *  is lost, and the next growth of the size class tries the same region again. Memory
 *  that has gone back to the system, or to another size class, and comes again, is a new
 *  region: its user data begins as zero, and this is called. */
typedef enum mrp_status mrp_region_init(
    struct mrp_region *region, void *user_data, void *init_user);

/** How much alloc and free verify. */
enum mrp_checks {
    MRP_CHECKS_DEFAULT, /**< MRPOOL_CHECKS, else MRP_CHECKS_STATE */
    /** The descriptor is not touched, which halves the cost of a region that is freed on
     *  another processor. A region freed twice, or abandoned and freed, is not found
     *  (mrp_pool_check finds it), nor one with other references; other calls take a freed region as live;
     *  mrp_region_size and mrp_pool_stats give the capacity, the length is not reset,
     *  n_allocs stays 0, tokens do not tell owners apart. Refused are pointers that are
     *  no descriptor of a pool, not those to descriptors that were never given out. */
    MRP_CHECKS_NONE,
    /** A word in the descriptor says live, with how many references, or free: a second
     *  free is refused while the region is free. Two threads that free one region at
     *  once, and pointers kept past the region's reuse, are not found. */
    MRP_CHECKS_STATE,
    /** No thread caches. Of two threads that free one region at once, one is refused; the
     *  descriptor is compared with the chunk's tables at each alloc and free:
     *  MRP_ERR_CORRUPT, and the region is not used again. */
    MRP_CHECKS_FULL
};

/** What a request gets when a budget, or the system, allows no more memory: after free
 *  memory of other size classes has been regrouped, and idle memory given up, and growth
 *  tried once more. Requests with MRP_REQUEST_NOWAIT or _NOGROW get MRP_ERR_AGAIN. */
enum mrp_at_limit {
    MRP_AT_LIMIT_DEFAULT, /**< MRPOOL_AT_LIMIT, else MRP_AT_LIMIT_FAIL */
    MRP_AT_LIMIT_FAIL, /**< an error that names the budget and its use */
    /** A place in the line, first come first served, until a free makes room or wait_ms
     *  have passed, then the same error. */
    MRP_AT_LIMIT_WAIT,
    /** Memory of its own beyond max_bytes and max_registrations, within the context's
     *  budgets: mapped and registered for this request, given back at its free. */
    MRP_AT_LIMIT_TEMPORARY
};

/** Settings that go together. What the params set themselves wins, and after that the
 *  MRPOOL_ variable of a member; the preset wins over the member's default. */
enum mrp_preset {
    MRP_PRESET_DEFAULT, /**< MRPOOL_PRESET, else MRP_PRESET_THREAD_LOCAL */
    MRP_PRESET_THREAD_LOCAL, /**< thread caches over the depot */
    MRP_PRESET_SHARED, /**< the depot alone: nothing is kept by threads */
    /** malloc, registered at each alloc, deregistered at each free: what a program
     *  without a pool does. Refuses a backend of the caller's. */
    MRP_PRESET_MALLOC,
    /** the tiers of AllocTools: 1 KiB, 16 KiB, 64 KiB, 1 MiB, of which 1024, 2048, 64
     *  and 16 regions are made at once */
    MRP_PRESET_ALLOCTOOLS,
    /** the size limits of hwmalloc, and its environment (HWMALLOC_*), which wins over
     *  the defaults: docs/MEMORY.md has the table */
    MRP_PRESET_HWMALLOC
};

/** Debugging at run time. Each bit costs the thread caches, so that every alloc and free
 *  is seen, and makes MRP_CHECKS_NONE MRP_CHECKS_STATE. */
enum mrp_debug_flag {
    MRP_DEBUG_OFF = 1 << 0, /**< none, whatever the environment says; stands alone */
    /** Fill freed blocks with 0xdeadbeef, and verify it when they are given out again:
     *  MRP_ERR_CORRUPT, and the region is not used again. Host memory. */
    MRP_DEBUG_POISON = 1 << 1,
    /** An inaccessible page before and after each larger-than-huge region, which ends (to
     *  its alignment) at the second; freed ones are unmapped at once. Backend mmap, on
     *  base pages. */
    MRP_DEBUG_GUARD = 1 << 2,
    MRP_DEBUG_ORIGINS = 1 << 3, /**< remember who allocated each region: a backtrace */
    /** Tell AddressSanitizer or Valgrind's Memcheck, whichever the process runs under,
     *  which blocks are free: the default where there is one of them, without effect
     *  (and without cost) where there is none, and for memory that is not the host's. */
    MRP_DEBUG_MEMCHECK = 1 << 4
};

/** Which chunks a rail registers. A chunk that it does not: MRP_ERR_UNSUPPORTED from
 *  calls that ask for its keys, until mrp_region_ensure has been called for it. */
enum mrp_rail_policy {
    /** each, when it is made: with all such rails or none, but for those whose device
     *  is found to be gone */
    MRP_RAIL_EAGER,
    MRP_RAIL_LAZY, /**< those of mrp_region_ensure */
    /** as EAGER those on the NUMA node of its device (as far as both are known), as LAZY
     *  the others */
    MRP_RAIL_NEAR
};

struct mrp_pool_params {
    size_t struct_size;
    const char *name; /**< unique in the context; NULL: "pool-<number>" */
    struct mrp_backend *backend; /**< NULL: one of kind MRPOOL_BACKEND, the pool's own */
    struct mrp_provider *const *rails; /**< n_rails distinct providers; index = rail */
    size_t n_rails; /**< 0 (memory is not registered) to 64; see mrp_pool_rail_add */
    uint32_t access; /**< enum mrp_access; 0: MRP_ACCESS_LOCAL */
    uint64_t native_flags; /**< passed to the network library at registration */
    /** memory mapped at most; 0: MRPOOL_MAX_BYTES, else derived: half of RAM or cgroup
     *  limit, and the rest of memlock where a rail pins */
    size_t max_bytes;
    /** per rail; 0: MRPOOL_MAX_REGISTRATIONS, else 1024, or what the network gives if
     *  that is less */
    size_t max_registrations;
    /** first chunk; 0: the smaller of 16 MiB and an eighth of max_bytes, at least 256
     *  KiB; power of two */
    size_t chunk_min;
    size_t chunk_max; /**< chunks double up to this; 0: 128 MiB */
    struct mrp_tier_params tiers[MRP_TIERS];
    /** exactly these payload sizes instead of the classes, ascending; tiers[].max_size
     *  must then be 0 */
    const size_t *block_sizes;
    size_t n_block_sizes; /**< up to 64 */
    /** bytes before and after each payload, registered with it; up to 64 KiB each */
    size_t headroom, tailroom;
    size_t alignment; /**< of the payload: power of two, 64 (0) to 16 KiB */
    size_t user_size; /**< user data per region, bytes; up to 64 KiB */
    mrp_region_init *region_init; /**< needs user_size; NULL: user data begins as zero */
    void *region_init_user;
    uint32_t checks; /**< enum mrp_checks */
    /** bytes that one thread's magazines may hold; 0: MRPOOL_THREAD_CACHE_SIZE, else
     *  those of all threads together a sixteenth of the pool's chunks, at least 16 MiB,
     *  at most an eighth of max_bytes; 1: none */
    size_t thread_cache_size;
    uint32_t preset; /**< enum mrp_preset */
    uint32_t at_limit; /**< enum mrp_at_limit */
    uint32_t wait_ms; /**< at the limit; 0: MRPOOL_WAIT_MS, else 10000 */
    /** Idle memory that has not been used for so long is given back to the system, by
     *  whichever call next takes a slow path; 0: MRPOOL_DECAY_MS, else 10000;
     *  UINT32_MAX: only mrp_pool_trim and pressure give it back. */
    uint32_t decay_ms;
    /** bytes of idle memory that decay leaves; 0: MRPOOL_RESERVE, else none */
    size_t reserve;
    /** memory that has been mapped stays until the pool goes (decay_ms and reserve then
     *  say nothing); idle larger-than-huge regions are not counted against the context's
     *  retention */
    bool never_free;
    /** Each region has a mapping and a registration of its own, so that no right to it
     *  reaches a neighbour, and an abandoned one can be revoked. Every request is then
     *  larger than huge: 56 ns from the idle ones, else a registration, of which there
     *  are max_registrations. tiers[] and block_sizes must be zero. */
    bool isolate;
    /** Abandoned regions with a registration of their own (isolated, larger than huge)
     *  are revoked when their fence has not been reported drained for so long, where all
     *  rails the pool has had can revoke (MRP_PROVIDER_REVOKES) and this process's own
     *  transfers go through the registration (MRP_PROVIDER_LOCAL_DESC), or access is
     *  remote alone.
     *  0: MRPOOL_QUARANTINE_MS, else 10000; UINT32_MAX: never. */
    uint32_t quarantine_ms;
    /** MRP_NODE(n): memory of NUMA node n, or the pool is refused; 0: as the backend is
     *  set, mmap: of the node of the thread that grows. A request may name another one.
     *  A page is mapped and given back when the pool is made, to find out. */
    int node;
    uint32_t debug; /**< enum mrp_debug_flag; 0: MRPOOL_DEBUG, else as under MEMCHECK */
    /** n_rails of enum mrp_rail_policy; NULL: all EAGER */
    const uint32_t *rail_policies;
};
#define MRP_POOL_PARAMS_INIT \
    { \
        sizeof(struct mrp_pool_params), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, \
            {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}}, NULL, 0, 0, 0, 0, 0, NULL, \
            NULL, 0, 0, 0, 0, 0, 0, 0, false, false, 0, 0, 0, NULL \
    }

/** Create a pool. No provider is called before the first growth, unless preallocation
 *  is asked for. params may be NULL. Reserves 2 GiB of addresses (not memory) for
 *  descriptors.
 *  @return MRP_ERR_INVALID (which setting, what range), MRP_ERR_EXISTS,
 *  MRP_ERR_UNSUPPORTED (a rail cannot grant the access asked for), MRP_ERR_LIMIT,
 *  MRP_ERR_MEMORY. */
MRP_API enum mrp_status mrp_pool_create(struct mrp_context *context,
    const struct mrp_pool_params *params, struct mrp_pool **pool);

/** Destroy a pool: deregister, then unmap. No other thread may be using it.
 *  @return MRP_ERR_LEAKED when regions were still live, or in quarantine: their memory
 *  goes all the same, their handles stay safe to pass (late frees are refused as
 *  MRP_ERR_STALE). */
MRP_API enum mrp_status mrp_pool_destroy(struct mrp_pool *pool);

/** The context's pool of that name; MRP_ERR_NOT_FOUND. */
MRP_API enum mrp_status mrp_pool_find(
    struct mrp_context *context, const char *name, struct mrp_pool **pool);

struct mrp_tier_stats {
    size_t max_size; /**< largest request, bytes */
    size_t n_classes;
    size_t n_regions; /**< cut so far */
    size_t n_live; /**< held by users now */
    size_t n_free; /**< ready to be taken */
    size_t n_cached; /**< of them, in the caches of threads */
    size_t live_size; /**< bytes asked for by the live ones */
    size_t slab_size; /**< bytes of chunks cut into this tier's blocks */
    uint64_t n_allocs; /**< since the pool was made, modulo 2^32 per region */
    size_t block_live_size; /**< bytes of the blocks of the live ones */
    size_t reserve; /**< bytes that the others leave to it */
};

/** Counters; exact while no other thread uses the pool. */
struct mrp_pool_stats {
    size_t struct_size;
    const char *name; /**< valid as long as the pool */
    size_t n_rails;
    size_t n_chunks; /**< shared by size classes */
    size_t chunk_size; /**< bytes of them */
    size_t mapped_size; /**< bytes charged to max_bytes: chunks, large ones, idle ones */
    size_t max_bytes;
    /** live, of the rail that may have fewest more, and at most; with no rail: none, and
     *  as the pool is set */
    size_t n_registrations, max_registrations;
    size_t n_large, large_size; /**< larger than huge, live; bytes asked for */
    /** chunks without a live region, kept registered for reuse: larger-than-huge ones,
     *  and those whose slabs have all gone; bytes held */
    size_t n_idle, idle_size;
    size_t n_user, user_size; /**< of mrp_region_register; bytes */
    size_t n_slices;
    uint64_t n_growths; /**< times that a chunk was made for size classes */
    uint64_t n_evictions; /**< idle chunks given up for room */
    size_t n_threads; /**< threads and thread slots with caches of this pool */
    size_t cached_size; /**< bytes of blocks in them */
    size_t n_temporary, temporary_size; /**< beyond the budgets, live; bytes mapped */
    size_t n_quarantined, quarantined_size; /**< abandoned and not drained; bytes */
    size_t n_waiting; /**< requests in line now */
    uint64_t n_waits; /**< requests that ever stood in line */
    uint64_t n_released, released_size; /**< chunks given back to the system, bytes */
    uint64_t n_revoked; /**< abandoned regions whose keys were revoked */
    size_t room_size; /**< bytes of chunks in no slab */
    struct mrp_tier_stats tiers[MRP_TIERS];
    uint64_t n_taken_up; /**< times that an idle chunk served size classes again */
};
#define MRP_POOL_STATS_INIT \
    { \
        sizeof(struct mrp_pool_stats), NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, \
                {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, \
            0 \
    }
MRP_API enum mrp_status mrp_pool_stats(
    struct mrp_pool *pool, struct mrp_pool_stats *stats);

/** Give back what nobody uses: free blocks that fill a slab make room in their chunk for
 *  any size class, chunks without slabs and idle larger-than-huge regions go back to the
 *  system, the least recently used first, until at most `keep` bytes of them are left. What
 *  threads keep in their caches stays (mrp_thread_flush), and a slab with one such
 *  region; keys of live regions never change. A pool with never_free regroups only.
 *  Blocks; other threads allocate and free meanwhile, and find what this call has in its
 *  hands. *released (may be NULL): bytes given back to the system. O(free regions). */
MRP_API enum mrp_status mrp_pool_trim(
    struct mrp_pool *pool, size_t keep, size_t *released);

/** Report that the network can no longer touch what was abandoned under this fence until
 *  now: those regions may be used again. *n_regions (may be NULL) counts them; 0 is no
 *  failure. From any thread; O(regions abandoned under this fence, and a 256th of the
 *  others). All of them are given back whatever comes: MRP_ERR_REGISTER and
 *  MRP_ERR_CORRUPT as mrp_region_free, of the first that met with it. */
MRP_API enum mrp_status mrp_pool_drained(
    struct mrp_pool *pool, uint64_t fence, size_t *n_regions);

/* -- rails, which come and go while the pool is in use -- */

/** Make the provider a rail of the pool. All chunks there are that its policy wants,
 *  registered and adopted memory and memory in quarantine included, are registered with
 *  it, or none: then nothing has changed but idle memory, and the pool has not stopped
 *  working. What is registered counts against max_registrations and the context's budgets,
 *  for which idle memory is given up. *rail is its index, the lowest that is not in use,
 *  and stays so; others keep theirs. The provider must be of the pool's context, and cannot
 *  be closed while it is a rail.
 *
 *  From any thread; blocks for the registrations, while other threads allocate and free.
 *  Of several calls that add or remove rails one runs at a time. Not from callbacks of a
 *  provider or a backend, nor from region_init.
 *  @return MRP_ERR_EXISTS: it is a rail already, or one that has failed (remove that
 *  first); MRP_ERR_LIMIT: 64 rails, or a budget; MRP_ERR_REGISTER; MRP_ERR_UNAVAILABLE:
 *  the device is gone; MRP_ERR_UNSUPPORTED: it cannot grant the pool's access, or not on
 *  its memory; MRP_ERR_INVALID, MRP_ERR_MEMORY. */
MRP_API enum mrp_status mrp_pool_rail_add(struct mrp_pool *pool,
    struct mrp_provider *provider, enum mrp_rail_policy policy, unsigned *rail);

/** Take a rail out of the pool. First its keys go, of all regions: MRP_ERR_UNSUPPORTED.
 *  Then each chunk is deregistered, tried once. Nothing may be in flight on the rail, and
 *  nobody may use keys of it that he got before. Then the provider is no longer in use by
 *  this pool, and may be closed.
 *
 *  MRP_ERR_REGISTER: the network has kept some registration. The rail is gone all the
 *  same. The pool goes on using the memory (who could reach it by the old key can still),
 *  but it goes back to the system, or with mrp_region_forget to the caller, only after
 *  the provider has been closed; memory of mrp_region_register must stay until then.
 *  Threads and blocking as mrp_pool_rail_add. MRP_ERR_NOT_FOUND: no such rail. */
MRP_API enum mrp_status mrp_pool_rail_remove(struct mrp_pool *pool, unsigned rail);

/** Say that a rail does not work any more, as the pool finds out itself when a
 *  registration returns MRP_ERR_UNAVAILABLE. It takes no further chunks; its keys are
 *  refused with MRP_ERR_UNAVAILABLE and the reason (NULL: none told), which is copied, up
 *  to 191 bytes. What is registered stays so until the chunk goes, or the rail is removed;
 *  adding the provider again then is the way back. A second call changes nothing.
 *  From any thread; short locks. MRP_ERR_NOT_FOUND: no such rail; MRP_ERR_INVALID: 64 or
 *  more. */
MRP_API enum mrp_status mrp_pool_rail_fail(
    struct mrp_pool *pool, unsigned rail, const char *reason);

enum mrp_rail_state {
    MRP_RAIL_UNUSED, /**< no rail has this index */
    MRP_RAIL_JOINING, /**< mrp_pool_rail_add registers what is there */
    MRP_RAIL_ACTIVE,
    MRP_RAIL_FAILED,
    MRP_RAIL_LEAVING /**< mrp_pool_rail_remove deregisters */
};

#define MRP_RAIL_REASON_SIZE 192

struct mrp_rail_info {
    size_t struct_size;
    struct mrp_provider *provider; /**< NULL: unused */
    uint32_t state; /**< enum mrp_rail_state */
    uint32_t policy; /**< enum mrp_rail_policy */
    size_t n_registrations, registered_size; /**< of this pool; bytes */
    size_t max_registrations;
    uint64_t n_failures; /**< registrations and deregistrations that were refused */
    char reason[MRP_RAIL_REASON_SIZE]; /**< why it failed; "" where it has not */
};
#define MRP_RAIL_INFO_INIT \
    { \
        sizeof(struct mrp_rail_info), NULL, 0, 0, 0, 0, 0, 0, "" \
    }

/** What the rail of that index, up to 63, is like now. MRP_ERR_INVALID: 64 or more. */
MRP_API enum mrp_status mrp_pool_rail_query(
    struct mrp_pool *pool, unsigned rail, struct mrp_rail_info *info);

/** Verify every invariant the pool has: stacks, magazines, descriptors, granule tables,
 *  keys, address map. No other thread may be using it. O(regions).
 *  @return MRP_ERR_CORRUPT, and the text says what and where. */
MRP_API enum mrp_status mrp_pool_check(struct mrp_pool *pool);

#ifdef __cplusplus
}
#endif
#endif
