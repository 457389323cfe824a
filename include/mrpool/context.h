/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The context owns everything: backends, providers, pools, every block of memory and
 * every registration. Handles of a destroyed context, NULL and garbage are recognised
 * without reading freed memory and refused as MRP_ERR_STALE.
 */
#ifndef MRPOOL_CONTEXT_H
#define MRPOOL_CONTEXT_H

#include "mrpool/backend.h"
#include "mrpool/base.h"
#include "mrpool/provider.h"

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mrp_context;
struct mrp_pool;

/** What a leak report names. */
enum mrp_object_kind {
    MRP_OBJECT_BLOCK, /**< of mrp_memory_alloc */
    MRP_OBJECT_REGION,
    MRP_OBJECT_ABANDONED, /**< a region in quarantine: its fence was never drained */
    MRP_OBJECT_REGISTRATION /**< one the network refused to take back: parked memory */
};

/** One thing that was still live when its owner went. */
struct mrp_leak {
    enum mrp_object_kind kind;
    const void *address; /**< of the memory; NULL for pools, providers and backends */
    size_t size; /**< bytes */
    const char *owner; /**< name of the pool or backend */
    const char
        *origin; /**< who allocated it: the caller's tag, else "symbol+0x12 (file)" */
};
typedef void mrp_leak_visitor(const struct mrp_leak *leak, void *user);

struct mrp_context_params {
    size_t struct_size;
    const char *name; /**< for reports; NULL: "context-<number>" */
    /** called for each leaked block and region at destroy, under no lock, before its
     *  memory goes; NULL: none */
    mrp_leak_visitor *on_leak;
    void *on_leak_user;
    /** bytes of idle memory kept registered for reuse, all pools of the context; 0: as
     *  MRPOOL_RETAINED_SIZE */
    size_t retained_size;
    size_t retained_count; /**< chunks of it; 0: as MRPOOL_RETAINED_COUNT */
    /** memory all pools map together at most; 0: MRPOOL_CONTEXT_MAX_BYTES, else seven
     *  eighths of RAM or of the cgroup's limit */
    size_t max_bytes;
    /** of it, memory that pools with a rail that pins may map; 0: what memlock leaves
     *  when the context is created */
    size_t max_pinned;
    /** registrations of all pools and rails together; 0:
     *  MRPOOL_CONTEXT_MAX_REGISTRATIONS, else 16384 */
    size_t max_registrations;
};
#define MRP_CONTEXT_PARAMS_INIT \
    { \
        sizeof(struct mrp_context_params), NULL, NULL, NULL, 0, 0, 0, 0, 0 \
    }

/** Create a context. Validates the library's MRPOOL_* environment: a value out of range or
 *  an unknown name is MRP_ERR_INVALID, and the text names it; variables of modules are
 *  judged when those are opened. params may be NULL. Thread-safe. */
MRP_API enum mrp_status mrp_context_create(
    const struct mrp_context_params *params, struct mrp_context **context);

/** Destroy a context and everything in it: pools, then registrations, then blocks, then
 *  providers, then backends. No other thread may be using it.
 *  @return MRP_OK; MRP_ERR_LEAKED when blocks or regions were still live (they are
 *  freed all the same; the text counts them and names the first); MRP_ERR_STALE;
 *  MRP_ERR_FORKED in a child of the process that created it, where nothing is touched. */
MRP_API enum mrp_status mrp_context_destroy(struct mrp_context *context);

/** MRP_OK when the handle is a live context of this process. Never reads through it. */
MRP_API enum mrp_status mrp_context_check(struct mrp_context *context);

/** A context for programs that want just one: created at the first call, destroyed by
 *  mrp_context_destroy like any other (the next call then makes a new one). */
MRP_API enum mrp_status mrp_context_default(struct mrp_context **context);

