/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Regions that are a chunk: larger than the huge tier, all of a pool that isolates them,
 * and the caller's own memory.
 *
 * A large one is kept after its free, registered, on the context's retention list; the
 * next request of at least three quarters of its size takes it. Evicting it gives it back
 * for good.
 */
#include "pool/large.h"
#include "base/error.h"
#include "pool/debug.h"
#include "pool/depot.h"
#include "pool/growth.h"
#include "pool/place.h"
#include "pool/rails.h"
#include "pool/wait.h"

#include <string.h>

/* Bytes mapped for a request, rounded to a quarter of a doubling and to whole granules,
 * so that sizes that vary a little share idle chunks. 0 when the size cannot be. */
size_t mrp_large_chunk_size(const struct mrp_pool *pool, size_t size)
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

/* One that is wanted. */
struct want {
    size_t size, alignment;
    uint32_t flags; /* enum mrp_region_request_flag */
    int node; /* where a chunk is asked to be */
    bool is_told; /* mrp_pool_is_told() */
};

/* A chunk of that node that is one region: those whose slabs have gone are idle, too. Of adopted memory
 * aligning the payload may have taken some. */
static bool suits(const struct mrp_retained *item, const void *user)
{
    const struct mrp_chunk *chunk = mrp_idle_chunk(item);
    const struct mrp_region *region = chunk->region;
    const struct want *want = user;

    return region != NULL && chunk->node == want->node &&
        region->capacity >= want->size &&
        ((uintptr_t)mrp_payload(region) & (want->alignment - 1)) == 0;
}

enum mrp_status mrp_large_dissolve(struct mrp_chunk *chunk, bool is_memory_wanted)
{
    mrp_chunk_withdraw(chunk);
    mrp_depot_put(chunk->pool, chunk->region);
    return is_memory_wanted ? mrp_pool_forget_chunk(chunk)
                            : mrp_pool_dissolve_chunk(chunk);
}

/* Nobody asked for this now, so nobody can be told: a failure shows as parked memory. */
static bool evict(struct mrp_retained *item)
{
    struct mrp_pool *pool = mrp_idle_chunk(item)->pool;
    struct mrp_error before = *mrp_error_last();
    size_t size = item->size;

    if (!mrp_chunk_begin_leave(mrp_idle_chunk(item))) {
        return false;
    }
    mrp_large_dissolve(mrp_idle_chunk(item), false);
    mrp_error_restore(&before);
    mrp_pool_count_idle(pool, -1, size, true);
    return true;
}

/* -- one new chunk with one region -- */

/* Memory that came with its contents begins where it does. */
static void tie_region(struct mrp_pool *pool, struct mrp_chunk *chunk,
    struct mrp_region *region, enum mrp_region_kind kind)
{
    bool is_callers = kind == MRP_REGION_USER || kind == MRP_REGION_ADOPTED;
    size_t lead = is_callers ? 0 : pool->classes.lead;
    size_t tailroom = is_callers ? 0 : pool->classes.tailroom;

    region->offset =
        (int64_t)((uintptr_t)chunk->mapping.address + lead - (uintptr_t)region);
    region->capacity = chunk->mapping.size - lead - tailroom;
    region->chunk = chunk->id;
    mrp_store_relaxed(&region->kind, (uint8_t)kind);
    chunk->region = region;
}

/* Adopted memory's next owner is like any other: there is room before and after the
 * payload, which is aligned. */
static void tie_adopted(struct mrp_pool *pool, const struct mrp_chunk *chunk)
{
    struct mrp_region *region = chunk->region;
    uintptr_t base = (uintptr_t)chunk->mapping.address;
    uintptr_t payload = mrp_align_up(base + pool->classes.lead, pool->classes.alignment);
    uintptr_t end = base + chunk->mapping.size - pool->classes.tailroom;

    region->offset = (int64_t)(payload - (uintptr_t)region);
    region->capacity = payload < end ? end - payload : 0;
}

