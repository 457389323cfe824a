/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The context's own view of itself, its backends and its providers. Public handles are
 * resolved once at the door (mrp_context_get and so on); below it these structs are
 * passed.
 */
#ifndef MRP_CONTEXT_CONTEXT_H
#define MRP_CONTEXT_CONTEXT_H

#include "base/atomic.h"
#include "context/address_map.h"
#include "context/block_table.h"
#include "context/budget.h"
#include "context/chunk.h"
#include "context/retention.h"
#include "mrpool/context.h"

#include <pthread.h>

#define MRP_NAME_SIZE 64
#define MRP_RECENTLY_FREED \
    64 /* addresses remembered to tell a double free from a stray one */

/** What one destroy found still live. */
struct mrp_leak_report {
    mrp_leak_visitor *visit;
    void *user;
    size_t count, size;
    char first[192]; /* the first one, in words */
};

/** Count one leak, remember the first, tell the visitor. */
void mrp_leak_add(struct mrp_leak_report *report, const struct mrp_leak *leak);

/** Anything with a unique name in a context: links of the three lists below. */
struct mrp_named {
    char name[MRP_NAME_SIZE];
    void *handle; /* what finding it gives */
    struct mrp_named *next;
};

struct mrp_context_state {
    struct mrp_context *handle;
    char name[MRP_NAME_SIZE];
    mrp_leak_visitor *on_leak;
    void *on_leak_user;

    pthread_mutex_t
        mutex; /* of all down to pin_provider; leaf lock, nothing is called under it */
    struct mrp_named *backends, *providers, *pools;
    unsigned last_numbers[3]; /* for names nobody gave, per list */

    struct mrp_block_table blocks;
    size_t block_size;
    uintptr_t freed[MRP_RECENTLY_FREED];
    size_t next_freed;
    struct mrp_provider_state
        *pin_provider; /* of pinned blocks; opened at the first one */

    struct mrp_backend_state *block_backend; /* of blocks that ask for none */
    struct mrp_backend_state *adopted_backend; /* of adopted memory */
    struct mrp_address_map map;
    struct mrp_chunk_store chunks;
    struct mrp_retention retention;
    struct mrp_budget budget;
    _Atomic uint32_t n_waiting; /* requests in the lines of all pools, and calls owed */
};

struct mrp_backend_state {
    struct mrp_named named; /* first */
    struct mrp_backend *handle;
    struct mrp_context_state *context;
    struct mrp_backend_ops
        ops; /* a copy: slots the author's header did not have are NULL */
    void *state;
    struct mrp_provider_state *provider; /* whose memory it gives; NULL: its own */
    size_t granularity, max_size; /* as the backend says, at least 1 and 0 */
    _Atomic size_t n_users; /* pools, blocks and parked mappings */
    _Atomic size_t n_mappings, mapped_size;
};

struct mrp_provider_state {
    struct mrp_named named; /* first */
    struct mrp_provider *handle;
    struct mrp_context_state *context;
    struct mrp_provider_ops ops; /* a copy, as above */
    void *state;
    struct mrp_provider_info info; /* as queried at open; texts below */
    char device[128];
    _Atomic size_t n_users; /* pools that have it as a rail, imports, and backends */
    _Atomic size_t n_registrations, registered_size;
    _Atomic uint64_t n_registered, n_deregistered; /* ever */
    _Atomic size_t n_parked, parked_size; /* what its refusals have kept mapped */
    pthread_mutex_t mutex; /* of the two lists; leaf lock */
    struct mrp_parked *parked; /* mappings that a failed deregistration keeps */
    struct mrp_remote_state *remotes; /* imports not closed yet */
};

struct mrp_pool_reporter;

/** A pool as its context knows it; embedded in the pool. */
struct mrp_pool_member {
    struct mrp_named named; /* first */
    struct mrp_pool *handle;
    const struct mrp_pool_reporter *reporter;
    /* Threads that come to serve it, or read it for a report: raised under the context's
     * mutex while the pool is listed there. A pool that goes waits for 0. */
    _Atomic size_t n_visitors;
    void (*destroy)(struct mrp_pool *pool, struct mrp_leak_report *report);
    /** See to those who wait for memory of the pool, and end the visit. No lock. */
    void (*serve)(struct mrp_pool *pool);
    _Atomic bool is_owed; /* somebody is to be served, or called back */
    _Atomic bool has_lift; /* room has come in a budget of the context */
};