struct mrp_context_stats {
    size_t struct_size;
    size_t n_backends, n_providers, n_pools;
    size_t n_blocks, block_size; /**< of mrp_memory_alloc, and bytes asked for */
    size_t n_chunks, chunk_size; /**< mapped or adopted for pools, bytes */
    /** one per chunk and rail, and per pinned block; bytes */
    size_t n_registrations, registered_size;
    size_t n_retained, retained_size; /**< idle chunks kept for reuse, bytes */
    size_t n_parked, parked_size; /**< kept mapped because a deregistration failed */
    /** what the pools' chunks use of the context's budgets: bytes, bytes with a rail that
     *  pins, registrations */
    size_t charged_size, max_bytes, pinned_size, max_pinned, n_charged, max_registrations;
};
#define MRP_CONTEXT_STATS_INIT \
    { \
        sizeof(struct mrp_context_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0, 0, 0 \
    }
MRP_API enum mrp_status mrp_context_stats(
    struct mrp_context *context, struct mrp_context_stats *stats);

/** Deregister and unmap idle memory, least recently used first, until at most `keep`
 *  bytes of it are left. Blocks. */
MRP_API enum mrp_status mrp_context_trim(struct mrp_context *context, size_t keep);

/** How much idle memory to keep for reuse. Each place has bounds and a list of its own,
 *  the least recently used goes first; a place that nobody has set bounds for has the
 *  context's retained_size and retained_count. */
struct mrp_retention_params {
    size_t struct_size;
    enum mrp_memory_kind kind;
    int device; /**< of that kind; 0 for host memory */
    int node; /**< MRP_NODE(n), for memory bound to it; 0: for memory bound to none */
    size_t max_size; /**< bytes; 0: keep nothing */
    size_t max_count; /**< chunks; 0: keep nothing */
};
#define MRP_RETENTION_PARAMS_INIT \
    { \
        sizeof(struct mrp_retention_params), MRP_MEMORY_HOST, 0, 0, 0, 0 \
    }

/** Set a place's bounds, in either direction, at any time; what is beyond them goes before
 *  the call returns. Blocks. MRP_ERR_LIMIT: 64 places have bounds already. */
MRP_API enum mrp_status mrp_context_retain(
    struct mrp_context *context, const struct mrp_retention_params *params);

enum mrp_report_format {
    MRP_REPORT_TEXT,
    MRP_REPORT_JSON
};

/** Write who holds what memory, how old it is, and how much of each budget is used: of
 *  the context and of every pool, per tier live, cached in threads, in the depot, idle,
 *  quarantined, parked; fragmentation, and what could be given back. In the text a line
 *  that needs attention begins with '!', and what to do stands below it. The JSON is one
 *  object, with the same numbers. Any thread, at any time; numbers read while others work
 *  are inexact. Written in one piece, and flushed, under no lock. O(regions).
 *  MRP_ERR_INVALID, MRP_ERR_MEMORY, MRP_ERR_SYSTEM (the file refuses). */
MRP_API enum mrp_status mrp_context_report(
    struct mrp_context *context, enum mrp_report_format format, FILE *file);

/* -- tracked blocks -- */

enum mrp_memory_flag {
    MRP_MEMORY_PINNED = 1 << 0, /**< locked in RAM (mlock2), on pages of its own */
    MRP_MEMORY_UNZEROED = 1 << 1 /**< do not spend time on zeroing it */
};

/** In: what is wanted (size_t members 0: the default). Out, from mrp_memory_query: what
 *  was got. Every attribute acts or is refused; none is ignored. */
struct mrp_memory_info {
    size_t struct_size;
    size_t size; /**< bytes asked for; 0 is valid and gives a unique, freeable address */
    size_t alignment; /**< power of two, at most 1 GiB; 0: 64 */
    uint32_t flags; /**< enum mrp_memory_flag */
    enum mrp_memory_kind kind; /**< HOST; others are refused as MRP_ERR_UNSUPPORTED */
    int device; /**< 0 for host memory */
    int node; /**< MRP_NODE(n): refused by backends that cannot bind; 0: any */
    enum mrp_pages
        pages; /**< refused by backends without a choice; DEFAULT: the backend's */
    struct mrp_backend *backend; /**< NULL: the context's own malloc backend */
    const char *tag; /**< who it is for, kept by reference for reports; NULL: call site */
    void *address; /**< out only; must be NULL going in */
    size_t usable_size; /**< out only: bytes that may be written, at least size */
    size_t page_size; /**< out only: bytes */
};
#define MRP_MEMORY_INFO_INIT \
    { \
        sizeof(struct mrp_memory_info), 0, 0, 0, MRP_MEMORY_HOST, 0, 0, \
            MRP_PAGES_DEFAULT, NULL, NULL, NULL, 0, 0 \
    }

/** Allocate a block, zeroed unless told not to, tracked until mrp_memory_free or the
 *  context's end. Thread-safe; O(1) besides the zeroing, which happens under no lock.
 *  @return NULL on failure: MRP_ERR_INVALID, MRP_ERR_UNSUPPORTED, MRP_ERR_MEMORY,
 *  MRP_ERR_LIMIT (pinned beyond memlock). */
MRP_API void *mrp_memory_alloc(
    struct mrp_context *context, const struct mrp_memory_info *info);

/** Free a block. MRP_ERR_INVALID for NULL, MRP_ERR_STALE for an address that is none of
 *  the context's blocks: unknown, inside one, or freed already, as the text says. */
MRP_API enum mrp_status mrp_memory_free(struct mrp_context *context, void *address);

/** What mrp_memory_alloc knows of a block; errors as mrp_memory_free. */
MRP_API enum mrp_status mrp_memory_query(
    struct mrp_context *context, const void *address, struct mrp_memory_info *info);

typedef void mrp_memory_visitor(const struct mrp_memory_info *info, void *user);

/** Call `visit` for each live block, from a snapshot, under no lock. */
MRP_API enum mrp_status mrp_memory_visit(
    struct mrp_context *context, mrp_memory_visitor *visit, void *user);

/* -- registrations: the same questions -- */

struct mrp_registration_info {
    size_t struct_size;
    const void *address; /**< first byte registered */
    size_t size; /**< bytes */
    struct mrp_provider *provider;
    struct mrp_pool *pool; /**< whose chunk it is */
    uint32_t access; /**< enum mrp_access */
    struct mrp_registration native; /**< as the provider gave it */
};
#define MRP_REGISTRATION_INFO_INIT \
    { \
        sizeof(struct mrp_registration_info), NULL, 0, NULL, NULL, 0, \
        { \
            sizeof(struct mrp_registration), NULL, NULL, 0, NULL, 0, 0 \
        } \
    }

/** The provider's registration of pool or registered user memory that covers `address`,
 *  interior addresses included. MRP_ERR_NOT_FOUND. O(chunks), under a lock: for tools
 *  and checks; the data path has mrp_resolve. */
MRP_API enum mrp_status mrp_registration_query(struct mrp_context *context,
    struct mrp_provider *provider, const void *address,
    struct mrp_registration_info *info);

typedef void mrp_registration_visitor(
    const struct mrp_registration_info *info, void *user);

/** Call `visit` for each live registration of pool and registered user memory (pinned blocks
 *  are listed as blocks), from a snapshot, under no lock. */
MRP_API enum mrp_status mrp_registration_visit(
    struct mrp_context *context, mrp_registration_visitor *visit, void *user);

#ifdef __cplusplus
}
#endif
#endif
