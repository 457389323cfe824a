/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a region is: checks of handles, its end, references and slices.
 */
#include "base/error.h"
#include "pool/cache.h"
#include "pool/debug.h"
#include "pool/depot.h"
#include "pool/growth.h"
#include "pool/large.h"

#include <string.h>

/* -- checks -- */

enum mrp_status mrp_pool_check_handle(const struct mrp_pool *pool)
{
    if (mrp_pool_is_live(pool)) {
        return MRP_OK;
    }
    if (pool == NULL) {
        return mrp_fail(MRP_ERR_STALE, 0, "the pool is NULL: create one first");
    }
    if (((uintptr_t)pool & (MRP_RANGE_SIZE - 1)) != 0 || !mrp_range_contains(pool)) {
        return mrp_fail(
            MRP_ERR_STALE, 0, "%p is not a pool of this library", (const void *)pool);
    }
    if (pool->epoch == 0) {
        return mrp_fail(
            MRP_ERR_STALE, 0, "the pool %p has been destroyed", (const void *)pool);
    }
    return mrp_fail(MRP_ERR_FORKED, 0,
        "the pool belongs to the parent process: its memory is not registered for this "
        "one; create a pool of your own after fork");
}

enum mrp_status mrp_region_check_handle(const struct mrp_region *region)
{
    const void *pointer = region;
    enum mrp_status status;

    if (mrp_region_is_live(region)) {
        return MRP_OK;
    }
    if (region == NULL) {
        return mrp_fail(MRP_ERR_STALE, 0, "the region is NULL");
    }
    if (!mrp_range_contains(pointer) ||
        ((uintptr_t)pointer & MRP_DESCRIPTORS_OFFSET) == 0 ||
        (uintptr_t)pointer % MRP_LINE != 0) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "%p is not a region of this library: pass the handle mrp_region_alloc gave, "
            "or use mrp_ptr_free for an address",
            pointer);
    }
    status = mrp_pool_check_handle(mrp_pool_of(region));
    if (status != MRP_OK) {
        return status;
    }
    if (mrp_load_relaxed(&region->state) == MRP_STATE_QUARANTINED) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "region %p is in quarantine: it was abandoned under fence %llu, and is "
            "nobody's until mrp_pool_drained reports that fence",
            pointer, (unsigned long long)mrp_load_relaxed(&region->length));
    }
    if (mrp_load_relaxed(&region->state) == MRP_STATE_FREE) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "region %p is free: it has been given back already (its use number %u)",
            pointer, mrp_load_relaxed(&region->generation));
    }
    return mrp_fail(MRP_ERR_STALE, 0,
        "%p is not a region of pool %s: not yet, or not any more", pointer,
        mrp_pool_of(region)->member.named.name);
}

struct mrp_region *mrp_region_take_bare(struct mrp_pool *pool)
{
    struct mrp_region_request request = {
        .struct_size = sizeof request, .flags = MRP_REQUEST_NO_LINE};
    struct mrp_region *region = mrp_depot_take(pool, MRP_CLASS_BARE);

    return region != NULL ? region : mrp_pool_grow(pool, MRP_CLASS_BARE, 0, &request);
}

/* -- beginning and ending -- */

enum mrp_status mrp_region_init_user(struct mrp_pool *pool, struct mrp_region *region)
{
    enum mrp_status status = MRP_OK;

    if (pool->region_init != NULL) {
        status =
            pool->region_init(region, mrp_region_user(region), pool->region_init_user);
    }
    if (status != MRP_OK && mrp_error_last()->status != status) {
        mrp_fail(status, 0, "pool %s: region_init failed: %s", pool->member.named.name,
            mrp_status_text(status));
    }
    return status;
}

/* As it was cut: its block begins and ends where its address leads. Where checks are
 * full. */
