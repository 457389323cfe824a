/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Taking and giving back regions. The fast path is inline.h's; here is what it leaves.
 */
#include "base/error.h"
#include "pool/cache.h"
#include "pool/debug.h"
#include "pool/depot.h"
#include "pool/growth.h"
#include "pool/large.h"
#include "pool/place.h"
#include "pool/wait.h"

#include <string.h>

/* -- alloc -- */

enum mrp_status mrp_region_hand_over(
    struct mrp_pool *pool, struct mrp_region *region, unsigned class, size_t size)
{
    enum mrp_status status = MRP_OK;

    if (pool->checks == MRP_CHECKS_FULL) {
        status = mrp_region_verify(pool, region, class);
    }
    if (status == MRP_OK) {
        status = mrp_debug_begin(pool, region);
    }
    if (status == MRP_OK) {
        mrp_region_begin(pool, region, size);
    }
    return status;
}

/* What the calling thread's cache does not have at hand. `cached` is what it gave after
 * all. */
static struct mrp_region *alloc_class(struct mrp_pool *pool, unsigned class, size_t size,
    const struct mrp_region_request *request, struct mrp_region *cached)
{
    struct mrp_region *region =
        cached != NULL ? cached : mrp_pool_grow(pool, class, size, request);

    return region != NULL && mrp_region_hand_over(pool, region, class, size) == MRP_OK
        ? region
        : NULL;
}

static bool wants_temporary(
    const struct mrp_pool *pool, const struct mrp_region_request *request)
{
    return pool->at_limit == MRP_AT_LIMIT_TEMPORARY && request->wait_ms == 0 &&
        (request->flags & (MRP_REQUEST_NOGROW | MRP_REQUEST_NO_LINE)) == 0 &&
        mrp_is_no_more(mrp_error_last()->status);
}

/* Whatever the size, and whatever the pool does at its limit. class: MRP_CLASS_BARE for a
 * chunk of its own. */
static struct mrp_region *alloc_any(struct mrp_pool *pool, unsigned class, size_t size,
    size_t alignment, const struct mrp_region_request *request, struct mrp_region *cached)
{
    struct mrp_region *region = class == MRP_CLASS_BARE
        ? mrp_large_alloc(pool, size, alignment, request)
        : alloc_class(pool, class, size, request, cached);

    if (region == NULL && wants_temporary(pool, request)) {
        region = mrp_large_temporary(
            pool, size, alignment, mrp_place_node(pool, request->node));
    }
    mrp_line_end(pool); /* what had to be evicted is room, too */
    return region;
}

static const struct mrp_region_request plain = MRP_REGION_REQUEST_INIT;

/* What has been idle for long goes. In calls that may have been quick: in one of 64, where
 * the region counts them. */
static void decay_now_and_then(struct mrp_pool *pool, const struct mrp_region *region)
{
    if (mrp_is_unchecked(pool, region) ||
        mrp_load_relaxed(&region->generation) % 64 == 0) {
        mrp_pool_tick(pool);
    }
}

/* The same once a magazine has been used up. */
static void decay(struct mrp_pool *pool, const struct mrp_region *region)
{
    if (pool->cache_slot != MRP_NO_SLOT || region == NULL) {
        mrp_pool_tick(pool);
    } else {
        decay_now_and_then(pool, region);
    }
}

static __attribute__((noinline)) struct mrp_region *alloc_uncached(
    struct mrp_pool *pool, size_t size, const void *caller)
{
    struct mrp_region *region = NULL;
    unsigned class;

    if (!mrp_pool_is_live(pool)) {
        mrp_pool_check_handle(pool);
        return NULL;
    }
    if (mrp_is_large(pool, size)) {
        class = MRP_CLASS_BARE;
    } else {
        class = mrp_class_of(&pool->classes, size);
        region = mrp_cache_take(pool, class);
    }
    region = alloc_any(pool, class, size, pool->classes.alignment, &plain, region);
    decay(pool, region);
    if (region != NULL) {
        mrp_debug_own(pool, region, NULL, caller);
    }
    return region;
}

