/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing a region's size: where it is, if that fits, else by moving its contents.
 */
#include "base/error.h"
#include "pool/debug.h"

#include <string.h>

static enum mrp_status check_movable(const struct mrp_region *region)
{
    const struct mrp_pool *pool = mrp_pool_of(region);
    enum mrp_region_kind kind = mrp_kind_of(region);
    uint32_t references;

    if (kind == MRP_REGION_SLICE || kind == MRP_REGION_USER) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "region %p is %s and does not own its memory: its size cannot change",
            (const void *)region,
            kind == MRP_REGION_SLICE ? "a slice" : "registered memory of the caller's");
    }
    if (kind != MRP_REGION_ADOPTED && pool->backend->ops.memory_kind != MRP_MEMORY_HOST) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "pool %s has memory of kind %d, which the processor cannot copy: allocate "
            "another region, and copy with the device's means",
            pool->member.named.name, (int)pool->backend->ops.memory_kind);
    }
    /* acquire: pairs with the release of who held it too, and wrote to it */
    references = mrp_state_references(mrp_load_acquire(&region->state));
    if (references > 1) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "region %p has %u references (retained, or sliced), whose holders know its "
            "address: release them first",
            (const void *)region, references);
    }
    return MRP_OK;
}

static enum mrp_status move(
    struct mrp_region *region, size_t size, struct mrp_region **resized)
{
    struct mrp_pool *pool = mrp_pool_of(region);
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *larger;
    struct mrp_error before;
    enum mrp_status status;

    request.node = mrp_chunk_entry(pool, region->chunk)->chunk->node;
    larger = mrp_region_alloc_with(pool, size, &request);
    if (larger == NULL) {
        return mrp_error_last()->status;
    }
    mrp_debug_succeed(pool, larger, region);
    memcpy(mrp_payload(larger), mrp_payload(region),
        mrp_min(mrp_load_relaxed(&region->size), size));
    before = *mrp_error_last();
    status = mrp_region_free(region);
    if (status == MRP_ERR_REGISTER) { /* it is gone; its memory is parked */
        mrp_error_restore(&before);
        status = MRP_OK;
    }
    if (status != MRP_OK) {
        before = *mrp_error_last();
        mrp_region_free(larger);
        mrp_error_restore(&before);
        return status;
    }
    *resized = larger;
    return MRP_OK;
}

enum mrp_status mrp_region_realloc(
    struct mrp_region *region, size_t size, struct mrp_region **resized)
{
    enum mrp_status status = mrp_region_check_handle(region);

    if (status == MRP_OK && resized == NULL) {
        status = mrp_fail(
            MRP_ERR_INVALID, 0, "resized is NULL: pass where to store the handle");
    }
    if (status == MRP_OK) {
        status = check_movable(region);
    }
    if (status != MRP_OK) {
        return status;
    }
    if (size > region->capacity) {
        return move(region, size, resized);
    }
    if (!mrp_is_unchecked(mrp_pool_of(region), region)) {
        mrp_store_relaxed(&region->size, size);
    }
    *resized = region;
    return MRP_OK;
}