/** Room has come in a budget that all pools share: each is to be served. No lock. */
void mrp_context_owe(struct mrp_context_state *context);

/** Serve the pools that are owed it. At the end of calls that may have made room. No
 *  lock; calls waiters back. */
void mrp_context_serve(struct mrp_context_state *context);

enum mrp_status mrp_context_get(
    struct mrp_context *handle, struct mrp_context_state **context);
enum mrp_status mrp_backend_get(
    struct mrp_backend *handle, struct mrp_backend_state **backend);
enum mrp_status mrp_provider_get(
    struct mrp_provider *handle, struct mrp_provider_state **provider);

/** Name an object ("<prefix>-<number>" when name is NULL) and link it into one of the
 * context's lists. MRP_ERR_EXISTS, MRP_ERR_INVALID (longer than 63 bytes, or empty). */
enum mrp_status mrp_context_link(struct mrp_context_state *context,
    struct mrp_named **list, struct mrp_named *object, const char *name,
    const char *prefix);
void mrp_context_unlink(
    struct mrp_context_state *context, struct mrp_named **list, struct mrp_named *object);

/** The object of that name, or NULL with MRP_ERR_NOT_FOUND recorded. */
void *mrp_context_lookup(struct mrp_context_state *context, struct mrp_named *const *list,
    const char *name, const char *what);

/* -- backend.c: the only callers of backend ops -- */

enum mrp_status mrp_backend_state_create(struct mrp_context_state *context,
    const char *kind, const struct mrp_backend_params *params,
    struct mrp_backend_state **backend);
void mrp_backend_state_destroy(struct mrp_backend_state *backend);

/** The provider is closed, and its memory has gone with it: nothing is left to unmap. */
void mrp_backend_orphan(struct mrp_provider_state *provider);
enum mrp_status mrp_backend_map(struct mrp_backend_state *backend,
    const struct mrp_map_request *request, struct mrp_mapping *mapping);
enum mrp_status mrp_backend_unmap(
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping);

/** MRP_OK: it can bind to the node. Maps a page there, and gives it back. */
enum mrp_status mrp_backend_check_node(struct mrp_backend_state *backend, int node);

/* -- provider.c: the only callers of provider ops -- */

enum mrp_status mrp_provider_state_open(struct mrp_context_state *context,
    const char *module, const struct mrp_provider_params *params,
    struct mrp_provider_state **provider);
void mrp_provider_state_close(struct mrp_provider_state *provider);
/** It never registers as much at once. */
static inline bool mrp_provider_is_too_small(
    const struct mrp_provider_state *provider, size_t size)
{
    return provider->info.max_size != 0 && size > provider->info.max_size;
}

enum mrp_status mrp_provider_register(struct mrp_provider_state *provider,
    const struct mrp_register_request *request, struct mrp_registration *registration);
enum mrp_status mrp_provider_deregister(struct mrp_provider_state *provider,
    const struct mrp_registration *registration, size_t size);

/** MRP_OK when the provider can grant these rights on this kind of memory. */
enum mrp_status mrp_provider_grants(const struct mrp_provider_state *provider,
    uint32_t access, enum mrp_memory_kind kind);

/** Keep a mapping until the provider closes, because its deregistration failed. Never
 *  fails: without memory for the note the mapping is simply never unmapped. */
void mrp_provider_park(struct mrp_provider_state *provider,
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping);

/* -- remote.c -- */

/** Release every import that a provider still has, before it closes. */
void mrp_remote_close_all(struct mrp_provider_state *provider);

/* -- memory.c -- */

/** Make a mapping that a pool gives away a tracked block of `size` bytes at `address`
 *  in it, for mrp_memory_free; `caller` is who asked. MRP_ERR_MEMORY. */
enum mrp_status mrp_memory_track(struct mrp_context_state *context,
    struct mrp_backend_state *backend, const struct mrp_mapping *mapping, void *address,
    size_t size, const void *caller);

/** Undo it; the mapping is left alone. */
void mrp_memory_untrack(struct mrp_context_state *context, void *address);

/** Free every block still live and report it. */
void mrp_memory_free_all(
    struct mrp_context_state *context, struct mrp_leak_report *report);

#endif
