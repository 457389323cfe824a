/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Regions that are a chunk: larger than the huge tier, and the caller's own memory.
 *
 * A large one is kept after its free, registered, on the context's retention list; the
 * next request of at least three quarters of its size takes it. Evicting it gives it back
 * for good.
 */
#include "base/error.h"
#include "pool/pool.h"

#include <string.h>

/* Bytes mapped for a request, rounded to a quarter of a doubling and to whole granules,
 * so that sizes that vary a little share idle chunks. 0 when the size cannot be. */
static size_t round_large(const struct mrp_pool *pool, size_t size)
{
    size_t total = size, quarter;

    if (mrp_add_overflows(size, pool->classes.lead + pool->classes.tailroom, &total) ||
        total > (size_t)1 << 46) {
        return 0;
    }
    total = mrp_max(total, MRP_GRANULE_SIZE);
    quarter = (size_t)1 << (63 - __builtin_clzl(total) - 2);
    return mrp_align_up(mrp_align_up(total, quarter), MRP_GRANULE_SIZE);
}

static struct mrp_chunk *chunk_of(const struct mrp_retained *item)
{
    return (struct mrp_chunk *)(void *)((char *)(uintptr_t)item -
        offsetof(struct mrp_chunk, retained));
}

static bool is_aligned_item(const struct mrp_retained *item, const void *alignment)
{
    return ((uintptr_t)mrp_payload(chunk_of(item)->region) &
               (*(const size_t *)alignment - 1)) == 0;
}

/* Take a chunk's region and number away and give its memory back. */
static enum mrp_status dissolve(struct mrp_chunk *chunk)
{
    struct mrp_pool *pool = chunk->pool;
    struct mrp_region *region = chunk->region;
    size_t charge = mrp_chunk_charge(chunk);
    uint32_t id = chunk->id;
    enum mrp_status status;

    mrp_chunk_withdraw(chunk);
    mrp_pool_leave_chunk(pool, id);
    mrp_depot_put(pool, region);
    status = mrp_chunk_destroy(chunk);
    mrp_pool_discharge(pool, charge, id);
    return status;
}

/* `n` chunks of `size` bytes became idle, or are no longer (negative). Whoever waits for
 * room, or for the last of them to go, looks again. */
static void count_idle(struct mrp_pool *pool, int n, size_t size, bool is_evicted)
{
    pthread_mutex_lock(&pool->mutex);
    pool->n_idle += (size_t)n;
    pool->idle_size += n < 0 ? (size_t)0 - size : n > 0 ? size : 0;
    pool->n_evictions += is_evicted;
    pool->idle_changes++;
    mrp_wake_all(&pool->grown);
    pthread_mutex_unlock(&pool->mutex);
}

/* Nobody asked for this now, so nobody can be told: a failure shows as parked memory. */
static void evict(struct mrp_retained *item)
{
    struct mrp_pool *pool = chunk_of(item)->pool;
    size_t size = item->size;

    dissolve(chunk_of(item));
    count_idle(pool, -1, size, true);
}

/* -- one new chunk with one region -- */

static void tie_region(struct mrp_pool *pool, struct mrp_chunk *chunk,
    struct mrp_region *region, enum mrp_region_kind kind)
{
    size_t lead = kind == MRP_REGION_USER ? 0 : pool->classes.lead;
    size_t tailroom = kind == MRP_REGION_USER ? 0 : pool->classes.tailroom;

    region->offset =
        (int64_t)((uintptr_t)chunk->mapping.address + lead - (uintptr_t)region);
    region->capacity = chunk->mapping.size - lead - tailroom;
    region->chunk = chunk->id;
    mrp_store_relaxed(&region->kind, (uint8_t)kind);
    chunk->region = region;
}

/* Build a chunk for `request` with a region of its own; NULL with an error record. */
static struct mrp_region *make_region(
    struct mrp_pool *pool, struct mrp_chunk_request *request, enum mrp_region_kind kind)
{
    struct mrp_region *region = mrp_region_take_bare(pool);
    struct mrp_chunk *chunk;
    enum mrp_status status;
    uint32_t id;

    if (region == NULL) {
        return NULL;
    }
    if (mrp_pool_make_chunk(pool, request, request->size, &chunk, &id) != MRP_OK) {
        mrp_depot_put(pool, region);
        return NULL;
    }
    chunk->id = id;
    chunk->granules = NULL;
    tie_region(pool, chunk, region, kind);
    mrp_pool_enter_chunk(pool, chunk);
    mrp_store_relaxed(&region->size, 0);
    mrp_store_relaxed(&region->length, 0);
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    if (pool->user_size > 0) { /* a descriptor that has served before begins anew */
        memset(mrp_region_user(region), 0, pool->user_size);
    }
    status = mrp_region_init_user(pool, region);
    mrp_store_relaxed(&region->state, MRP_STATE_FREE);
    if (status == MRP_OK) {
        status = mrp_chunk_publish(chunk);
    }
    if (status != MRP_OK) {
        mrp_pool_unmake_chunk(pool, chunk);
        mrp_depot_put(pool, region);
        return NULL;
    }
    return region;
}

