/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Regions: memory that is registered already, with its local descriptor and remote key.
 *
 * A struct mrp_region is a handle of one cache line, outside the registered memory. Calls
 * that take one refuse NULL, foreign, freed and destroyed ones as MRP_ERR_STALE without
 * touching foreign memory; a handle kept past its free is recognised until the region is
 * given out again.
 *
 * Threads: alloc, free, retain, release and find may be called from any thread at any
 * time. The other calls on one region may run concurrently with each other, not with its
 * free.
 */
#ifndef MRPOOL_REGION_H
#define MRPOOL_REGION_H

#include "mrpool/base.h"
#include "mrpool/provider.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mrp_pool;
struct mrp_region;
struct mrp_thread_slot;

/* Call the two functions of the fast path through the table of addresses, not through a
 * trampoline to it. */
#if defined(__GNUC__) && !defined(__clang__) && !defined(MRP_NOPLT)
#define MRP_NOPLT __attribute__((noplt))
#elif !defined(MRP_NOPLT)
#define MRP_NOPLT
#endif

/** Take a region of at least `size` usable bytes; 0 gives the smallest. Its contents
 *  are undefined. The address is aligned to the pool's alignment, at least 64.
 *
 *  From the calling thread's cache without any lock or atomic read-modify-write; once per
 *  magazine (up to 126 regions, fewer of larger blocks) two compare-and-swaps; otherwise
 *  it grows, which maps and registers memory and may block. Larger than the huge tier: a
 *  chunk of its own, reused from the idle ones where one fits, under two short locks.
 *  @return NULL on failure; mrp_error_last()->status tells MRP_ERR_LIMIT,
 *  MRP_ERR_MEMORY, MRP_ERR_REGISTER, MRP_ERR_INVALID (near SIZE_MAX), MRP_ERR_STALE,
 *  MRP_ERR_FORKED. */
MRP_API MRP_NOPLT struct mrp_region *mrp_region_alloc(struct mrp_pool *pool, size_t size);

enum mrp_region_request_flag {
    MRP_REQUEST_ZERO = 1 << 0, /**< the first `size` bytes read as zero */
    /** neither map nor register memory for the pool: MRP_ERR_AGAIN instead */
    MRP_REQUEST_NOGROW = 1 << 1,
    /** NOGROW, and take only what is free already: MRP_ERR_AGAIN where regions would have
     *  to be cut first, and, for a thread without caches, while another has the pool's
     *  mutex. What remains are short locks: where a thread makes its first caches, where
     *  it wakes another, and larger than huge. */
    MRP_REQUEST_NOWAIT = 1 << 2
};

struct mrp_region_request {
    size_t struct_size;
    uint32_t flags; /**< enum mrp_region_request_flag */
    /** of the payload: power of two up to 1 GiB; 0: the pool's. Beyond the pool's own
     *  it needs a headroom that is a multiple of it. */
    size_t alignment;
    /** whose caches to take it from; NULL: the calling thread's */
    struct mrp_thread_slot *slot;
    /** MRP_NODE(n): memory of NUMA node n, or refused; 0: the pool's. Not from thread
     *  caches, unless it is the pool's own node. Up to 3 nodes besides that, fewer
     *  where the tiers have more than 62 size classes (beyond 4 MiB): MRP_ERR_LIMIT. The
     *  first request of a node must not be NOGROW: MRP_ERR_AGAIN. */
    int node;
    /** milliseconds to stand in line at the limit; 0: as the pool is set; UINT32_MAX:
     *  for ever. Not 0: wait, whatever the pool does at the limit. */
    uint32_t wait_ms;
    /** Who it is for, in reports of leaks; NULL: none. Kept by reference: a literal, or
     *  text that stays as long as the pool. Not kept of the pooled regions of a pool
     *  without checks (MRP_CHECKS_NONE). */
    const char *tag;
};
#define MRP_REGION_REQUEST_INIT \
    { \
        sizeof(struct mrp_region_request), 0, 0, NULL, 0, 0, NULL \
    }

/** mrp_region_alloc with wishes. request may be NULL. */
MRP_API struct mrp_region *mrp_region_alloc_with(
    struct mrp_pool *pool, size_t size, const struct mrp_region_request *request);

/** Take up to `count` regions of `size` bytes into regions[]. Whole magazines move with
 *  one compare-and-swap. @return how many were got; fewer than count leaves an error
 *  record. */
MRP_API size_t mrp_region_alloc_many(
    struct mrp_pool *pool, size_t size, size_t count, struct mrp_region **regions);

/** A request that stands in line, embedded in the caller's own object: valid and untouched
 *  from mrp_region_alloc_async until notify is called or the waiter is cancelled. */
