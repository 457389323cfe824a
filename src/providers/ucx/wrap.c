/* SPDX-License-Identifier: BSD-3-Clause */
#include "context.h"

#include <string.h>

/* The smallest struct ever: up to the member nothing works without. */
#define PARAMS_SIZE_MIN \
    (offsetof(struct mrp_ucx_wrap_params, context) + sizeof(ucp_context_h))

/* Members that the caller's header does not have yet are zero; those that ours does not
 * have yet must be. */
static enum mrp_status copy_params(
    const struct mrp_ucx_wrap_params *given, struct mrp_ucx_wrap_params *params)
{
    const unsigned char *bytes = (const unsigned char *)given;

    if (given->struct_size < PARAMS_SIZE_MIN ||
        given->struct_size % sizeof(size_t) != 0 || given->struct_size > 1u << 16) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ucx_wrap_params.struct_size is %zu: use MRP_UCX_WRAP_PARAMS_INIT",
            given->struct_size);
    }
    for (size_t i = sizeof *params; i < given->struct_size; i++) {
        if (bytes[i] != 0) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "mrp_ucx_wrap_params: byte %zu of %zu is set, this module knows %zu: "
                "leave newer members zero or update the module",
                i, given->struct_size, sizeof *params);
        }
    }
    memset(params, 0, sizeof *params);
    memcpy(params, given,
        given->struct_size < sizeof *params ? given->struct_size : sizeof *params);
    return MRP_OK;
}

static enum mrp_status check_params(const struct mrp_ucx_wrap_params *params)
{
    if (params->context == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ucx_wrap_params.context is NULL: pass what ucp_init gave");
    }
    if ((params->lock == NULL) != (params->unlock == NULL)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_ucx_wrap_params has %s without %s: pass both or none",
            params->lock != NULL ? "lock" : "unlock",
            params->lock != NULL ? "unlock" : "lock");
    }
    return MRP_OK;
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
    enum mrp_status status = copy_params(given, &params);

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