/* mrp_v1_take() of pools that do not check, or have room about the payload. */
__attribute__((noinline)) struct mrp_region *mrp_region_alloc_slow(
    struct mrp_pool *pool, size_t size, const void *caller)
{
    struct mrp_cache_slot *slot = mrp_v1_slot(pool);
    struct mrp_region *region = mrp_v1_take_unchecked(pool, size);

    if (region != NULL) {
        return region;
    }
    if ((slot->pool & ~MRP_V1_UNCHECKED) == ((uintptr_t)pool | MRP_V1_ROOMY)) {
        /* a sum that overflows is of a bin that no class has: is_exact() in classes.c */
        region = mrp_v1_pop(
            slot, mrp_v1_bin(size + pool->classes.lead + pool->classes.tailroom));
    }
    if (region == NULL) {
        return alloc_uncached(pool, size, caller);
    }
    mrp_region_begin(pool, region, size);
    return region;
}

struct mrp_region *mrp_region_alloc(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region = mrp_v1_take(pool, size);

    return MRP_V1_LIKELY(region != NULL)
        ? region
        : mrp_region_alloc_slow(pool, size, __builtin_return_address(0));
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
    if (request->node < 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "node is %d: take MRP_NODE(n), or 0 for the pool's own", request->node);
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
            "pool %s: set the pool's own alignment instead",
            alignment, pool->classes.lead, pool->member.named.name);
    }
    return MRP_OK;
}

/* The smallest class whose blocks all fall on the alignment; MRP_CLASS_BARE when none
 * does. */
static unsigned aligned_class(const struct mrp_pool *pool, size_t size, size_t alignment)
{
    unsigned class = mrp_class_of(&pool->classes, size);

    if (alignment > MRP_GRANULE_SIZE) {
        return MRP_CLASS_BARE; /* slabs promise no more */
    }
    while (class < pool->classes.n_base &&
        pool->classes.classes[class].block_size % alignment != 0) {
        class ++;
    }
    return class < pool->classes.n_base ? class : MRP_CLASS_BARE;
}

/* From the caches the request names. They are entered for this alone: growth may yield,
 * and come back on another thread. */
static enum mrp_status take_from(struct mrp_pool *pool, unsigned class,
    struct mrp_thread_slot *slot, struct mrp_region **region)
{
    struct mrp_cache_arena *own;
    enum mrp_status status = MRP_OK;

    if (slot == NULL) {
        *region = mrp_cache_take(pool, class);
        return MRP_OK;
    }
    status = mrp_thread_enter(slot, &own);
    if (status == MRP_OK) {
        *region = mrp_cache_take(pool, class);
        /* nobody frees through a slot, which is when threads give up what others ask for
         */
        mrp_cache_give_asked(pool, class);
        mrp_thread_leave(own);
        mrp_depot_tell(pool, class, NULL, 0);
    }
    return status;
}

/* From the lane of the request's node, or the caches that are for the pool's own. *class
 * is the lane's then. */
static enum mrp_status take_first(struct mrp_pool *pool, unsigned *class,
    const struct mrp_region_request *request, struct mrp_region **region)
{
    int node = mrp_place_node(pool, request->node);
    unsigned first;
    enum mrp_status status;

    if (node == pool->node) {
        return take_from(pool, *class, request->slot, region);
    }
    status = mrp_place_lane(pool, node, request->flags, &first);
    if (status == MRP_OK) {
        *class += first;
        *region = mrp_cache_take(pool, *class);
    }
    return status;
}

