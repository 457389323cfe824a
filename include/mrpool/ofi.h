/* SPDX-License-Identifier: BSD-3-Clause
 *
 * libfabric: a provider round the caller's own domain. To let mrpool open a domain of its
 * own, use mrp_provider_open(context, "ofi", ...) instead; that needs no header but
 * provider.h.
 */
#ifndef MRPOOL_OFI_H
#define MRPOOL_OFI_H

#include "mrpool/provider.h"

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The caller's domain, and what cannot be read from it.
 *
 *  What libfabric's mr_mode asks for is served: local descriptors, virtual addresses or
 *  offsets, keys of the provider or our own, raw keys, endpoint-bound registrations,
 *  device memory. Not served: FI_MR_MMU_NOTIFY (MRP_ERR_UNSUPPORTED), and a domain
 *  bound to an event queue with FI_REG_MR, which makes registering asynchronous.
 *
 *  Threads: with info->domain_attr->threading FI_THREAD_SAFE no lock is needed. At
 *  every lower level without a lock pair the provider serialises its own calls with a
 *  mutex of its own; that is enough only while nobody else uses the domain at the same
 *  time, so pass the lock that guards the domain, the same pair in every wrap of it. It
 *  is not held while next_key runs, and not recursively. */
struct mrp_ofi_wrap_params {
    size_t struct_size;
    struct fid_domain *domain; /**< stays the caller's; outlives the provider */
    const struct fi_info *info; /**< what the domain was opened with; copied */
    /** with FI_MR_ENDPOINT: the one enabled endpoint that registrations are bound to,
     *  so that a rail is (domain, endpoint); it outlives the provider. Ignored
     *  otherwise */
    struct fid_ep *const *endpoints;
    size_t n_endpoints; /**< 0 or 1 */
    void (*lock)(void *lock_arg); /**< taken round every libfabric call; both or none */
    void (*unlock)(void *lock_arg);
    void *lock_arg;
    /** without FI_MR_PROV_KEY: gives keys unused in the domain, on several threads at
     *  once; asked again, 64 times, while the key is taken. NULL: keys are random, and
     *  a registration fails only when no key is left */
    uint64_t (*next_key)(void *next_key_arg);
    void *next_key_arg;
    /** counts remote writes into every registration that allows them (FI_RMA_EVENT);
     *  NULL: none. Outlives the provider */
    struct fid_cntr *rma_counter;
};
#define MRP_OFI_WRAP_PARAMS_INIT \
    { \
        sizeof(struct mrp_ofi_wrap_params), NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, \
            NULL, NULL \
    }

/** What mrp_provider_native gives for this module: the domain registrations are made
 *  in, for endpoints that use them. */
struct mrp_ofi_native {
    size_t struct_size;
    struct fid_fabric *fabric; /**< NULL for a wrapped domain */
    struct fid_domain *domain;
    const struct fi_info *info;
};

/** A provider on the caller's domain. The only calls made on it: fi_mr_regattr,
 *  fi_mr_bind, fi_mr_enable, fi_mr_raw_attr, fi_mr_map_raw and fi_mr_unmap_key, and
 *  fi_close of the registrations. Of the module's settings only
 *  MRPOOL_OFI_REVOKES matters here.
 *  @return as mrp_provider_open; MRP_ERR_INVALID for params that do not fit the domain
 *  (FI_MR_ENDPOINT without an endpoint, a lock without unlock). */
static inline enum mrp_status mrp_ofi_provider_wrap(struct mrp_context *context,
    const char *name, const struct mrp_ofi_wrap_params *params,
    struct mrp_provider **provider)
{
    struct mrp_provider_params open_params = MRP_PROVIDER_PARAMS_INIT;

    if (params == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "params is NULL: pass the domain and its fi_info in a mrp_ofi_wrap_params");
    }
    open_params.name = name;
    open_params.native = params;
    return mrp_provider_open(context, "ofi", &open_params, provider);
}

#ifdef __cplusplus
}
#endif
#endif
