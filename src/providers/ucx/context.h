/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A UCP context that registrations are made in: one of our own (context.c) or the
 * caller's (wrap.c).
 */
#ifndef MRP_UCX_CONTEXT_H
#define MRP_UCX_CONTEXT_H

#include "mrpool/provider.h"
#include "mrpool/ucx.h"

#include <pthread.h>
#include <stdatomic.h>

#define MRP_UCX_FEATURES_AMO (UCP_FEATURE_AMO32 | UCP_FEATURE_AMO64)

/* Memory that UCX allocated for us: mrp_provider_backend. */
struct mrp_ucx_block {
    ucp_mem_h memh;
    unsigned char *address; /* all of UCX's allocation, of which a mapping is part */
    size_t size;
    size_t n_registrations;
    struct mrp_ucx_block *next;
};

struct mrp_ucx_context {
    ucp_context_h context;
    bool is_own;
    uint64_t features; /* 0: not known */
    uint64_t memory_types; /* bits 1 << ucs_memory_type_t */
    ucs_thread_mode_t thread_mode;
    bool is_revoking;

    void (*lock)(void *lock_arg); /* NULL where UCX locks */
    void (*unlock)(void *lock_arg);
    void *lock_arg;
    pthread_mutex_t mutex;

    pthread_mutex_t blocks_mutex; /* of the list and the counts in it; a leaf */
    struct mrp_ucx_block *blocks;
    _Atomic bool has_no_fixed; /* UCP_MEM_MAP_FIXED failed: not tried again */

    /* seen when a page was registered at open */
    bool is_keeping; /* UCX pins on what was deregistered */
    size_t key_size;
    bool has_known_keys; /* packed as keys.c reads them */
    bool has_key_bytes; /* of some memory domain: it has registered the page */

    bool is_pinning;
    int node;
    char resources[256]; /* "tcp/lo tcp/eth0 self" */
    char cache[16]; /* UCX_RCACHE_ENABLE */
    char device[128];
    struct mrp_ucx_native native; /* what the user is shown */
};

static inline void mrp_ucx_lock(struct mrp_ucx_context *context)
{
    if (context->lock != NULL) {
        context->lock(context->lock_arg);
    }
}

static inline void mrp_ucx_unlock(struct mrp_ucx_context *context)
{
    if (context->unlock != NULL) {
        context->unlock(context->lock_arg);
    }
}

/* What to open; NULL and "" leave the choice to UCX and its environment. */
struct mrp_ucx_choice {
    const char *transports; /* UCX_TLS, with '+' or ',' between */
    const char *devices; /* UCX_NET_DEVICES, the same */
    const char *cache; /* UCX_RCACHE_ENABLE */
    const char *config; /* NAME=VALUE;NAME=VALUE: any other setting, without UCX_ */
    uint64_t features; /* enum ucp_feature */
    bool is_threaded;
};

/* Open a context of our own. */
enum mrp_status mrp_ucx_context_open(
    const struct mrp_ucx_choice *choice, struct mrp_ucx_context **context);

/* Use the caller's. */
enum mrp_status mrp_ucx_context_wrap(
    const struct mrp_ucx_wrap_params *params, struct mrp_ucx_context **context);

/* Round a handle, of which nothing is known yet; NULL with the reason recorded. */
struct mrp_ucx_context *mrp_ucx_context_create(
    ucp_context_h handle, bool is_own, uint64_t features);

/* Read what can be known of it, the caller's lock being set; `config` is what it was
 * opened with, or what one of our own would be. */
enum mrp_status mrp_ucx_context_learn(
    struct mrp_ucx_context *context, const ucp_config_t *config);

/* Frees what create made; a wrapped context lives on. */
void mrp_ucx_context_destroy(struct mrp_ucx_context *context);

/* The rights a registration can carry, enum mrp_access. */
uint32_t mrp_ucx_context_access(const struct mrp_ucx_context *context);

#endif
