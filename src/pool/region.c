/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Taking and giving back regions; references and slices.
 */
#include "base/error.h"
#include "pool/pool.h"

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
        "one; "
        "create a pool of your own after fork");
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
            "or use "
            "mrp_ptr_free for an address",
            pointer);
    }
    status = mrp_pool_check_handle(mrp_pool_of(region));
    if (status != MRP_OK) {
        return status;
    }
    if (mrp_load_relaxed(&region->state) == MRP_STATE_FREE) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "region %p is free: it has been given back already (its use number %u)",
            pointer, mrp_load_relaxed(&region->generation));
    }
    return mrp_fail(MRP_ERR_STALE, 0, "%p is not a region of pool %s yet", pointer,
        mrp_pool_of(region)->member.named.name);
}

struct mrp_region *mrp_region_take_bare(struct mrp_pool *pool)
{
    struct mrp_region *region = mrp_depot_take(pool, MRP_CLASS_BARE);

    return region != NULL ? region : mrp_pool_grow(pool, MRP_CLASS_BARE, 0);
}

/* -- alloc -- */

void mrp_region_begin(struct mrp_region *region, size_t size)
{
    mrp_store_relaxed(&region->size, size);
    mrp_store_relaxed(&region->length, 0);
    mrp_store_relaxed(&region->references, 1);
    mrp_store_relaxed(&region->generation, mrp_load_relaxed(&region->generation) + 1);
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
}

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

static struct mrp_region *alloc_class(
    struct mrp_pool *pool, unsigned class, size_t size, uint32_t flags)
{
    struct mrp_region *region = mrp_depot_take(pool, class);

    if (region == NULL) {
        region = mrp_pool_grow(pool, class, flags);
    }
    if (region != NULL) {
        mrp_region_begin(region, size);
    }
    return region;
}

struct mrp_region *mrp_region_alloc(struct mrp_pool *pool, size_t size)
{
    if (!mrp_pool_is_live(pool)) {
        mrp_pool_check_handle(pool);
        return NULL;
    }
    if (size > pool->classes.max_payload) {
        return mrp_large_alloc(pool, size, pool->classes.alignment, 0);
    }
    return alloc_class(pool, mrp_class_of(&pool->classes, size), size, 0);
}

static enum mrp_status check_request(
    const struct mrp_pool *pool, const struct mrp_region_request *request)
{
    size_t alignment = request->alignment;

    if ((request->flags &
            ~(uint32_t)(MRP_REQUEST_ZERO | MRP_REQUEST_NOGROW | MRP_REQUEST_NOWAIT)) !=
        0) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "flags are %#x: unknown bits", request->flags);
    }
    if (alignment != 0 && (!mrp_is_power_of_two(alignment) || alignment > MRP_GIB)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "alignment is %zu: it must be a power of two, at most 1 GiB", alignment);
    }
    if ((request->flags & MRP_REQUEST_ZERO) != 0 &&
        pool->backend->ops.memory_kind != MRP_MEMORY_HOST) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "pool %s is not of host memory: MRP_REQUEST_ZERO cannot write to it",
            pool->member.named.name);
    }
    if (alignment > pool->classes.alignment && pool->backend->max_size != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "alignment is %zu, but backend %s has fixed memory: set the pool's own "
            "alignment instead",
            alignment, pool->backend->named.name);
    }
    if (alignment > pool->classes.alignment && pool->classes.lead % alignment != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "alignment is %zu, but %zu bytes of headroom stand before each payload of "
            "pool %s: "
            "set the pool's own alignment instead",
            alignment, pool->classes.lead, pool->member.named.name);
    }
    return MRP_OK;
}

/* Nobody has written to a block that was never given out, unless a peer could. */
static bool reads_as_zero(const struct mrp_pool *pool, const struct mrp_region *region)
{
    return mrp_load_relaxed(&region->generation) == 1 &&
        (pool->access & (MRP_ACCESS_REMOTE_WRITE | MRP_ACCESS_REMOTE_ATOMIC)) == 0 &&
        mrp_chunk_entry(pool, region->chunk)->chunk->mapping.zeroed;
}

