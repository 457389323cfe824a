/* SPDX-License-Identifier: BSD-3-Clause
 *
 * libfabric: a provider round the caller's own domain. To let mrpool open a domain of its own,
 * use mrp_provider_open(context, "ofi", ...) instead; that needs no header but provider.h.
 */
#ifndef MRPOOL_OFI_H
#define MRPOOL_OFI_H

#include "mrpool/provider.h"

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mrp_ofi_wrap_params {
    size_t struct_size;
    struct fid_domain *domain;    /**< stays the caller's; outlives the provider */
    const struct fi_info *info;   /**< what the domain was opened with (its mr_mode); copied */
    struct fid_ep *const *endpoints; /**< with FI_MR_ENDPOINT: the one endpoint registrations are
                                       bound to (the rail is (domain, endpoint)); else none */
    size_t n_endpoints;           /**< 0 or 1 */
    void (*lock)(void *lock_arg); /**< taken round every libfabric call, for domains opened with
                                       FI_THREAD_DOMAIN or less; both or none */
    void (*unlock)(void *lock_arg);
    void *lock_arg;
    uint64_t (*next_key)(void *next_key_arg); /**< without FI_MR_PROV_KEY: gives keys unused in the
                                       domain; NULL: random ones, retried on collision */
    void *next_key_arg;
};
#define MRP_OFI_WRAP_PARAMS_INIT \
    { sizeof(struct mrp_ofi_wrap_params), NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL }

/** A provider on the caller's domain. The calls made: fi_mr_regattr, fi_mr_bind, fi_mr_enable,
 *  fi_mr_refresh never, fi_close on the memory regions only. Errors as mrp_provider_open. */
static inline enum mrp_status mrp_ofi_provider_wrap(struct mrp_context *context,
    const char *name, const struct mrp_ofi_wrap_params *params, struct mrp_provider **provider)
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
