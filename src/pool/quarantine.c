/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Quarantine: regions that the network may still write to, until their fence is reported
 * drained or their registration has been taken away.
 */
#include "pool/quarantine.h"
#include "pool/large.h"

#include "base/clock.h"
#include "base/error.h"
#include "pool/pool.h"

#include <inttypes.h>
#include <stdio.h>

#define NANOSECONDS UINT64_C(1000000000)
#define TICKS_PER_STAY 8 /* how often old ones are looked for in quarantine_ms, */
#define SHORTEST_TICK UINT64_C(10000000) /* ns */

void mrp_quarantine_create(struct mrp_quarantine *quarantine)
{
    pthread_mutex_init(&quarantine->mutex, NULL);
}

void mrp_quarantine_destroy(struct mrp_quarantine *quarantine)
{
    pthread_mutex_destroy(&quarantine->mutex);
}

/* Fences are counters, addresses, numbers of connections: their high bits count, too. */
unsigned mrp_quarantine_list(uint64_t fence)
{
    return (unsigned)(fence * UINT64_C(0x9e3779b97f4a7c15) >> 56) % MRP_QUARANTINE_LISTS;
}

static uint64_t age_of(const struct mrp_region *region, uint64_t now)
{
    uint64_t since = mrp_load_relaxed(&region->size);

    return now > since ? now - since : 0;
}

void mrp_quarantine_describe(const struct mrp_region *region, char *text, size_t size)
{
    snprintf(text, size, "abandoned %" PRIu64 " s ago, fence %" PRIu64 " never drained",
        age_of(region, mrp_clock_coarse()) / NANOSECONDS,
        (uint64_t)mrp_load_relaxed(&region->length));
}

void mrp_quarantine_count(struct mrp_quarantine *quarantine, size_t *n_regions,
    size_t *size, uint64_t *n_revoked)
{
    pthread_mutex_lock(&quarantine->mutex);
    *n_regions = mrp_load_relaxed(&quarantine->n_regions);
    *size = quarantine->size;
    *n_revoked = quarantine->n_revoked;
    pthread_mutex_unlock(&quarantine->mutex);
}

/* -- in -- */

static void enlist(struct mrp_pool *pool, struct mrp_region *region, uint64_t fence)
{
    struct mrp_quarantine *quarantine = &pool->quarantine;
    uint32_t *list = &quarantine->lists[mrp_quarantine_list(fence)];
    uint32_t index = mrp_region_index(region);

    pthread_mutex_lock(&quarantine->mutex);
    mrp_store_relaxed(mrp_link(mrp_region_links(pool), index), *list);
    *list = index + 1;
    mrp_add_relaxed(&quarantine->n_regions, 1);
    quarantine->size += region->capacity;
    pthread_mutex_unlock(&quarantine->mutex);
}

/* Of several that give one region up or back, one wins. */
static enum mrp_status claim(struct mrp_region *region)
{
    uint32_t state = MRP_STATE_LIVE;

    /* acquire: pairs with the release in drop_reference() of who held it too */
    while (!mrp_cas_acq_rel(&region->state, &state, MRP_STATE_QUARANTINED)) {
        if (mrp_state_is_live(state) && state != MRP_STATE_LIVE) {
            return mrp_fail(MRP_ERR_BUSY, 0,
                "region %p has %u references (retained, or sliced): the last one can be "
                "abandoned, release the others",
                (void *)region, mrp_state_references(state));
        }
        if (state != MRP_STATE_LIVE) {
            return mrp_region_check_handle(region) == MRP_OK
                ? mrp_fail(MRP_ERR_STALE, 0,
                      "region %p is being given back by another thread, too",
                      (void *)region)
                : mrp_error_last()->status;
        }
    }
    return MRP_OK;
}

enum mrp_status mrp_region_abandon(struct mrp_region *region, uint64_t fence)
{
    enum mrp_status status = mrp_region_check_handle(region);

    if (status == MRP_OK) {
        status = claim(region);
    }
    if (status != MRP_OK) {
        return status;
    }
    mrp_store_relaxed(&region->length, (size_t)fence);
    mrp_store_relaxed(&region->size, (size_t)mrp_clock_coarse());
    enlist(mrp_pool_of(region), region, fence);
    return MRP_OK;
}

/* -- out -- */

/* What is taken off the lists, in a chain of its own. */
struct taken {
    uint32_t first; /* index + 1 */
    size_t n_regions;
};

/* Take those that `matches` off one list. Under the mutex. */
static void take_matching(struct mrp_pool *pool, unsigned list,
    bool (*matches)(const struct mrp_pool *, const struct mrp_region *, uint64_t),
    uint64_t argument, struct taken *taken)
{
    struct mrp_quarantine *quarantine = &pool->quarantine;
    struct mrp_links links = mrp_region_links(pool);
    uint32_t kept = 0, next, index = quarantine->lists[list];
    _Atomic uint32_t *last_kept = NULL;

    for (; index != 0; index = next) {
        struct mrp_region *region = mrp_region_at(pool, index - 1);
        _Atomic uint32_t *link = mrp_link(links, index - 1);

        next = mrp_load_relaxed(link);
        if (matches(pool, region, argument)) {
            mrp_store_relaxed(link, taken->first);
            taken->first = index;
            taken->n_regions++;
            mrp_sub_relaxed(&quarantine->n_regions, 1);
            quarantine->size -= region->capacity;
        } else if (last_kept == NULL) {
            kept = index;
            last_kept = link;
        } else {
            mrp_store_relaxed(last_kept, index);
            last_kept = link;
        }
    }
    if (last_kept != NULL) {
        mrp_store_relaxed(last_kept, 0);
    }
    quarantine->lists[list] = kept;
}