/* A chunk; what is free in slabs is made idle, and given up, where there would be none. */
static enum mrp_status make_chunk(struct mrp_pool *pool,
    struct mrp_chunk_request *request, struct mrp_chunk **chunk, uint32_t *id)
{
    struct mrp_error before = *mrp_error_last();
    uint64_t n_openings = mrp_pool_openings(pool);
    enum mrp_status status = mrp_pool_make_chunk(pool, request, request->size, chunk, id);

    if (mrp_is_no_more(status) && mrp_pool_regroup(pool, n_openings)) {
        status = mrp_pool_make_chunk(pool, request, request->size, chunk, id);
        if (status == MRP_OK) {
            mrp_error_restore(&before);
        }
    }
    return status;
}

struct mrp_region *mrp_large_make(
    struct mrp_pool *pool, struct mrp_chunk_request *request, enum mrp_region_kind kind)
{
    struct mrp_region *region = mrp_region_take_bare(pool);
    struct mrp_chunk *chunk;
    enum mrp_status status;
    uint32_t id;

    if (region == NULL) {
        return NULL;
    }
    if (make_chunk(pool, request, &chunk, &id) != MRP_OK) {
        mrp_depot_put(pool, region);
        return NULL;
    }
    chunk->id = id;
    chunk->granules = NULL;
    tie_region(pool, chunk, region, kind);
    mrp_debug_place(request, region);
    mrp_pool_enter_chunk(pool, chunk);
    mrp_store_relaxed(&region->size, 0);
    mrp_store_relaxed(&region->length, 0);
    mrp_store_relaxed(&region->state, MRP_STATE_LIVE);
    if (pool->user_size > 0) { /* a descriptor that has served before begins anew */
        memset(mrp_region_user(region), 0, pool->user_size);
    }
    if (kind != MRP_REGION_ADOPTED) {
        mrp_debug_cut(pool, region);
    }
    status = mrp_region_init_user(pool, region);
    if (kind != MRP_REGION_ADOPTED) { /* which is live already, with what is in it */
        mrp_debug_end(pool, region);
    }
    mrp_store_relaxed(&region->state, MRP_STATE_FREE);
    if (status == MRP_OK) {
        status = mrp_chunk_publish(chunk);
    }
    if (status != MRP_OK) {
        mrp_pool_unmake_chunk(chunk);
        mrp_depot_put(pool, region);
        return NULL;
    }
    return region;
}

/* -- alloc and free -- */

static struct mrp_region *take_idle(struct mrp_pool *pool, const struct want *want)
{
    size_t rounded = mrp_large_chunk_size(pool, want->size);
    struct mrp_retained *idle = mrp_retention_take(&pool->context->retention, pool,
        want->size + pool->classes.lead + pool->classes.tailroom,
        mrp_max(rounded, want->size / 3 * 4), suits, want);

    if (idle == NULL) {
        return NULL;
    }
    mrp_pool_count_idle(pool, -1, idle->size, false);
    return mrp_idle_chunk(idle)->region;
}

static bool others_first(struct mrp_pool *pool)
{
    bool is_served;

    if (mrp_load_relaxed(&pool->n_waiting) == 0) {
        return false;
    }
    pthread_mutex_lock(&pool->mutex);
    is_served = mrp_line_is_served(pool);
    pthread_mutex_unlock(&pool->mutex);
    return is_served;
}

static struct mrp_region *make_large(struct mrp_pool *pool, const struct want *want)
{
    struct mrp_chunk_request request;

    mrp_pool_request_chunk(pool, mrp_large_chunk_size(pool, want->size), want->alignment,
        want->node, &request);
    mrp_debug_request(pool, want->size, &request);
    request.is_told = want->is_told;
    return mrp_large_make(pool, &request, MRP_REGION_LARGE);
}