struct mrp_waiter {
    /** Called once, under no lock, by the thread whose free made room, or by the one that
     *  trims, flushes or destroys the pool. Must not block, nor destroy a pool; may
     *  allocate (not where the pool waits at its limit: MRP_REQUEST_NOWAIT, or
     *  mrp_region_alloc_async again) and free.
     *  region: the caller's, of the size asked for; or NULL and
     *    MRP_ERR_AGAIN   there is room now, but only growth can use it: call
     *                    mrp_region_alloc_async again, in a thread that may grow. The
     *                    waiter, passed as it is, keeps its place in the line.
     *    MRP_ERR_STALE   the pool is being destroyed
     *    MRP_ERR_CORRUPT it was overwritten while it was free; it is not used again */
    void (*notify)(
        struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status);
    void *user; /**< the caller's */
    /* the library's own: all zero before the first use */
    struct mrp_waiter *next, *previous;
    struct mrp_pool *pool;
    struct mrp_region *region;
    void *point;
    size_t size;
    uint64_t turn, tried;
    uint32_t class_index, state;
};
#define MRP_WAITER_INIT(notify_function, user_data) \
    { \
        (notify_function), (user_data), NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0 \
    }

/** mrp_region_alloc, except that at the limit the request takes a place in the line and
 *  the call returns. First come, first served among all who wait; newcomers queue behind
 *  them, unless their own thread's cache serves them.
 *  @return MRP_OK and *region; MRP_ERR_AGAIN: it stands in line, waiter->notify will be
 *  called; else refused, as mrp_region_alloc. */
MRP_API enum mrp_status mrp_region_alloc_async(struct mrp_pool *pool, size_t size,
    struct mrp_waiter *waiter, struct mrp_region **region);

/** Leave the line. MRP_OK: notify has not been called and will not be.
 *  MRP_ERR_NOT_FOUND: the waiter stands in no line: notify has been called or is being
 *  called now. */
MRP_API enum mrp_status mrp_waiter_cancel(struct mrp_waiter *waiter);

/** Give a region back. Only for the only reference: MRP_ERR_BUSY while others hold it.
 *  Never waits for growth, cannot fail for a valid region, except that larger-than-huge
 *  and registered ones may be deregistered here. While requests stand in line for memory,
 *  a free also serves them: it may regroup free memory, give some of it up, and call
 *  waiters back. A slice gives up its hold on its root,
 *  which may be the last. With MRP_ERR_REGISTER the region is gone all the same; the
 *  network kept the registration, and the memory must stay until its provider is closed.
 */
MRP_API MRP_NOPLT enum mrp_status mrp_region_free(struct mrp_region *region);

/** Free `count` regions, of any pools and sizes.
 *  @return the first failure; all others are freed all the same, *n_freed counts them
 *  (may be NULL). */
MRP_API enum mrp_status mrp_region_free_many(
    struct mrp_region *const *regions, size_t count, size_t *n_freed);

/** Add a reference; MRP_ERR_LIMIT at 2^31 - 1 of them. */
MRP_API enum mrp_status mrp_region_retain(struct mrp_region *region);

/** Drop a reference; the last one gives the region back as mrp_region_free does. */
MRP_API enum mrp_status mrp_region_release(struct mrp_region *region);

/** Give up a region that the network may still write to: an aborted transfer's buffer. It
 *  is in quarantine, neither live nor free, until mrp_pool_drained(pool, fence). `fence`
 *  is any number of the caller's that names what has to drain first: a connection, an
 *  epoch. Only for the only reference (MRP_ERR_BUSY); a slice keeps its hold on its root.
 *  Cannot fail otherwise for a valid region. Needs no memory, never blocks for growth. */
MRP_API enum mrp_status mrp_region_abandon(struct mrp_region *region, uint64_t fence);

/** Change the size. In place where the region's capacity allows, which *resized then is
 *  again; else a new region with the first min(old, new) bytes, and `region` is free.
 *  On failure `region` is as before. Only for the only reference (MRP_ERR_BUSY), host
 *  memory, and regions that own their memory: no slice and no registered memory
 *  (MRP_ERR_UNSUPPORTED). Without checks the bytes copied are the capacity's. The new
 *  region is as mrp_region_alloc gives it: aligned as the pool is, its message length 0,
 *  its user data its own. */
MRP_API enum mrp_status mrp_region_realloc(
    struct mrp_region *region, size_t size, struct mrp_region **resized);

