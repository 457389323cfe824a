/* SPDX-License-Identifier: BSD-3-Clause */
#include "device.h"

enum mrp_status mrp_verbs_device_wrap(const struct mrp_verbs_wrap_params *given,
    const struct mrp_verbs_choice *choice, struct mrp_verbs_device **wrapped)
{
    struct mrp_verbs_wrap_params params;
    struct mrp_verbs_device *device;
    enum mrp_status status =
        mrp_params_read(&params, sizeof(params), given, "mrp_verbs_wrap_params");

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