struct mrp_region *mrp_region_alloc_with(
    struct mrp_pool *pool, size_t size, const struct mrp_region_request *given)
{
    struct mrp_region_request request;
    struct mrp_region *region = NULL;
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
    class = MRP_CLASS_BARE;
    if (!mrp_is_large(pool, size)) {
        class = alignment == pool->classes.alignment
            ? mrp_class_of(&pool->classes, size)
            : aligned_class(pool, size, alignment);
    }
    if (class == MRP_CLASS_BARE ||
        take_first(pool, &class, &request, &region) == MRP_OK) {
        region = alloc_any(pool, class, size, alignment, &request, region);
    }
    if (region == NULL) {
        return NULL;
    }
    mrp_debug_own(pool, region, request.tag, __builtin_return_address(0));
    if ((request.flags & MRP_REQUEST_NOGROW) == 0) {
        decay_now_and_then(pool, region);
    }
    if ((request.flags & MRP_REQUEST_ZERO) != 0) {
        memset(mrp_payload(region), 0, size);
    }
    return region;
}

static enum mrp_status join_line(struct mrp_pool *pool, unsigned class, size_t size,
    struct mrp_waiter *waiter, struct mrp_region **region)
{
    *region = class == MRP_CLASS_BARE ? mrp_large_join(pool, size, waiter)
                                      : mrp_pool_join(pool, class, size, waiter);
    if (*region == NULL && mrp_load_relaxed(&pool->is_closing)) {
        return mrp_fail_at("mrp_region_alloc_async", MRP_ERR_STALE, 0,
            "pool %s is being destroyed: nobody can wait for it",
            pool->member.named.name);
    }
    return *region != NULL
        ? mrp_region_hand_over(pool, *region, class, size)
        : mrp_fail_at("mrp_region_alloc_async", MRP_ERR_AGAIN, 0,
              "pool %s has no room for %zu bytes: the request stands in line, and its "
              "waiter is notified",
              pool->member.named.name, size);
}

/* Some day. No lock. */
static bool may_have_room(struct mrp_pool *pool, unsigned class, size_t size)
{
    bool may;

    pthread_mutex_lock(&pool->mutex);
    may = mrp_pool_can_ever(pool,
        class == MRP_CLASS_BARE ? mrp_large_chunk_size(pool, size)
                                : mrp_least_chunk(pool, class));
    pthread_mutex_unlock(&pool->mutex);
    return may;
}

enum mrp_status mrp_region_alloc_async(struct mrp_pool *pool, size_t size,
    struct mrp_waiter *waiter, struct mrp_region **allocated)
{
    struct mrp_region_request request = {
        .struct_size = sizeof request, .flags = MRP_REQUEST_NO_LINE};
    enum mrp_status status = mrp_pool_check_handle(pool);
    struct mrp_region *region = NULL;
    unsigned class;

    if (status != MRP_OK) {
        return status;
    }
    if (waiter == NULL || waiter->notify == NULL || allocated == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "waiter %p: pass one with a notify function (MRP_WAITER_INIT), and where to "
            "store a region that can be had at once",
            (void *)waiter);
    }
    if (waiter->state != 0) {
        return mrp_fail(
            MRP_ERR_BUSY, 0, "waiter %p stands in a line already", (void *)waiter);
    }
    class = MRP_CLASS_BARE;
    if (!mrp_is_large(pool, size)) {
        class = mrp_class_of(&pool->classes, size);
        region = mrp_cache_take(pool, class);
    }
    region = alloc_any(pool, class, size, pool->classes.alignment, &request, region);
    if (region == NULL) {
        status = mrp_error_last()->status;
    }
    if (mrp_is_no_more(status) && may_have_room(pool, class, size)) {
        status = join_line(pool, class, size, waiter, &region);
    }
    if (status != MRP_OK) {
        return status;
    }
    mrp_debug_own(pool, region, NULL, __builtin_return_address(0));
    decay_now_and_then(pool, region);
    waiter->turn = 0;
    *allocated = region;
    return MRP_OK;
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
    if (!mrp_is_large(pool, size) && pool->checks != MRP_CHECKS_FULL &&
        pool->debug == 0) {
        taken =
            mrp_cache_take_many(pool, mrp_class_of(&pool->classes, size), count, regions);
    }
    if (pool->checks != MRP_CHECKS_NONE) {
        for (size_t i = 0; i < taken; i++) {
            mrp_v1_begin(regions[i], size);
        }
    }
    if (taken > 0) {
        decay_now_and_then(pool, regions[0]);
    }
    for (; taken < count; taken++) {
        regions[taken] = mrp_v1_take(pool, size);
        if (regions[taken] == NULL) {
            regions[taken] =
                mrp_region_alloc_slow(pool, size, __builtin_return_address(0));
        }
        if (regions[taken] == NULL) {
            break;
        }
    }
    return taken;
}