/** A region for `size` bytes at `offset` of another, with its keys. It holds a
 *  reference on the root (the region that owns the memory; slices of slices hold the
 *  same root) and is given back like any region. offset + size at most the parent's
 *  size. Lock-free, except once per 64 slices that are live at a time; MRP_ERR_INVALID,
 *  MRP_ERR_STALE, MRP_ERR_LIMIT, MRP_ERR_MEMORY. */
MRP_API enum mrp_status mrp_region_slice(
    struct mrp_region *parent, size_t offset, size_t size, struct mrp_region **slice);

/* -- what a region is; of one that is not live: NULL, 0 or MRP_ERR_STALE -- */

/** First byte of the payload; NULL for a region that is not live. */
MRP_API void *mrp_region_address(const struct mrp_region *region);

/** Bytes asked for. */
MRP_API size_t mrp_region_size(const struct mrp_region *region);

/** Bytes that may be used from the address on: the size class less headroom and
 *  tailroom. */
MRP_API size_t mrp_region_capacity(const struct mrp_region *region);

/** Length of the message in it: set by the owner, at most the capacity; 0 after alloc. */
MRP_API enum mrp_status mrp_region_set_length(struct mrp_region *region, size_t length);
MRP_API size_t mrp_region_length(const struct mrp_region *region);

/** The pool's user_size bytes for this region, 64-byte aligned; NULL when it has none.
 *  They keep their contents from one owner to the next; region_init fills them once. */
MRP_API void *mrp_region_user(const struct mrp_region *region);

MRP_API struct mrp_pool *mrp_region_pool(const struct mrp_region *region);

enum mrp_region_kind {
    MRP_REGION_POOLED, /**< a block of a size class */
    MRP_REGION_LARGE, /**< larger than huge: a chunk of its own */
    MRP_REGION_USER, /**< the caller's memory, of mrp_region_register */
    MRP_REGION_SLICE,
    MRP_REGION_ADOPTED, /**< the pool's now, of mrp_region_adopt */
    MRP_REGION_TEMPORARY /**< beyond the budgets: MRP_AT_LIMIT_TEMPORARY */
};

/** Everything about a region in one struct. */
struct mrp_region_info {
    size_t struct_size;
    void *address;
    size_t size, capacity, length;
    enum mrp_region_kind kind;
    int tier; /**< enum mrp_tier; -1 for large and user regions */
    uint32_t references; /**< slices included */
    uint32_t generation; /**< counts the owners this region has had */
    struct mrp_pool *pool;
    struct mrp_region *parent; /**< root of a slice, else NULL */
    void *chunk_address; /**< the chunk it lies in: what is registered */
    size_t chunk_size;
    size_t page_size; /**< of the chunk's memory; 0: not known */
};
#define MRP_REGION_INFO_INIT \
    { \
        sizeof(struct mrp_region_info), NULL, 0, 0, 0, MRP_REGION_POOLED, 0, 0, 0, NULL, \
            NULL, NULL, 0, 0 \
    }
MRP_API enum mrp_status mrp_region_query(
    const struct mrp_region *region, struct mrp_region_info *info);

/* -- for the network: rail is the index in mrp_pool_params.rails, or of mrp_pool_rail_add.
 * All of these: MRP_ERR_UNSUPPORTED: no such rail, or the region's chunk is not registered
 * with it (mrp_region_ensure); MRP_ERR_UNAVAILABLE: the rail has failed, and why. -- */

/** What local access needs (fid_mr descriptor, lkey, ...). NULL, with MRP_OK, when this
 *  network needs none. */
MRP_API enum mrp_status mrp_region_local_desc(
    const struct mrp_region *region, unsigned rail, void **local_desc);

/** Remote key of up to 64 bits. MRP_ERR_UNSUPPORTED: the pool grants no remote access,
 *  the network has no keys, or its keys are larger: mrp_region_key_pack carries those. */
MRP_API enum mrp_status mrp_region_remote_key(
    const struct mrp_region *region, unsigned rail, uint64_t *remote_key);

/** What a peer uses to address the region's first byte with that key. */
MRP_API enum mrp_status mrp_region_remote_addr(
    const struct mrp_region *region, unsigned rail, uint64_t *remote_addr);

/** The native registration (fid_mr*, ibv_mr*, ...) and where in it the region begins.
 *  Borrowed: valid while the region is, and the rail is the pool's. */
MRP_API enum mrp_status mrp_region_registration(
    const struct mrp_region *region, unsigned rail, void **native, size_t *offset);

/** Register the region's chunk on those rails of rail_mask (bit i: rail i) that do not
 *  have it yet: rails that are lazy, or far from it. All of them or none; what is
 *  registered stays until the chunk, or the rail, goes. At a budget idle memory is given
 *  up for it. Blocks; of several threads that want the same one registers. Lock-free where
 *  nothing is left to do. Errors as mrp_pool_rail_add; MRP_ERR_INVALID: the mask is 0. */