/* The next of the chain; NULL after the last. Its link is the caller's from then on. */
static struct mrp_region *next_taken(struct mrp_pool *pool, struct taken *taken)
{
    uint32_t index = taken->first;

    if (index == 0) {
        return NULL;
    }
    taken->first = mrp_load_relaxed(mrp_link(mrp_region_links(pool), index - 1));
    return mrp_region_at(pool, index - 1);
}

/* As where nobody keeps them: size and length are what a region has that was just cut. */
static void restore(struct mrp_region *region)
{
    mrp_store_relaxed(&region->size, region->capacity);
    mrp_store_relaxed(&region->length, 0);
}

static bool has_fence(
    const struct mrp_pool *pool, const struct mrp_region *region, uint64_t fence)
{
    (void)pool;
    return mrp_load_relaxed(&region->length) == fence;
}

enum mrp_status mrp_pool_drained(struct mrp_pool *pool, uint64_t fence, size_t *n_regions)
{
    struct taken taken = {0, 0};
    struct mrp_region *region;
    struct mrp_error first;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->quarantine.mutex);
    take_matching(pool, mrp_quarantine_list(fence), has_fence, fence, &taken);
    pthread_mutex_unlock(&pool->quarantine.mutex);
    while ((region = next_taken(pool, &taken)) != NULL) {
        restore(region);
        if (mrp_region_end(pool, region) != MRP_OK && status == MRP_OK) {
            first = *mrp_error_last();
            status = first.status;
        }
    }
    if (n_regions != NULL) {
        *n_regions = taken.n_regions;
    }
    return status == MRP_OK
        ? MRP_OK
        : mrp_fail_at(first.function, first.status, first.native, "%s", first.text);
}

/* -- revocation -- */

/* Whether nobody reaches memory of the pool's once it is deregistered. A network that
 * refuses an old key still serves transfers of this process's own, posted before, where
 * they do not go through the registration; also on a rail that has been removed since.
 * Memory without rails is reached by somebody else's. */
static bool can_revoke(const struct mrp_pool *pool)
{
    return mrp_load_relaxed(&pool->can_revoke) && pool->quarantine_ms != UINT32_MAX;
}

/* Old enough, and alone in its registration. The caller's own memory stays: it is his to
 * know when he uses it again. */
static bool is_revocable(
    const struct mrp_pool *pool, const struct mrp_region *region, uint64_t age)
{
    enum mrp_region_kind kind = mrp_kind_of(region);

    (void)pool;
    return (kind == MRP_REGION_LARGE || kind == MRP_REGION_ADOPTED ||
               kind == MRP_REGION_TEMPORARY) &&
        age_of(region, mrp_clock_coarse()) >= age;
}

size_t mrp_quarantine_revoke(struct mrp_pool *pool, uint64_t age)
{
    struct mrp_quarantine *quarantine = &pool->quarantine;
    struct taken taken = {0, 0};
    struct mrp_region *region;
    struct mrp_error before;
    size_t n_revoked = 0;

    if (mrp_load_relaxed(&quarantine->n_regions) == 0 || !can_revoke(pool)) {
        return 0;
    }
    pthread_mutex_lock(&quarantine->mutex);
    for (unsigned list = 0; list < MRP_QUARANTINE_LISTS; list++) {
        take_matching(pool, list, is_revocable, age, &taken);
    }
    pthread_mutex_unlock(&quarantine->mutex);
    if (taken.n_regions == 0) {
        return 0;
    }
    before = *mrp_error_last(); /* nobody asked for this now */
    while ((region = next_taken(pool, &taken)) != NULL) {
        mrp_store_relaxed(&region->state, MRP_STATE_FREE);
        restore(region);
        n_revoked += mrp_large_discard(pool, region) == MRP_OK;
    }
    mrp_error_restore(&before);
    pthread_mutex_lock(&quarantine->mutex);
    quarantine->n_revoked += n_revoked;
    pthread_mutex_unlock(&quarantine->mutex);
    return n_revoked;
}

static uint64_t longest_stay(const struct mrp_pool *pool)
{
    return pool->quarantine_ms * (NANOSECONDS / 1000);
}

size_t mrp_quarantine_expire(struct mrp_pool *pool)
{
    return mrp_quarantine_revoke(pool, longest_stay(pool));
}

void mrp_quarantine_tick(struct mrp_pool *pool)
{
    uint64_t last = mrp_load_relaxed(&pool->quarantine.last_tick), now;

    if (mrp_load_relaxed(&pool->quarantine.n_regions) == 0 || !can_revoke(pool)) {
        return;
    }
    now = mrp_clock_coarse();
    if (now - last >= mrp_max(longest_stay(pool) / TICKS_PER_STAY, SHORTEST_TICK) &&
        mrp_cas_relaxed(&pool->quarantine.last_tick, &last, now)) {
        mrp_quarantine_expire(pool);
    }
}
