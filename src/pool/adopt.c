/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory that changes hands whole: outside memory becomes the pool's, a region that is a
 * chunk becomes the caller's.
 */
#include "base/error.h"
#include "context/adopted.h"
#include "pool/debug.h"
#include "pool/growth.h"
#include "pool/large.h"
#include "pool/wait.h"

#include <stdlib.h>

/* -- adopt -- */

static enum mrp_status check_memory(
    const struct mrp_pool *pool, const void *address, size_t size)
{
    struct mrp_mapping other;
    enum mrp_status status = mrp_large_check_range(address, size, "adopt");

    if (status != MRP_OK) {
        return status;
    }
    if (size <= pool->classes.max_payload) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "cannot adopt %zu bytes: pool %s takes single regions larger than its huge "
            "tier, %zu bytes; register the memory instead",
            size, pool->member.named.name, pool->classes.max_payload);
    }
    if (pool->backend->ops.memory_kind != MRP_MEMORY_HOST) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "pool %s has memory of kind %d, and only host memory can be adopted: use a "
            "pool of host memory",
            pool->member.named.name, (int)pool->backend->ops.memory_kind);
    }
    if (mrp_chunk_find_overlap(&pool->context->chunks, address, size, &other)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "cannot adopt %zu bytes at %p: a pool has the %zu bytes at %p already", size,
            address, other.size, other.address);
    }
    return MRP_OK;
}

static enum mrp_status adopt(struct mrp_pool *pool, void *address, size_t size,
    const struct mrp_region_adopt_params *params, struct mrp_region **adopted)
{
    struct mrp_adopted *handle = malloc(sizeof *handle);
    struct mrp_chunk_request request;
    struct mrp_region *region;

    if (handle == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0,
            "malloc of %zu bytes for adopted memory failed", sizeof *handle);
    }
    *handle = (struct mrp_adopted){params->release, params->user};
    mrp_pool_request_chunk(pool, size, MRP_LINE, 0, &request);
    request.backend = pool->context->adopted_backend;
    request.adopted = address;
    region = mrp_large_make(pool, &request, MRP_REGION_ADOPTED);
    if (region == NULL) {
        free(handle);
        return mrp_error_last()->status;
    }
    /* only now: until here a failure leaves the memory to the caller */
    mrp_chunk_entry(pool, region->chunk)->chunk->mapping.handle = handle;
    mrp_region_begin(pool, region, size);
    *adopted = region;
    return MRP_OK;
}

enum mrp_status mrp_region_adopt(struct mrp_pool *pool, void *address, size_t size,
    const struct mrp_region_adopt_params *given, struct mrp_region **adopted)
{
    struct mrp_region_adopt_params params;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status == MRP_OK && adopted == NULL) {
        status = mrp_fail(
            MRP_ERR_INVALID, 0, "region is NULL: pass where to store the handle");
    }
    if (status == MRP_OK) {
        status =
            mrp_params_read(&params, sizeof params, given, "mrp_region_adopt_params");
    }
    if (status == MRP_OK) {
        status = check_memory(pool, address, size);
    }
    if (status == MRP_OK) {
        status = adopt(pool, address, size, &params, adopted);
        if (status == MRP_OK) {
            mrp_debug_own(pool, *adopted, NULL, __builtin_return_address(0));
        }
        mrp_line_end(pool); /* what had to be evicted is room for others */
    }
    return status;
}

/* -- forget -- */

static enum mrp_status check_forgettable(const struct mrp_region *region)
{
    static const char *const refusals[] = {
        [MRP_REGION_POOLED] = "is a part of a chunk",
        [MRP_REGION_SLICE] = "is a slice",
        [MRP_REGION_USER] = "is the caller's own memory: free it, and it is deregistered",
        [MRP_REGION_TEMPORARY] = "is temporary",
    };
    enum mrp_region_kind kind = mrp_kind_of(region);
    uint32_t references;

    if (kind != MRP_REGION_LARGE && kind != MRP_REGION_ADOPTED) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "region %p %s; only adopted, larger-than-huge and isolated regions can be "
            "taken out of the pool",
            (const void *)region, refusals[kind]);
    }
    if (mrp_chunk_entry(mrp_pool_of(region), region->chunk)->chunk->guard != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "region %p lies between guard pages, which would stay: only a pool without "
            "MRP_DEBUG_GUARD can be left by its regions",
            (const void *)region);
    }
    /* acquire: what other holders, who have let go, wrote is the caller's now */
    references = mrp_state_references(mrp_load_acquire(&region->state));
    if (references > 1) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "region %p has %u references (retained, or sliced): release them first",
            (const void *)region, references);
    }
    return MRP_OK;
}

/* Its memory, as the caller will know it. */
static enum mrp_status forget_large(struct mrp_pool *pool, struct mrp_region *region,
    struct mrp_chunk *chunk, const void *caller)
{
    void *address = mrp_payload(region);
    struct mrp_context_state *context = pool->context;
    enum mrp_status status = mrp_memory_track(
        context, chunk->backend, &chunk->mapping, address, region->capacity, caller);

    if (status != MRP_OK) {
        mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
        return status;
    }
    status = mrp_large_dissolve(chunk, true);
    if (status != MRP_OK) { /* the network has kept it */
        mrp_memory_untrack(context, address);
    }
    return status;
}

static enum mrp_status forget_adopted(struct mrp_pool *pool, struct mrp_chunk *chunk)
{
    struct mrp_mapping mapping = chunk->mapping;
    enum mrp_status status = mrp_large_dissolve(chunk, true);

    if (status == MRP_OK) {
        mrp_adopted_forget(pool->context->adopted_backend, &mapping);
    }
    return status;
}

enum mrp_status mrp_region_forget(struct mrp_region *region, void **address, size_t *size)
{
    enum mrp_status status = mrp_region_check_handle(region);
    struct mrp_pool *pool;
    struct mrp_chunk *chunk;
    void *memory;
    size_t memory_size;

    if (status == MRP_OK && (address == NULL || size == NULL)) {
        status = mrp_fail(MRP_ERR_INVALID, 0,
            "%s is NULL: pass where to store what the region leaves",
            address == NULL ? "address" : "size");
    }
    if (status == MRP_OK) {
        status = check_forgettable(region);
    }
    if (status != MRP_OK) {
        return status;
    }
    pool = mrp_pool_of(region);
    status = mrp_region_claim(region);
    if (status == MRP_OK && pool->checks == MRP_CHECKS_FULL) {
        status = mrp_region_verify(pool, region, mrp_depot_of(region));
    }
    if (status != MRP_OK) {
        return status;
    }
    chunk = mrp_chunk_entry(pool, region->chunk)->chunk;
    if (mrp_kind_of(region) == MRP_REGION_ADOPTED) {
        memory = chunk->mapping.address;
        memory_size = chunk->mapping.size;
        status = forget_adopted(pool, chunk);
    } else {
        memory = mrp_payload(region);
        memory_size = region->capacity;
        status = forget_large(pool, region, chunk, __builtin_return_address(0));
    }
    if (status == MRP_OK) {
        *address = memory;
        *size = memory_size;
    }
    mrp_line_end(pool);
    return status;
}
