/* SPDX-License-Identifier: BSD-3-Clause */
#include "device.h"

#include <string.h>

/* The smallest struct ever: up to the member nothing works without. */
#define PARAMS_SIZE_MIN \
    (offsetof(struct mrp_verbs_wrap_params, pd) + sizeof(struct ibv_pd *))

/* Members that the caller's header does not have yet are zero; those that ours does not
 * have yet must be. */
static enum mrp_status copy_params(
    const struct mrp_verbs_wrap_params *given, struct mrp_verbs_wrap_params *params)
{
    const unsigned char *bytes = (const unsigned char *)given;

    if (given->struct_size < PARAMS_SIZE_MIN ||
        given->struct_size % sizeof(size_t) != 0 || given->struct_size > 1u << 16) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_verbs_wrap_params.struct_size is %zu: use MRP_VERBS_WRAP_PARAMS_INIT",
            given->struct_size);
    }
    for (size_t i = sizeof(*params); i < given->struct_size; i++) {
        if (bytes[i] != 0) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "mrp_verbs_wrap_params: byte %zu of %zu is set, this module knows %zu: "
                "leave newer members zero or update the module",
                i, given->struct_size, sizeof(*params));
        }
    }
    memset(params, 0, sizeof(*params));
    memcpy(params, given,
        given->struct_size < sizeof(*params) ? given->struct_size : sizeof(*params));
    return MRP_OK;
}

enum mrp_status mrp_verbs_device_wrap(const struct mrp_verbs_wrap_params *given,
    const struct mrp_verbs_choice *choice, struct mrp_verbs_device **wrapped)
{
    struct mrp_verbs_wrap_params params;
    struct mrp_verbs_device *device;
    enum mrp_status status = copy_params(given, &params);

    if (status == MRP_OK && (params.pd == NULL || params.pd->context == NULL)) {
        status = mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_verbs_wrap_params.pd is %s: pass what ibv_alloc_pd gave",
            params.pd == NULL ? "NULL" : "of no context");
    }
    if (status == MRP_OK && params.gid_index < 0) {
        status = mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_verbs_wrap_params.gid_index is %d: an index into the port's table, or 0",
            params.gid_index);
    }
    if (status == MRP_OK) {
        status = mrp_verbs_fork_prepare(choice->fork);
    }
    if (status != MRP_OK) {
        return status;
    }
    device = mrp_verbs_device_create(params.pd, params.port, params.gid_index);
    if (device == NULL) {
        return MRP_ERR_MEMORY;
    }
    status = mrp_verbs_device_describe(device, choice);
    if (status != MRP_OK) {
        mrp_verbs_device_close(device);
        return status;
    }
    *wrapped = device;
    return MRP_OK;
}
