/* SPDX-License-Identifier: BSD-3-Clause */
#include "context.h"

static enum mrp_status check_params(const struct mrp_ucx_wrap_params *params)
{
    if (params->context == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ucx_wrap_params.context is NULL: pass what ucp_init gave");
    }
    return mrp_params_check_lock(params->lock, params->unlock, "mrp_ucx_wrap_params");
}

static enum mrp_status learn(struct mrp_ucx_context *context)
{
    ucp_config_t *config;
    enum mrp_status status;
    ucs_status_t code = ucp_config_read(NULL, NULL, &config);

    if (code != UCS_OK) {
        return mrp_fail(
            MRP_ERR_UNAVAILABLE, code, "ucp_config_read: %s", ucs_status_string(code));
    }
    status = mrp_ucx_context_learn(context, config);
    ucp_config_release(config);
    return status;
}

enum mrp_status mrp_ucx_context_wrap(
    const struct mrp_ucx_wrap_params *given, struct mrp_ucx_context **wrapped)
{
    struct mrp_ucx_wrap_params params;
    struct mrp_ucx_context *context;
    enum mrp_status status =
        mrp_params_read(&params, sizeof params, given, "mrp_ucx_wrap_params");

    if (status == MRP_OK) {
        status = check_params(&params);
    }
    if (status != MRP_OK) {
        return status;
    }
    context = mrp_ucx_context_create(params.context, false, params.features);
    if (context == NULL) {
        return MRP_ERR_MEMORY;
    }
    context->lock = params.lock;
    context->unlock = params.unlock;
    context->lock_arg = params.lock_arg;
    status = learn(context);
    if (status != MRP_OK) {
        mrp_ucx_context_destroy(context);
        return status;
    }
    *wrapped = context;
    return MRP_OK;
}