/* Idle or new. */
static struct mrp_region *find_large(struct mrp_pool *pool, const struct want *want)
{
    struct mrp_region *region = take_idle(pool, want);

    if (region != NULL) {
        return region;
    }
    if ((want->flags & MRP_REQUEST_NOGROW) != 0) {
        mrp_fail(MRP_ERR_AGAIN, 0,
            "pool %s has no idle region of %zu bytes and may not map here",
            pool->member.named.name, want->size);
        return NULL;
    }
    return make_large(pool, want);
}

static struct mrp_region *attempt(struct mrp_pool *pool, void *user)
{
    struct mrp_region *region;

    pthread_mutex_unlock(&pool->mutex);
    region = find_large(pool, user);
    pthread_mutex_lock(&pool->mutex);
    return region;
}

static struct mrp_region *wait_for_large(
    struct mrp_pool *pool, struct want *want, uint32_t wait_ms)
{
    struct mrp_region *region;

    mrp_thread_flush(pool);
    pthread_mutex_lock(&pool->mutex);
    region = mrp_line_wait(pool, MRP_CLASS_BARE, want->size, wait_ms, attempt, want);
    pthread_mutex_unlock(&pool->mutex);
    mrp_line_end(pool);
    return region;
}

struct mrp_region *mrp_large_join(
    struct mrp_pool *pool, size_t size, struct mrp_waiter *waiter)
{
    struct want want = {size, pool->classes.alignment, 0, pool->node, true};

    return mrp_line_join(pool, MRP_CLASS_BARE, size, waiter, attempt, &want);
}

struct mrp_region *mrp_large_reuse(struct mrp_pool *pool, size_t size)
{
    struct want want = {size, pool->classes.alignment, 0, pool->node, true};

    return take_idle(pool, &want);
}

/* What was set aside as corrupt stays as it is until the pool goes. */
static struct mrp_region *begin_large(
    struct mrp_pool *pool, struct mrp_region *region, size_t size)
{
    if (mrp_debug_begin(pool, region) != MRP_OK) {
        return NULL;
    }
    mrp_region_begin(pool, region, size);
    return region;
}

struct mrp_region *mrp_large_alloc(struct mrp_pool *pool, size_t size, size_t alignment,
    const struct mrp_region_request *request)
{
    struct want want = {size, alignment, request->flags,
        mrp_place_node(pool, request->node), mrp_pool_is_told(pool, request)};
    struct mrp_region *region = NULL;
    uint32_t wait_ms = 0;

    if (mrp_large_chunk_size(pool, size) == 0) {
        mrp_fail(MRP_ERR_INVALID, 0, "cannot allocate %zu bytes: no machine has as many",
            size);
        return NULL;
    }
    if (others_first(pool)) {
        mrp_fail(MRP_ERR_LIMIT, 0,
            "pool %s: %u requests stand in line for room: wait (wait_ms), or free some",
            pool->member.named.name, mrp_load_relaxed(&pool->n_waiting));
    } else {
        region = find_large(pool, &want);
    }
    if (region == NULL) {
        pthread_mutex_lock(&pool->mutex);
        wait_ms = mrp_pool_patience(pool, mrp_large_chunk_size(pool, size), request);
        pthread_mutex_unlock(&pool->mutex);
    }
    if (wait_ms > 0) {
        region = wait_for_large(pool, &want, wait_ms);
    }
    return region != NULL ? begin_large(pool, region, size) : NULL;
}

struct mrp_region *mrp_large_temporary(
    struct mrp_pool *pool, size_t size, size_t alignment, int node)
{
    struct mrp_chunk_request request;
    struct mrp_region *region;

    mrp_pool_request_chunk(
        pool, mrp_large_chunk_size(pool, size), alignment, node, &request);
    mrp_debug_request(pool, size, &request);
    request.is_over_budget = true;
    region = mrp_large_make(pool, &request, MRP_REGION_TEMPORARY);
    return region != NULL ? begin_large(pool, region, size) : NULL;
}

