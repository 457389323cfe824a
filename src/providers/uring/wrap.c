/* SPDX-License-Identifier: BSD-3-Clause */
#include "ring.h"

static enum mrp_status check_params(const struct mrp_uring_wrap_params *params)
{
    if (params->ring == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_uring_wrap_params.ring is NULL: pass one that io_uring_queue_init has "
            "set up");
    }
    if (!params->has_table && params->first != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_uring_wrap_params.first is %u without has_table: a table that the "
            "provider registers is its own from entry 0 on",
            params->first);
    }
    if (params->count > MRP_URING_BUFFERS_MAX ||
        params->first > MRP_URING_BUFFERS_MAX - params->count ||
        (params->has_table && params->count == 0)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_uring_wrap_params: %u entries from %u on are not within a table of 1 to "
            "%d fixed buffers",
            params->count, params->first, MRP_URING_BUFFERS_MAX);
    }
    return mrp_params_check_lock(params->lock, params->unlock, "mrp_uring_wrap_params");
}

static enum mrp_status take_table(
    struct mrp_uring_ring *ring, const struct mrp_uring_wrap_params *params)
{
    unsigned count = params->count != 0 ? params->count : MRP_URING_BUFFERS_DEFAULT;
    enum mrp_status status =
        params->has_table ? MRP_OK : mrp_uring_table_make(ring, count);

    return status == MRP_OK ? mrp_uring_table_take(ring, params->first, count) : status;
}

enum mrp_status mrp_uring_ring_wrap(
    const struct mrp_uring_wrap_params *given, struct mrp_uring_ring **wrapped)
{
    struct mrp_uring_wrap_params params;
    struct mrp_uring_ring *ring;
    enum mrp_status status =
        mrp_params_read(&params, sizeof(params), given, "mrp_uring_wrap_params");

    if (status == MRP_OK) {
        status = check_params(&params);
    }
    if (status != MRP_OK) {
        return status;
    }
    ring = mrp_uring_ring_create();
    if (ring == NULL) {
        return MRP_ERR_MEMORY;
    }
    ring->lock = params.lock;
    ring->unlock = params.unlock;
    ring->lock_arg = params.lock_arg;
    status = mrp_uring_ring_attach(ring, params.ring);
    if (status == MRP_OK) {
        status = take_table(ring, &params);
    }
    if (status != MRP_OK) {
        mrp_uring_ring_destroy(ring);
        return status;
    }
    *wrapped = ring;
    return MRP_OK;
}