struct mrp_region *mrp_large_alloc(
    struct mrp_pool *pool, size_t size, size_t alignment, uint32_t flags)
{
    size_t rounded = round_large(pool, size);
    struct mrp_chunk_request request;
    struct mrp_retained *idle;
    struct mrp_region *region;

    if (rounded == 0) {
        mrp_fail(MRP_ERR_INVALID, 0, "cannot allocate %zu bytes: no machine has as many",
            size);
        return NULL;
    }
    idle = mrp_retention_take(&pool->context->retention, pool,
        size + pool->classes.lead + pool->classes.tailroom,
        mrp_max(rounded, size / 3 * 4), NULL, is_aligned_item, &alignment);
    if (idle != NULL) {
        count_idle(pool, -1, idle->size, false);
        region = chunk_of(idle)->region;
    } else if ((flags & MRP_REQUEST_NOGROW) != 0) {
        mrp_fail(MRP_ERR_AGAIN, 0,
            "pool %s has no idle region of %zu bytes and may not map here",
            pool->member.named.name, size);
        return NULL;
    } else {
        mrp_pool_request_chunk(pool, rounded, alignment, &request);
        region = make_region(pool, &request, MRP_REGION_LARGE);
    }
    if (region != NULL) {
        mrp_region_begin(pool, region, size);
    }
    return region;
}

enum mrp_status mrp_large_free(struct mrp_pool *pool, struct mrp_region *region)
{
    struct mrp_chunk *chunk = mrp_chunk_entry(pool, region->chunk)->chunk;

    if (mrp_kind_of(region) == MRP_REGION_USER) {
        return dissolve(chunk);
    }
    chunk->retained.size = chunk->mapping.size;
    chunk->retained.owner = pool;
    chunk->retained.place = mrp_chunk_place(chunk);
    chunk->retained.is_kept = pool->never_free;
    chunk->retained.evict = evict;
    count_idle(pool, 1, chunk->mapping.size, false);
    mrp_retention_add(&pool->context->retention, &chunk->retained);
    count_idle(pool, 0, 0, false); /* only now can it be found there */
    return MRP_OK;
}

/* -- the caller's own memory -- */

static enum mrp_status check_range(const void *address, size_t size)
{
    size_t end;

    if (address == NULL || size == 0) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "cannot register %zu bytes at %p", size, address);
    }
    if (mrp_add_overflows((uintptr_t)address, size, &end)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%zu bytes at %p run past the end of the address space", size, address);
    }
    return MRP_OK;
}

static enum mrp_status check_access(const struct mrp_pool *pool, uint32_t access)
{
    enum mrp_status status = MRP_OK;

    if ((access & ~(uint32_t)MRP_ACCESS_ALL) != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "access is %#x: unknown bits", access);
    }
    for (size_t rail = 0; status == MRP_OK && rail < pool->n_rails; rail++) {
        status = mrp_provider_grants(pool->rails[rail], access, MRP_MEMORY_HOST);
    }
    return status;
}

enum mrp_status mrp_region_register(struct mrp_pool *pool, void *address, size_t size,
    const struct mrp_region_register_params *given, struct mrp_region **registered)
{
    struct mrp_region_register_params params;
    struct mrp_chunk_request request;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status == MRP_OK) {
        status = registered == NULL
            ? mrp_fail(
                  MRP_ERR_INVALID, 0, "region is NULL: pass where to store the handle")
            : check_range(address, size);
    }
    if (status == MRP_OK) {
        status =
            mrp_params_read(&params, sizeof params, given, "mrp_region_register_params");
    }
    if (status != MRP_OK) {
        return status;
    }
    mrp_pool_request_chunk(pool, size, MRP_LINE, &request);
    request.backend = NULL;
    request.adopted = address;
    request.access = params.access != 0 ? params.access : pool->access;
    request.native_flags =
        params.native_flags != 0 ? params.native_flags : pool->native_flags;
    status = check_access(pool, request.access);
    if (status == MRP_OK) {
        struct mrp_region *region = make_region(pool, &request, MRP_REGION_USER);

        if (region == NULL) {
            return mrp_error_last()->status;
        }
        mrp_region_begin(pool, region, size);
        *registered = region;
    }
    return status;
}