enum mrp_status mrp_large_free(struct mrp_pool *pool, struct mrp_region *region)
{
    struct mrp_chunk *chunk = mrp_chunk_entry(pool, region->chunk)->chunk;

    /* what has guard pages goes at once, so that late accesses meet nothing */
    if (mrp_kind_of(region) == MRP_REGION_USER ||
        mrp_kind_of(region) == MRP_REGION_TEMPORARY || pool->keeps_nothing ||
        chunk->guard != 0) {
        enum mrp_status status = mrp_large_dissolve(chunk, false);

        mrp_line_end(pool);
        return status;
    }
    if (mrp_kind_of(region) == MRP_REGION_ADOPTED) {
        tie_adopted(pool, chunk);
    }
    mrp_debug_end(pool, region);
    mrp_pool_count_idle(pool, 1, chunk->mapping.size, false);
    mrp_pool_retain(pool, chunk, evict);
    mrp_pool_count_idle(pool, 0, 0, false); /* only now can it be found there */
    mrp_line_end(pool);
    return MRP_OK;
}

enum mrp_status mrp_large_discard(struct mrp_pool *pool, struct mrp_region *region)
{
    return mrp_large_dissolve(mrp_chunk_entry(pool, region->chunk)->chunk, false);
}

/* -- the caller's own memory -- */

enum mrp_status mrp_large_check_range(const void *address, size_t size, const char *verb)
{
    size_t end;

    if (address == NULL || size == 0) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "cannot %s %zu bytes at %p", verb, size, address);
    }
    if (mrp_add_overflows((uintptr_t)address, size, &end)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%zu bytes at %p run past the end of the address space", size, address);
    }
    return MRP_OK;
}

/* That the rails which it is for are there, and can grant it. */
static enum mrp_status check_rails(struct mrp_pool *pool, uint32_t access, uint64_t rails)
{
    enum mrp_status status = MRP_OK;

    if ((access & ~(uint32_t)MRP_ACCESS_ALL) != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "access is %#x: unknown bits", access);
    }
    pthread_mutex_lock(&pool->mutex);
    for (unsigned rail = 0; status == MRP_OK && rail < MRP_RAILS_MAX; rail++) {
        const struct mrp_rail *slot = &pool->rails[rail];
        bool is_meant = rails == 0 || (rails & mrp_rail_bit(rail)) != 0;

        if (is_meant && slot->provider != NULL && mrp_rail_takes(slot)) {
            status = mrp_provider_grants(slot->provider, access, MRP_MEMORY_HOST);
        } else if (is_meant && rails != 0) {
            status = mrp_rail_refuse_locked("mrp_region_register", pool, rail);
        }
    }
    pthread_mutex_unlock(&pool->mutex);
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
            : mrp_large_check_range(address, size, "register");
    }
    if (status == MRP_OK) {
        status =
            mrp_params_read(&params, sizeof params, given, "mrp_region_register_params");
    }
    if (status != MRP_OK) {
        return status;
    }
    mrp_pool_request_chunk(pool, size, MRP_LINE, 0, &request);
    request.backend = NULL;
    request.adopted = address;
    request.access = params.access != 0 ? params.access : pool->access;
    request.native_flags =
        params.native_flags != 0 ? params.native_flags : pool->native_flags;
    request.only = params.rails;
    status = check_rails(pool, request.access, params.rails);
    if (status == MRP_OK) {
        struct mrp_region *region = mrp_large_make(pool, &request, MRP_REGION_USER);

        mrp_line_end(pool); /* what had to be evicted is room for others */
        if (region == NULL) {
            return mrp_error_last()->status;
        }
        mrp_region_begin(pool, region, size);
        mrp_debug_own(pool, region, NULL, __builtin_return_address(0));
        *registered = region;
    }
    return status;
}
