/* SPDX-License-Identifier: BSD-3-Clause */
#include "domain.h"

#include <rdma/fi_endpoint.h>

static enum mrp_status check_domain(const struct mrp_ofi_wrap_params *params)
{
    const struct fi_info *info = params->info;

    if (params->domain == NULL || params->domain->fid.fclass != FI_CLASS_DOMAIN) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ofi_wrap_params.domain is not an open fid_domain: pass what fi_domain "
            "gave");
    }
    if (info == NULL || info->domain_attr == NULL || info->fabric_attr == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ofi_wrap_params.info %s: pass the fi_info given to fi_domain, since a "
            "domain does not tell its mr_mode",
            info == NULL ? "is NULL" : "has no domain_attr or fabric_attr");
    }
    if (!FI_CHECK_OP(params->domain->mr, struct fi_ops_mr, regattr)) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "this domain has no fi_mr_regattr: registering is not possible in it");
    }
    return MRP_OK;
}

static enum mrp_status check_endpoints(const struct mrp_ofi_wrap_params *params)
{
    if (params->n_endpoints > 1) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ofi_wrap_params.n_endpoints is %zu: a registration is bound to one "
            "endpoint, so wrap the domain once per endpoint",
            params->n_endpoints);
    }
    if (params->n_endpoints == 1 &&
        (params->endpoints == NULL || params->endpoints[0] == NULL)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ofi_wrap_params.n_endpoints is 1, but endpoints%s is NULL",
            params->endpoints == NULL ? "" : "[0]");
    }
    return MRP_OK;
}

static enum mrp_status check_params(const struct mrp_ofi_wrap_params *params)
{
    enum mrp_status status = check_domain(params);

    if (status == MRP_OK) {
        status = check_endpoints(params);
    }
    return status == MRP_OK
        ? mrp_params_check_lock(params->lock, params->unlock, "mrp_ofi_wrap_params")
        : status;
}

static void apply_params(
    struct mrp_ofi_domain *domain, const struct mrp_ofi_wrap_params *params)
{
    domain->domain = params->domain;
    domain->endpoint = params->n_endpoints == 1 ? params->endpoints[0] : NULL;
    domain->rma_counter = params->rma_counter;
    domain->next_key = params->next_key;
    domain->next_key_arg = params->next_key_arg;
    if (params->lock != NULL) {
        domain->lock = params->lock;
        domain->unlock = params->unlock;
        domain->lock_arg = params->lock_arg;
    }
}

enum mrp_status mrp_ofi_domain_wrap(
    const struct mrp_ofi_wrap_params *given, struct mrp_ofi_domain **wrapped)
{
    struct mrp_ofi_wrap_params params;
    struct mrp_ofi_domain *domain;
    enum mrp_status status =
        mrp_params_read(&params, sizeof(params), given, "mrp_ofi_wrap_params");

    if (status == MRP_OK) {
        status = check_params(&params);
    }
    if (status != MRP_OK) {
        return status;
    }
    domain = mrp_ofi_domain_create(params.info);
    if (domain == NULL) {
        return MRP_ERR_MEMORY;
    }
    apply_params(domain, &params);
    status = mrp_ofi_domain_check(domain);
    if (status != MRP_OK) {
        mrp_ofi_domain_destroy(domain);
        return status;
    }
    *wrapped = domain;
    return MRP_OK;
}