/* -- free -- */

static __attribute__((noinline)) enum mrp_status free_slow(struct mrp_region *region)
{
    struct mrp_pool *pool;
    uint32_t references;
    enum mrp_status status = MRP_OK;

    if (!mrp_region_is_live(region)) {
        return mrp_region_check_handle(region);
    }
    pool = mrp_pool_of(region);
    /* acquire: pairs with the release in drop_reference() of who held it too */
    references = mrp_state_references(mrp_load_acquire(&region->state));
    if (references > 1) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "region %p has %u references (retained, or sliced): release it instead",
            (void *)region, references);
    }
    if (pool->checks == MRP_CHECKS_FULL) {
        status = mrp_region_claim(region);
    }
    return status == MRP_OK ? mrp_region_end(pool, region) : status;
}

enum mrp_status mrp_region_free(struct mrp_region *region)
{
    return MRP_V1_LIKELY(mrp_v1_give(region)) ? MRP_OK : free_slow(region);
}

/* mrp_v1_give() of as many as go to one bin; returns how many did. */
static size_t give_run(struct mrp_region *const *regions, size_t count)
{
    struct mrp_cache_arena *arena = mrp_bins_v1;
    uintptr_t begin = arena->window_begin;
    size_t checked_end = arena->checked_end, n;
    struct mrp_region ***fields, **top, **limit;
    uint32_t cache;

    if (mrp_v1_line(begin, regions[0]) >= checked_end ||
        mrp_load_acquire(&regions[0]->state) != MRP_V1_LIVE) {
        return mrp_v1_give(regions[0]);
    }
    cache = regions[0]->cache; /* only now: what is no descriptor has none */
    fields = (struct mrp_region ***)(void *)((char *)arena + cache);
    top = fields[0];
    limit = MRP_V1_LOAD(fields[MRP_V1_LIMIT]);
    count = limit > top ? mrp_min(count, (size_t)(limit - top)) : 0;
    for (n = 0; n < count; n++) {
        struct mrp_region *region = regions[n];

        if (mrp_v1_line(begin, region) >= checked_end ||
            mrp_load_acquire(&region->state) != MRP_V1_LIVE || region->cache != cache) {
            break;
        }
        MRP_V1_STORE(region->state, MRP_V1_FREE);
        top[n] = region;
    }
    MRP_V1_STORE(fields[0], top + n);
    return n;
}

enum mrp_status mrp_region_free_many(
    struct mrp_region *const *regions, size_t count, size_t *n_freed)
{
    struct mrp_error first; /* of half a KiB nothing is written but when there is one */
    size_t freed = 0, done = 0;

    first.status = MRP_OK;

    if (regions == NULL && count > 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "regions is NULL: pass %zu handles", count);
    }
    while (done < count) {
        size_t n = give_run(regions + done, count - done);

        freed += n;
        done += n;
        if (n > 0) {
            continue;
        }
        if (free_slow(regions[done++]) == MRP_OK) {
            freed++;
        } else if (first.status == MRP_OK) {
            first = *mrp_error_last();
        }
    }
    if (n_freed != NULL) {
        *n_freed = freed;
    }
    return first.status == MRP_OK
        ? MRP_OK
        : mrp_fail_at(first.function, first.status, first.native, "%s", first.text);
}
