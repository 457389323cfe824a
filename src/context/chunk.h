/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Chunks: one mapping (or a range of the caller's memory) with one registration per rail.
 * The unit of mapping, pinning and keys.
 *
 * Life: mrp_chunk_create maps and registers in private; mrp_chunk_publish makes it
 * visible to address lookups; mrp_chunk_withdraw hides it; mrp_chunk_destroy deregisters,
 * then unmaps. None of these runs under a lock that an allocation takes.
 */
#ifndef MRP_CONTEXT_CHUNK_H
#define MRP_CONTEXT_CHUNK_H

#include "base/atomic.h"
#include "context/retention.h"
#include "mrpool/backend.h"
#include "mrpool/provider.h"

#include <pthread.h>

struct mrp_context_state;
struct mrp_backend_state;
struct mrp_parking;
struct mrp_provider_state;
struct mrp_pool;
struct mrp_region;

/** One line that lookups read. Records are never freed: a lookup that holds one reads
 * `generation`, then the rest, then `generation` again; odd means live. */
struct mrp_chunk_view {
    _Atomic uint32_t generation;
    _Atomic uint32_t id; /* number of the chunk in its pool */
    _Atomic uintptr_t base;
    _Atomic size_t size;
    _Atomic(struct mrp_pool *) pool;
    _Atomic(_Atomic uint64_t *) granules; /* the slab of each granule; or NULL and */
    _Atomic(struct mrp_region *) region; /* the one region this chunk is */
    _Atomic uint32_t n_granules; /* 0 while the chunk is not live */
    _Atomic uint32_t granule_shift;
};

struct mrp_chunk {
    _Alignas(64) struct mrp_chunk_view view;

    /* Below: the owner's, under its own rules; never read by lookups. */
    _Alignas(64) struct mrp_context_state *context;
    struct mrp_backend_state *backend; /* NULL: the caller's memory */
    struct mrp_mapping mapping; /* of memory got from a caller, address and size only */
    bool aligned; /* in the radix part of the address map */
    bool hidden; /* memory checkers were told of it (base/memcheck.h) */
    size_t guard; /* bytes of inaccessible pages before and after the mapping */
    uint32_t access;
    uint64_t native_flags;
    uint64_t born; /* when it was mapped: mrp_clock_coarse() */
    int node; /* it was asked to be on: MRP_NODE(n), or 0 */

    /* Registrations by rail. They change under the store's mutex, by who holds the chunk;
     * others read them under it. */
    size_t n_rails; /* room for so many */
    struct mrp_provider_state **rails; /* NULL: not registered with that one */
    struct mrp_registration *registrations;
    uint64_t registered; /* bit i: with rail i; evictions of idle ones read it relaxed */
    struct mrp_parking
        *kept; /* what rails that have gone would not deregister; or NULL */
    bool is_lost; /* the same, and there was no memory to note it */
    bool keeps_pinned; /* one of them pins */
    /* the same for who only wants to know what giving it up would lift */
    _Atomic uint32_t n_registered;
    _Atomic bool is_pinned;

    struct mrp_pool *pool;
    struct mrp_chunk *next,
        *previous; /* the store's live list, or the free list by next */

    /* Room of the pool's for what it keeps per chunk. */
    struct mrp_retained retained;
    uint32_t id;
    struct mrp_region *region;
    uint32_t n_granules, n_granules_used, granule_shift;
    uint32_t first_free; /* granules below are in slabs */
    _Atomic uint64_t *granules;
    uint64_t serial; /* chunks are used oldest first */
    bool is_held; /* by who changes its registrations: it is not given up meanwhile, */
    bool is_evicted; /* but by the holder, when he lets go */
    bool is_restricted; /* to the rails it was made for */
    uint8_t passage; /* of who builds it, or gives it up: rails.h; 0: none */
    _Atomic uint32_t generation; /* most owners a region has had whose slab is gone */
    bool has_room; /* it is on the pool's list */
    bool is_over_budget;
    struct mrp_chunk *next_with_room;
};

/** The chunks of a context. */
struct mrp_chunk_store {
    pthread_mutex_t mutex; /* leaf lock */
    struct mrp_chunk *live;
    size_t n_live, live_size;
    size_t n_parked, parked_size;
};

struct mrp_chunk_request {
    /* a backend; or NULL and the caller's memory; or memory that he hands over, and
     * context->adopted_backend */
    struct mrp_backend_state *backend;
    void *adopted;
    size_t size;
    size_t alignment; /* of the mapping, besides what the address map wants */
    int node; /* MRP_NODE(n): bound to it, or refused; 0: the backend's own setting */
    /* inaccessible pages before and after it, not registered: on base pages, in the
     * range part of the address map */
    bool guarded;
    size_t payload_size; /* the pool's: where guarded, what ends at the second page */
    struct mrp_provider_state *const *rails; /* NULL: not with that one */
    size_t n_rails;
    uint64_t near; /* of them, those that want only chunks on their own node */
    /** True: go on without the rail that has just refused, whose record is the thread's.
     *  NULL: all or none. Under no lock. */
    bool (*go_on)(
        const struct mrp_chunk_request *request, unsigned rail, enum mrp_status status);
    uint32_t access;
    uint64_t native_flags;
    struct mrp_pool *pool;

    /* the pool's own, of the rails it has chosen */
    struct mrp_provider_state *chosen[MRP_RAILS_MAX];
    uint64_t wanted; /* bit i: rail i */
    uint64_t only; /* choose these; 0: by their policies */
    unsigned passage;
    bool is_over_budget; /* for a temporary region: charged to the context alone */
    bool is_for_slabs; /* not for one region */
    bool is_told; /* of what others give up: who wants it need not wait for that */
};

void mrp_chunk_store_create(struct mrp_chunk_store *store);
void mrp_chunk_store_destroy(struct mrp_chunk_store *store);

/** Map, then register with every rail or, unless the request goes on, with none. Blocks.
 */
enum mrp_status mrp_chunk_create(struct mrp_context_state *context,
    const struct mrp_chunk_request *request, struct mrp_chunk **chunk);

/** Make the chunk findable by address; id, granules and region are set in the chunk. */
enum mrp_status mrp_chunk_publish(struct mrp_chunk *chunk);
void mrp_chunk_withdraw(struct mrp_chunk *chunk);

/** Where its memory lies, for retention. */
struct mrp_place mrp_chunk_place(const struct mrp_chunk *chunk);

/** Deregister with every rail, then unmap. Where a rail refuses, or one that has gone has
 * done so, the mapping is parked with it and MRP_ERR_REGISTER comes back; the record is
 * released in any case. *refused (may be NULL): the rails that did, bit by bit. */
enum mrp_status mrp_chunk_end(struct mrp_chunk *chunk, uint64_t *refused);
enum mrp_status mrp_chunk_destroy(struct mrp_chunk *chunk);

/** Deregister with every rail; the mapping, which the caller has copied, is his from now
 * on. With MRP_ERR_REGISTER it is parked instead. The record is released in any case. */
enum mrp_status mrp_chunk_forget(struct mrp_chunk *chunk, uint64_t *refused);

/* -- chunk_rails.c -- */

/** What mrp_chunk_create begins with, and ends with. */
enum mrp_status mrp_chunk_register(
    struct mrp_chunk *chunk, const struct mrp_chunk_request *request);

/** Deregister with every rail, latest first, and park with those that refused, or had
 *  done so before: then *parked, and the mapping is not to be unmapped. */
enum mrp_status mrp_chunk_deregister(struct mrp_chunk *chunk,
    const struct mrp_mapping *whole, uint64_t *refused, bool *parked);

/** Register a live chunk with one more rail. The caller holds it (is_held). Blocks. */
enum mrp_status mrp_chunk_attach(
    struct mrp_chunk *chunk, unsigned rail, struct mrp_provider_state *provider);

/** Deregister it with that rail; MRP_ERR_REGISTER: the provider keeps the registration, and
 *  the memory will be parked with it when the chunk goes. As above. */
enum mrp_status mrp_chunk_detach(struct mrp_chunk *chunk, unsigned rail);

/** Whether a registration of it pins. For who holds it. */
bool mrp_chunk_is_pinned(const struct mrp_chunk *chunk);

/** Whether it lies on the node of the provider's device, as far as is known. */
bool mrp_chunk_is_near(
    const struct mrp_chunk *chunk, const struct mrp_provider_state *provider);

/** Whether the memory overlaps some that belongs to a chunk of any pool: not the caller's
 * own, which may. O(chunks). */
bool mrp_chunk_find_overlap(struct mrp_chunk_store *store, const void *address,
    size_t size, struct mrp_mapping *found);

#endif
