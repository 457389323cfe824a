/* SPDX-License-Identifier: BSD-3-Clause
 *
 * UCX: a provider round the caller's own ucp_context_h. To let mrpool open a context of
 * its own, use mrp_provider_open(context, "ucx", ...) instead; that needs no header but
 * provider.h, or this one for mrp_ucx_native.
 */
#ifndef MRPOOL_UCX_H
#define MRPOOL_UCX_H

#include "mrpool/provider.h"

#include <ucp/api/ucp.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The caller's context, and what cannot be read from it.
 *
 *  What a region gets of it: its ucp_mem_h as local descriptor and as native handle, and
 *  as key the bytes of ucp_rkey_pack, which a peer imports on one of its endpoints:
 *  mrp_remote_open(provider, ucp_ep_h, ...) gives the ucp_rkey_h as
 *  mrp_remote_region.handle. Remote addresses are virtual addresses.
 *
 *  Lifetimes are those of UCX: mrp_remote_close before the endpoint closes and before its
 *  worker goes, mrp_provider_close before ucp_cleanup. UCX finds out neither, it crashes.
 *
 *  Threads: a context made with mt_workers_shared (UCS_THREAD_MODE_MULTI) needs no lock
 *  here. Round any other one without a lock pair the provider serialises its own calls
 *  with a mutex of its own; that is enough only while nobody else uses the context at the
 *  same time, so pass the lock that guards it, the same pair in every wrap. It is taken
 *  round every call listed at mrp_ucx_provider_wrap, not recursively. Importing and releasing keys uses the worker of
 *  the endpoint too: on a worker that is not UCS_THREAD_MODE_MULTI, call mrp_remote_open
 *  and mrp_remote_close where you may use that worker. */
struct mrp_ucx_wrap_params {
    size_t struct_size;
    ucp_context_h context; /**< stays the caller's; outlives the provider */
    /** as in ucp_params: without RMA and AMO nothing is granted but local access, and no
     *  keys are made. 0: not told, taken to have both */
    uint64_t features;
    void (*lock)(void *lock_arg); /**< both or none */
    void (*unlock)(void *lock_arg);
    void *lock_arg;
};
#define MRP_UCX_WRAP_PARAMS_INIT \
    { \
        sizeof(struct mrp_ucx_wrap_params), NULL, 0, NULL, NULL, NULL \
    }

/** What mrp_provider_native gives for this module: the context registrations are made
 *  in, for workers that use them. */
struct mrp_ucx_native {
    size_t struct_size;
    ucp_context_h context;
    uint64_t features; /**< enum ucp_feature; 0: a wrapped context that did not tell */
    ucs_thread_mode_t thread_mode; /**< of the context, as it says itself */
    const char *resources; /**< its transports: "tcp/lo tcp/eth0 self sysv posix cma" */
    /** UCX_RCACHE_ENABLE: "try", "y", "n"; for a wrapped context what the environment
     *  says now; "" where this UCX has no such setting */
    const char *registration_cache;
    /** UCX keeps what was deregistered pinned, and its key valid, until the memory is
     *  unmapped and something else is registered (InfiniBand up to UCX 1.13 or so, unless
     *  UCX_IB_REG_METHODS=direct): seen when the provider was opened */
    bool keeps_registrations;
};

/** A provider on the caller's context. The only calls made on it: ucp_mem_map,
 *  ucp_mem_query and ucp_mem_unmap, ucp_rkey_pack and ucp_rkey_buffer_release,
 *  ucp_ep_rkey_unpack and ucp_rkey_destroy, ucp_context_query and
 *  ucp_context_print_info. Of the module's settings only MRPOOL_UCX_REVOKES matters here.
 *  @return as mrp_provider_open; MRP_ERR_INVALID for params that do not fit (a lock
 *  without unlock). */
static inline enum mrp_status mrp_ucx_provider_wrap(struct mrp_context *context,
    const char *name, const struct mrp_ucx_wrap_params *params,
    struct mrp_provider **provider)
{
    struct mrp_provider_params open_params = MRP_PROVIDER_PARAMS_INIT;

    if (params == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "params is NULL: pass the ucp_context_h in a mrp_ucx_wrap_params");
    }
    open_params.name = name;
    open_params.native = params;
    return mrp_provider_open(context, "ucx", &open_params, provider);
}

#ifdef __cplusplus
}
#endif
#endif