static bool is_as_cut(struct mrp_pool *pool, const struct mrp_region *region)
{
    const char *block = (const char *)mrp_payload(region) - pool->classes.lead;
    unsigned class = mrp_depot_of(region);
    const struct mrp_size_class *size_class;
    struct mrp_error before;
    bool is_good;

    if (class >= mrp_n_classes(&pool->classes) ||
        mrp_kind_of(region) != MRP_REGION_POOLED) {
        return false;
    }
    size_class = &pool->classes.classes[class];
    before = *mrp_error_last();
    is_good = region->capacity == size_class->capacity &&
        mrp_region_find(pool, block) == region &&
        mrp_region_find(pool, block - 1) != region &&
        mrp_region_find(pool, block + size_class->block_size - 1) == region &&
        mrp_region_find(pool, block + size_class->block_size) != region;
    mrp_error_restore(&before); /* what lies about it may be nothing */
    return is_good;
}

enum mrp_status mrp_region_verify(
    struct mrp_pool *pool, const struct mrp_region *region, unsigned class)
{
    enum mrp_region_kind kind = mrp_kind_of(region);
    bool is_good = class == MRP_CLASS_BARE
        ? kind > MRP_REGION_POOLED && kind <= MRP_REGION_TEMPORARY &&
            region->parent < mrp_load_relaxed(&pool->n_descriptors)
        : is_as_cut(pool, region);

    return is_good && mrp_depot_of(region) == class &&
            mrp_load_relaxed(&region->state) == MRP_STATE_FREE
        ? MRP_OK
        : mrp_fail(MRP_ERR_CORRUPT, 0,
              "the descriptor of region %p has been overwritten (state %#x, address %p): "
              "the region is not used again; look for writes past the end of other "
              "memory",
              (const void *)region, mrp_load_relaxed(&region->state),
              mrp_payload(region));
}

/* Drop one of a live region's references; the last one ends it. */
static enum mrp_status drop_reference(struct mrp_pool *pool, struct mrp_region *region)
{
    uint32_t state = mrp_load_relaxed(&region->state);

    do {
        if (!mrp_state_is_live(state)) {
            return mrp_fail(
                MRP_ERR_STALE, 0, "region %p has just been given back", (void *)region);
        }
        /* acq_rel: what every holder wrote comes before the next owner's use */
    } while (!mrp_cas_acq_rel(&region->state, &state, state - 1));
    return state == MRP_STATE_LIVE ? mrp_region_end(pool, region) : MRP_OK;
}

static enum mrp_status end_slice(struct mrp_pool *pool, struct mrp_region *slice)
{
    struct mrp_region *root = mrp_region_at(pool, slice->parent);

    mrp_depot_put(pool, slice);
    return drop_reference(pool, root);
}

enum mrp_status mrp_region_claim(struct mrp_region *region)
{
    uint32_t state = MRP_STATE_LIVE;

    while (!mrp_cas_acq_rel(&region->state, &state, MRP_STATE_FREE)) {
        if (state != MRP_STATE_LIVE) {
            return mrp_fail(MRP_ERR_STALE, 0,
                "region %p is being given back by another thread, too", (void *)region);
        }
    }
    return MRP_OK;
}

enum mrp_status mrp_region_end(struct mrp_pool *pool, struct mrp_region *region)
{
    enum mrp_status status = MRP_OK;

    mrp_store_relaxed(
        &region->state, mrp_is_unchecked(pool, region) ? MRP_STATE_LIVE : MRP_STATE_FREE);
    if (pool->checks == MRP_CHECKS_FULL) {
        status = mrp_region_verify(pool, region, mrp_depot_of(region));
    }
    if (status != MRP_OK) {
        return status;
    }
    switch (mrp_kind_of(region)) {
    case MRP_REGION_POOLED:
        mrp_debug_end(pool, region);
        mrp_cache_put(pool, region);
        return MRP_OK;
    case MRP_REGION_SLICE:
        return end_slice(pool, region);
    case MRP_REGION_LARGE:
    case MRP_REGION_USER:
    case MRP_REGION_ADOPTED:
    case MRP_REGION_TEMPORARY:
        return mrp_large_free(pool, region);
    }
    return mrp_fail(MRP_ERR_CORRUPT, 0, "region %p is of no kind", (void *)region);
}