MRP_API enum mrp_status mrp_region_ensure(
    const struct mrp_region *region, uint64_t rail_mask);

/** The region that holds an address: interior addresses, larger-than-huge and
 *  registered memory included; of a slice, the root. NULL (MRP_ERR_NOT_FOUND) for an
 *  address in no region of this pool. Lock-free, O(1); O(log n) among n registered user
 *  buffers and array chunks. Any address is safe to ask about. The region's own line is
 *  not read: for memory that has been given back the answer is the free region, which
 *  every other call refuses as MRP_ERR_STALE where the pool checks. */
MRP_API struct mrp_region *mrp_region_find(struct mrp_pool *pool, const void *address);

/** All that one scatter entry needs, from an address. */
struct mrp_wire {
    size_t struct_size;
    void *local_desc;
    uint64_t remote_key; /**< 0 when has_remote_key is false */
    uint64_t remote_addr;
    bool has_remote_key;
    void *native; /**< fid_mr*, ibv_mr*, ...*/
    size_t offset; /**< of the address in the registration, bytes */
    size_t bytes_left; /**< from the address to the end of the registration */
};
#define MRP_WIRE_INIT \
    { \
        sizeof(struct mrp_wire), NULL, 0, 0, false, NULL, 0, 0 \
    }

/** One step from [address, address + size) of this pool to what the rail needs. Where
 *  registered buffers overlap, the answer is of one of them.
 *  MRP_ERR_NOT_FOUND: not the pool's; MRP_ERR_INVALID: runs past the chunk;
 *  MRP_ERR_UNSUPPORTED, MRP_ERR_UNAVAILABLE as above. Lock-free. */
MRP_API enum mrp_status mrp_resolve(struct mrp_pool *pool, const void *address,
    size_t size, unsigned rail, struct mrp_wire *wire);

/* -- the caller's own memory -- */

struct mrp_region_register_params {
    size_t struct_size;
    uint32_t access; /**< enum mrp_access; 0: the pool's */
    uint64_t native_flags; /**< 0: the pool's */
    /** bit i: rail i, and no others, also of those added later; 0: as their policies say,
     *  and mrp_pool_rail_add */
    uint64_t rails;
};
#define MRP_REGION_REGISTER_PARAMS_INIT \
    { \
        sizeof(struct mrp_region_register_params), 0, 0, 0 \
    }

/** Register [address, address + size) on every rail of the pool that wants it, or on none,
 *  and give a region for it. Freeing that region deregisters; the memory stays the caller's,
 *  untouched, and must outlive the region. Any alignment; may overlap other registered
 *  memory. Blocks. O(n) among n registered buffers of the context: microseconds for
 *  hundreds; up to 65,536 in a pool. Errors as mrp_region_alloc. */
MRP_API enum mrp_status mrp_region_register(struct mrp_pool *pool, void *address,
    size_t size, const struct mrp_region_register_params *params,
    struct mrp_region **region);

struct mrp_region_adopt_params {
    size_t struct_size;
    /** gives the memory back, once the pool has deregistered it: when it is evicted, or
     *  the pool goes; where the network refuses to deregister, when its provider closes.
     *  Under no lock; must not call the pool. NULL: nothing to do */
    void (*release)(void *address, size_t size, void *user);
    void *user;
};
#define MRP_REGION_ADOPT_PARAMS_INIT \
    { \
        sizeof(struct mrp_region_adopt_params), NULL, NULL \
    }

/** Hand [address, address + size) over to the pool, registered with its rights on its rails
 *  as their policies say, as a live region. After its free it is idle memory like a larger-than-huge
 *  region, for requests of at least three quarters of its size. Counts against the
 *  budgets. size: more than the huge tier's limit. Any alignment; host memory. On failure
 *  the memory is the caller's still. Errors as mrp_region_register; MRP_ERR_INVALID also
 *  where a pool of the context has some of it already. */
MRP_API enum mrp_status mrp_region_adopt(struct mrp_pool *pool, void *address,
    size_t size, const struct mrp_region_adopt_params *params,
    struct mrp_region **region);

/** Take a region's memory out of the pool: deregistered, and the caller's from now on.
 *  Of an adopted region it is the adopted memory, whose release is not called. Of a
 *  larger-than-huge or isolated one it is a block of the context's, for
 *  mrp_memory_free, at the region's address. MRP_ERR_BUSY: others hold a reference;
 *  MRP_ERR_UNSUPPORTED: a part of a chunk, a slice, registered or temporary memory; then
 *  the region is as before, also with MRP_ERR_MEMORY. With MRP_ERR_REGISTER it is gone:
 *  the network kept a registration, so the memory is parked until its provider closes,
 *  and then given back as if it had been evicted. */
