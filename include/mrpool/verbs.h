/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Verbs: a provider round the caller's own protection domain. To let mrpool open a device
 * of its own, use mrp_provider_open(context, "verbs", ...) instead; that needs no header
 * but provider.h.
 */
#ifndef MRPOOL_VERBS_H
#define MRPOOL_VERBS_H

#include "mrpool/provider.h"

#include <infiniband/verbs.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The caller's protection domain. It stays the caller's and outlives the provider, as
 *  does its context: while a registration is live ibv_dealloc_pd fails with EBUSY and
 *  harms nothing, but ibv_close_device takes the registrations along, and deregistering
 *  them later reads freed memory. Queue pairs that use the memory are of this domain.
 *
 *  Asynchronous events of the context are the caller's: of IBV_EVENT_DEVICE_FATAL the
 *  provider learns by registrations that fail. */
struct mrp_verbs_wrap_params {
    size_t struct_size;
    struct ibv_pd *pd;
    /** shown by mrp_provider_native, and named in texts; 0: not known. Registrations are
     *  the same for every port */
    uint8_t port;
    int gid_index; /**< shown by mrp_provider_native */
};
#define MRP_VERBS_WRAP_PARAMS_INIT \
    { \
        sizeof(struct mrp_verbs_wrap_params), NULL, 0, 0 \
    }

/** What mrp_provider_native gives for this module: the domain registrations are made in,
 *  for queue pairs that use them, and the port and source address to connect those by.
 *  Queue pairs and what else is made in them go before the provider is closed.
 *
 *  Asynchronous events of a context that the provider has opened may be read by whoever
 *  uses it. When a registration fails for a reason that is neither the request's nor a
 *  limit's (EIO, ETIMEDOUT ...), the provider reads and acknowledges all that wait, to
 *  learn whether the device is lost, and async_fd has O_NONBLOCK meanwhile. Who needs
 *  every event wraps a domain of its own. */
struct mrp_verbs_native {
    size_t struct_size;
    struct ibv_context *context;
    struct ibv_pd *pd;
    uint8_t port; /**< 0: a wrapped domain whose port was not told */
    int gid_index; /**< in the port's table; 0 for a wrapped domain unless told */
    /** forking leaves registered memory where the device finds it: the kernel copies
     *  pinned pages on fork, or ibv_fork_init has been called */
    bool fork_safe;
};

/** A provider on the caller's domain. The only calls made on it: ibv_reg_mr,
 *  ibv_reg_dmabuf_mr and ibv_dereg_mr; on its context ibv_query_device_ex, and
 *  ibv_query_device after EIO. Of the module's
 *  settings MRPOOL_VERBS_RELAXED_ORDERING, _ODP and _FORK matter here.
 *  @return as mrp_provider_open; MRP_ERR_INVALID for params without a domain. */
static inline enum mrp_status mrp_verbs_provider_wrap(struct mrp_context *context,
    const char *name, const struct mrp_verbs_wrap_params *params,
    struct mrp_provider **provider)
{
    struct mrp_provider_params open_params = MRP_PROVIDER_PARAMS_INIT;

    if (params == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "params is NULL: pass the ibv_pd in a mrp_verbs_wrap_params");
    }
    open_params.name = name;
    open_params.native = params;
    return mrp_provider_open(context, "verbs", &open_params, provider);
}

#ifdef __cplusplus
}
#endif
#endif
