/* SPDX-License-Identifier: BSD-3-Clause */
#include "ring.h"

#include <string.h>

/* The smallest struct ever: up to the members nothing works without. */
#define PARAMS_SIZE_MIN \
    (offsetof(struct mrp_uring_wrap_params, ring) + sizeof(struct io_uring *))

/* Members that the caller's header does not have yet are zero; those that ours does not
 * have yet must be. */
static enum mrp_status copy_params(
    const struct mrp_uring_wrap_params *given, struct mrp_uring_wrap_params *params)
{
    const unsigned char *bytes = (const unsigned char *)given;

    if (given->struct_size < PARAMS_SIZE_MIN ||
        given->struct_size % sizeof(size_t) != 0 || given->struct_size > 1u << 16) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_uring_wrap_params.struct_size is %zu: use MRP_URING_WRAP_PARAMS_INIT",
            given->struct_size);
    }
    for (size_t i = sizeof(*params); i < given->struct_size; i++) {
        if (bytes[i] != 0) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "mrp_uring_wrap_params: byte %zu of %zu is set, this module knows %zu: "
                "leave newer members zero or update the module",
                i, given->struct_size, sizeof(*params));
        }
    }
    memset(params, 0, sizeof(*params));
    memcpy(params, given,
        given->struct_size < sizeof(*params) ? given->struct_size : sizeof(*params));
    return MRP_OK;
}

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
    if ((params->lock == NULL) != (params->unlock == NULL)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_uring_wrap_params has %s without %s: pass both or none",
            params->lock != NULL ? "lock" : "unlock",
            params->lock != NULL ? "unlock" : "lock");
    }
    return MRP_OK;
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
    enum mrp_status status = copy_params(given, &params);

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