/* The smallest class whose blocks all fall on the alignment; n_classes when none does. */
static unsigned aligned_class(const struct mrp_pool *pool, size_t size, size_t alignment)
{
    unsigned class = mrp_class_of(&pool->classes, size);

    if (alignment > MRP_GRANULE_SIZE) {
        return (unsigned)pool->classes.n_classes; /* slabs promise no more */
    }
    while (class < pool->classes.n_classes &&
        pool->classes.classes[class].block_size % alignment != 0) {
        class ++;
    }
    return class;
}

struct mrp_region *mrp_region_alloc_with(
    struct mrp_pool *pool, size_t size, const struct mrp_region_request *given)
{
    struct mrp_region_request request;
    struct mrp_region *region;
    size_t alignment;
    unsigned class;

    if (mrp_pool_check_handle(pool) != MRP_OK ||
        mrp_params_read(&request, sizeof request, given, "mrp_region_request") !=
            MRP_OK ||
        check_request(pool, &request) != MRP_OK) {
        return NULL;
    }
    if ((request.flags & MRP_REQUEST_NOWAIT) != 0) {
        request.flags |= MRP_REQUEST_NOGROW;
    }
    alignment = mrp_max(request.alignment, pool->classes.alignment);
    class = (unsigned)pool->classes.n_classes;
    if (size <= pool->classes.max_payload) {
        class = alignment == pool->classes.alignment
            ? mrp_class_of(&pool->classes, size)
            : aligned_class(pool, size, alignment);
    }
    region = class == pool->classes.n_classes
        ? mrp_large_alloc(pool, size, alignment, request.flags)
        : alloc_class(pool, class, size, request.flags);
    if (region != NULL && (request.flags & MRP_REQUEST_ZERO) != 0 &&
        !reads_as_zero(pool, region)) {
        memset(mrp_payload(region), 0, size);
    }
    return region;
}

size_t mrp_region_alloc_many(
    struct mrp_pool *pool, size_t size, size_t count, struct mrp_region **regions)
{
    size_t taken = 0;

    if (mrp_pool_check_handle(pool) != MRP_OK) {
        return 0;
    }
    if (regions == NULL && count > 0) {
        mrp_fail(MRP_ERR_INVALID, 0, "regions is NULL: pass room for %zu handles", count);
        return 0;
    }
    if (size <= pool->classes.max_payload) {
        taken =
            mrp_depot_take_many(pool, mrp_class_of(&pool->classes, size), count, regions);
        for (size_t i = 0; i < taken; i++) {
            mrp_region_begin(regions[i], size);
        }
    }
    while (taken < count) {
        regions[taken] = mrp_region_alloc(pool, size);
        if (regions[taken] == NULL) {
            break;
        }
        taken++;
    }
    return taken;
}

/* -- free -- */

static enum mrp_status end_slice(struct mrp_pool *pool, struct mrp_region *slice)
{
    struct mrp_region *root = mrp_region_at(pool, slice->parent);

    mrp_depot_put(pool, slice);
    /* acq_rel: what every holder wrote comes before the next owner's use */
    return mrp_sub_acq_rel(&root->references, 1) == 1 ? mrp_region_end(pool, root)
                                                      : MRP_OK;
}

enum mrp_status mrp_region_end(struct mrp_pool *pool, struct mrp_region *region)
{
    mrp_store_relaxed(&region->references, 0);
    mrp_store_relaxed(&region->state, MRP_STATE_FREE);
    switch (mrp_kind_of(region)) {
    case MRP_REGION_POOLED:
        mrp_depot_put(pool, region);
        return MRP_OK;
    case MRP_REGION_SLICE:
        return end_slice(pool, region);
    case MRP_REGION_LARGE:
    case MRP_REGION_USER:
        return mrp_large_free(pool, region);
    }
    return mrp_fail(MRP_ERR_CORRUPT, 0, "region %p is of no kind", (void *)region);
}