/* -- references -- */

/* Add a reference to a region that has one; it cannot end meanwhile. */
static enum mrp_status add_reference(struct mrp_region *region)
{
    uint32_t state = mrp_load_relaxed(&region->state);

    do {
        if (!mrp_state_is_live(state)) {
            return mrp_fail(
                MRP_ERR_STALE, 0, "region %p has just been given back", (void *)region);
        }
        if (mrp_state_references(state) == MRP_REFERENCES_MAX) {
            return mrp_fail(MRP_ERR_LIMIT, 0, "region %p has 2^31 - 1 references already",
                (void *)region);
        }
    } while (!mrp_cas_relaxed(&region->state, &state, state + 1));
    return MRP_OK;
}

enum mrp_status mrp_region_retain(struct mrp_region *region)
{
    return mrp_region_is_live(region) ? add_reference(region)
                                      : mrp_region_check_handle(region);
}

enum mrp_status mrp_region_release(struct mrp_region *region)
{
    return mrp_region_is_live(region) ? drop_reference(mrp_pool_of(region), region)
                                      : mrp_region_check_handle(region);
}

enum mrp_status mrp_region_slice(
    struct mrp_region *parent, size_t offset, size_t size, struct mrp_region **sliced)
{
    struct mrp_region *root = parent, *slice;
    enum mrp_status status = mrp_region_check_handle(parent);
    struct mrp_pool *pool;
    size_t parent_size;

    if (status != MRP_OK) {
        return status;
    }
    if (sliced == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "slice is NULL: pass where to store the handle");
    }
    parent_size = mrp_load_relaxed(&parent->size);
    if (offset > parent_size || size > parent_size - offset) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "a slice of %zu bytes at %zu runs past the region's %zu bytes", size, offset,
            parent_size);
    }
    pool = mrp_pool_of(parent);
    if (mrp_kind_of(parent) == MRP_REGION_SLICE) {
        root = mrp_region_at(pool, parent->parent);
    }
    status = add_reference(root);
    if (status != MRP_OK) {
        return status;
    }
    slice = mrp_region_take_bare(pool);
    if (slice == NULL) {
        mrp_region_release(root);
        return mrp_error_last()->status;
    }
    mrp_store_relaxed(&slice->kind, MRP_REGION_SLICE);
    slice->chunk = root->chunk;
    slice->parent = mrp_region_index(root);
    slice->capacity = size;
    slice->offset = (int64_t)((uintptr_t)mrp_payload(parent) + offset - (uintptr_t)slice);
    mrp_region_begin(pool, slice, size);
    mrp_debug_own(pool, slice, NULL, __builtin_return_address(0));
    *sliced = slice;
    return MRP_OK;
}

/* -- by plain pointer -- */

void *mrp_ptr_alloc(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region = mrp_v1_take(pool, size);

    if (region == NULL) {
        region = mrp_region_alloc_slow(pool, size, __builtin_return_address(0));
    }
    return region == NULL ? NULL : mrp_payload(region);
}

enum mrp_status mrp_ptr_free(struct mrp_pool *pool, void *address)
{
    struct mrp_region *region = mrp_region_find(pool, address);

    if (region == NULL) {
        return mrp_error_last()->status == MRP_ERR_NOT_FOUND
            ? mrp_fail(MRP_ERR_STALE, 0, "address %p lies in no live region of pool %s",
                  address, pool->member.named.name)
            : mrp_error_last()->status;
    }
    if (mrp_payload(region) != address) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "address %p lies %zd bytes inside a region: pass its first byte, %p", address,
            (char *)address - (char *)mrp_payload(region), mrp_payload(region));
    }
    return mrp_region_free(region);
}