MRP_API enum mrp_status mrp_region_forget(
    struct mrp_region *region, void **address, size_t *size);

/* -- by plain pointer -- */

/** mrp_region_alloc for callers that keep pointers; NULL on failure. */
MRP_API void *mrp_ptr_alloc(struct mrp_pool *pool, size_t size);

/** Free by the first byte of a region; MRP_ERR_STALE for any other address. */
MRP_API enum mrp_status mrp_ptr_free(struct mrp_pool *pool, void *address);

/* -- for peers -- */

/** Bytes of a region on the wire: {u8 version, u8 flags, u16 check, u32 pool, u32
 *  chunk, u32 chunk generation, u48 offset, u48 length, u32 region generation}, little-
 *  endian. */
#define MRP_TOKEN_SIZE 32

struct mrp_token {
    uint8_t bytes[MRP_TOKEN_SIZE];
};

/** The region's token. A token carries no key: keys travel once per chunk
 *  (mrp_region_key_pack). */
MRP_API enum mrp_status mrp_region_token(
    const struct mrp_region *region, struct mrp_token *token);

/** The owner's way back from a token, to the region whose memory it names: of a slice,
 *  the root. MRP_ERR_INVALID when corrupted or of another pool, MRP_ERR_STALE when the
 *  region has been freed or given out again since. */
MRP_API enum mrp_status mrp_token_resolve(
    struct mrp_pool *pool, const struct mrp_token *token, struct mrp_region **region);

/** Pack the keys of the region's chunk, for the rails of rail_mask (bit i: rail i),
 *  into buffer. *size is the capacity going in and the bytes used coming out; with
 *  buffer NULL, the bytes needed. Once per chunk and peer is enough. */
MRP_API enum mrp_status mrp_region_key_pack(
    const struct mrp_region *region, uint64_t rail_mask, void *buffer, size_t *size);

/** The network's own key of the region's chunk on one rail, for peers without mrpool: the
 *  key_size bytes of mrp_registration, those of a key of up to 64 bits little-endian.
 *  With mrp_region_remote_addr it is all that a peer needs. buffer and *size as in
 *  mrp_region_key_pack. Errors as mrp_region_remote_key. */
MRP_API enum mrp_status mrp_region_native_key(
    const struct mrp_region *region, unsigned rail, void *buffer, size_t *size);

struct mrp_remote;

/** Import a peer's packed keys: `rail` is the peer's rail whose network `provider`
 *  reaches, `endpoint` what that network ties imports to (NULL for libfabric).
 *  Validates every byte. MRP_ERR_INVALID: truncated, corrupted, wrong version, no such
 *  rail in it. */
MRP_API enum mrp_status mrp_remote_open(struct mrp_provider *provider, void *endpoint,
    unsigned rail, const void *packed, size_t size, struct mrp_remote **remote);

/** Where a token of that chunk lies for the network. */
struct mrp_remote_region {
    size_t struct_size;
    uint64_t address; /**< what to pass as the remote address */
    uint64_t key; /**< what to pass as the remote key */
    void *handle; /**< the provider's import, where a network needs more than 64 bits */
    size_t size; /**< bytes of the region */
};
#define MRP_REMOTE_REGION_INIT \
    { \
        sizeof(struct mrp_remote_region), 0, 0, NULL, 0 \
    }

/** MRP_ERR_INVALID: corrupted token or of another pool or chunk (use that chunk's keys);
 *  MRP_ERR_STALE: the chunk has been replaced since the keys were packed. */
MRP_API enum mrp_status mrp_remote_resolve(const struct mrp_remote *remote,
    const struct mrp_token *token, struct mrp_remote_region *region);

/** Whose keys a token needs, and which were imported: the chunk `chunk` of the pool. Its
 *  generation differs when the chunk has been replaced since, and then the keys do. */
struct mrp_chunk_id {
    uint32_t pool, chunk, generation;
};

/** For who keeps the imports of many chunks in a table, or what a peer has been sent.
 *  MRP_ERR_INVALID: corrupted token. */
MRP_API enum mrp_status mrp_token_chunk(
    const struct mrp_token *token, struct mrp_chunk_id *id);
MRP_API enum mrp_status mrp_remote_chunk(
    const struct mrp_remote *remote, struct mrp_chunk_id *id);

MRP_API enum mrp_status mrp_remote_close(struct mrp_remote *remote);

#ifdef __cplusplus
}
#endif
#endif