enum mrp_status mrp_region_free(struct mrp_region *region)
{
    uint32_t references;

    if (!mrp_region_is_live(region)) {
        return mrp_region_check_handle(region);
    }
    references = mrp_load_acquire(&region->references);
    if (references != 1) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "region %p has %u references (retained, or sliced): release it instead",
            (void *)region, references);
    }
    return mrp_region_end(mrp_pool_of(region), region);
}

/* Regions that go to one depot together: same pool, same class, the only reference. */
static size_t count_alike(struct mrp_region *const *regions, size_t count)
{
    const struct mrp_region *first = regions[0];
    size_t n = 0;

    while (n < count && mrp_region_is_live(regions[n]) &&
        mrp_kind_of(regions[n]) == MRP_REGION_POOLED &&
        mrp_depot_of(regions[n]) == mrp_depot_of(first) &&
        mrp_pool_of(regions[n]) == mrp_pool_of(first) &&
        mrp_load_acquire(&regions[n]->references) == 1) {
        /* at once, so that the same region twice in the list is seen as freed */
        mrp_store_relaxed(&regions[n]->references, 0);
        mrp_store_relaxed(&regions[n]->state, MRP_STATE_FREE);
        n++;
    }
    return n;
}

enum mrp_status mrp_region_free_many(
    struct mrp_region *const *regions, size_t count, size_t *n_freed)
{
    struct mrp_error first = {.status = MRP_OK};
    size_t freed = 0, done = 0;

    if (regions == NULL && count > 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "regions is NULL: pass %zu handles", count);
    }
    while (done < count) {
        size_t n = count_alike(regions + done, count - done);

        if (n > 0) {
            mrp_depot_put_many(mrp_pool_of(regions[done]), mrp_depot_of(regions[done]),
                regions + done, n);
            freed += n;
            done += n;
            continue;
        }
        if (mrp_region_free(regions[done]) == MRP_OK) {
            freed++;
        } else if (first.status == MRP_OK) {
            first = *mrp_error_last();
        }
        done++;
    }
    if (n_freed != NULL) {
        *n_freed = freed;
    }
    return first.status == MRP_OK
        ? MRP_OK
        : mrp_fail_at(first.function, first.status, first.native, "%s", first.text);
}

/* -- references -- */

/* Add a reference to a region that has one; it cannot end meanwhile. */
static enum mrp_status add_reference(struct mrp_region *region)
{
    uint32_t references = mrp_load_relaxed(&region->references);

    do {
        if (references == 0) {
            return mrp_fail(
                MRP_ERR_STALE, 0, "region %p has just been given back", (void *)region);
        }
        if (references == UINT32_MAX) {
            return mrp_fail(MRP_ERR_LIMIT, 0, "region %p has 2^32 - 1 references already",
                (void *)region);
        }
    } while (!mrp_cas_relaxed(&region->references, &references, references + 1));
    return MRP_OK;
}

enum mrp_status mrp_region_retain(struct mrp_region *region)
{
    return mrp_region_is_live(region) ? add_reference(region)
                                      : mrp_region_check_handle(region);
}

enum mrp_status mrp_region_release(struct mrp_region *region)
{
    uint32_t references;

    if (!mrp_region_is_live(region)) {
        return mrp_region_check_handle(region);
    }
    references = mrp_load_relaxed(&region->references);
    do {
        if (references == 0) {
            return mrp_fail(
                MRP_ERR_STALE, 0, "region %p has just been given back", (void *)region);
        }
    } while (!mrp_cas_acq_rel(&region->references, &references, references - 1));
    return references == 1 ? mrp_region_end(mrp_pool_of(region), region) : MRP_OK;
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
    mrp_region_begin(slice, size);
    *sliced = slice;
    return MRP_OK;
}

/* -- by plain pointer -- */

void *mrp_ptr_alloc(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(pool, size);

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
