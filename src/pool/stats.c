/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Counters. None is kept on the fast path: what is live and how often is in the
 * descriptors.
 */
#include "base/error.h"
#include "pool/cache.h"

/* n_abandoned: by class, of those in quarantine. */
static void count_region(const struct mrp_pool *pool, const struct mrp_region *region,
    size_t *n_abandoned, struct mrp_pool_stats *stats)
{
    uint32_t state = mrp_load_relaxed(&region->state);
    bool is_live = mrp_state_is_live(state);
    size_t size = mrp_load_acquire(&region->size);
    enum mrp_region_kind kind = mrp_kind_of(region);
    unsigned class = mrp_depot_of(region);
    struct mrp_tier_stats *tier;

    if (state == 0) {
        return; /* of no slab */
    }
    if (mrp_load_relaxed(&region->state) != state) {
        size = 0; /* abandoned at this moment: it is a time then */
    }
    n_abandoned[class] += state == MRP_STATE_QUARANTINED;
    if (mrp_is_unchecked(pool, region)) {
        return; /* its descriptor does not tell: count_unchecked() */
    }
    if (class != MRP_CLASS_BARE) {
        tier = &stats->tiers[pool->classes.classes[class].tier];
        tier->n_live += is_live;
        tier->live_size += is_live ? size : 0;
        tier->block_live_size += is_live ? pool->classes.classes[class].block_size : 0;
        tier->n_allocs += mrp_load_relaxed(&region->generation);
    } else if (is_live && (kind == MRP_REGION_LARGE || kind == MRP_REGION_ADOPTED)) {
        stats->n_large++;
        stats->large_size += size;
    } else if (is_live && kind == MRP_REGION_USER) {
        stats->n_user++;
        stats->user_size += size;
    } else if (is_live && kind == MRP_REGION_SLICE) {
        stats->n_slices++;
    }
}

static void count_classes(
    const struct mrp_pool *pool, size_t *n_regions, struct mrp_pool_stats *stats)
{
    for (size_t i = 0; i < mrp_n_classes(&pool->classes); i++) {
        const struct mrp_size_class *class = &pool->classes.classes[i];
        struct mrp_tier_stats *tier = &stats->tiers[class->tier];

        tier->n_classes += i < pool->classes.n_base;
        tier->reserve = pool->tier_reserve[class->tier];
        n_regions[i] = pool->depots[i].n_regions -
            mrp_min(pool->depots[i].sift.n_regions, pool->depots[i].n_regions);
        tier->n_regions += pool->depots[i].n_regions;
        tier->slab_size += pool->depots[i].slab_size;
        stats->room_size -= pool->depots[i].slab_size;
        tier->n_allocs += pool->depots[i].n_allocs;
    }
}

static void count_caches(const struct mrp_pool *pool, struct mrp_pool_stats *stats)
{
    struct mrp_thread *cursor = NULL;
    struct mrp_cache_slot *slot;

    while ((slot = mrp_thread_next(pool, &cursor)) != NULL) {
        stats->n_threads++;
        for (size_t i = 0; i < mrp_n_classes(&pool->classes); i++) {
            const struct mrp_size_class *class = &pool->classes.classes[i];
            size_t n = mrp_bin_count(slot, class->bin, class->magazine_capacity);

            stats->tiers[class->tier].n_cached += n;
            stats->cached_size += n * class->block_size;
        }
    }
}

size_t mrp_depot_count(
    const struct mrp_pool *pool, size_t class, size_t n_regions, size_t most_loose)
{
    struct mrp_depot *depot = (struct mrp_depot *)(uintptr_t)&pool->depots[class];
    size_t capacity = pool->classes.classes[class].magazine_capacity, n = 0;
    uint32_t next;

    most_loose = mrp_min(most_loose, n_regions);
    for (next = (uint32_t)mrp_load_acquire(&depot->loose.head);
         next != 0 && n < most_loose;
         next = mrp_load_relaxed(mrp_link(mrp_region_links(pool), next - 1))) {
        n++;
    }
    for (next = (uint32_t)mrp_load_acquire(&depot->full.head); next != 0 && n < n_regions;
         next = mrp_load_relaxed(mrp_link(mrp_magazine_links(pool), next - 1))) {
        n += capacity;
    }
    return mrp_min(n, n_regions);
}

/* Where no descriptor tells: what is not free is live, and of its full size. */
static void count_unchecked(const struct mrp_pool *pool, const size_t *n_regions,
    const size_t *n_abandoned, struct mrp_pool_stats *stats)
{
    for (size_t i = 0; i < mrp_n_classes(&pool->classes); i++) {
        const struct mrp_size_class *class = &pool->classes.classes[i];
        size_t n_live = n_regions[i] - mrp_depot_count(pool, i, n_regions[i], SIZE_MAX);
        struct mrp_thread *cursor = NULL;
        struct mrp_cache_slot *slot;

        n_live -= mrp_min(n_abandoned[i], n_live);
        while ((slot = mrp_thread_next(pool, &cursor)) != NULL) {
            size_t n = mrp_bin_count(slot, class->bin, class->magazine_capacity);

            n_live -= mrp_min(n, n_live);
        }
        stats->tiers[class->tier].n_live += n_live;
        stats->tiers[class->tier].live_size += n_live * class->capacity;
        stats->tiers[class->tier].block_live_size += n_live * class->block_size;
    }
}

/* What is neither live nor abandoned. Those just cut may be live before they are counted
 * as regions. */
static void count_free(
    const struct mrp_pool *pool, const size_t *n_abandoned, struct mrp_pool_stats *stats)
{
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        struct mrp_tier_stats *found = &stats->tiers[tier];

        found->max_size = pool->classes.tier_max[tier];
        found->n_free = found->n_regions - mrp_min(found->n_live, found->n_regions);
    }
    for (size_t i = 0; i < mrp_n_classes(&pool->classes); i++) {
        struct mrp_tier_stats *found = &stats->tiers[pool->classes.classes[i].tier];

        found->n_free -= mrp_min(n_abandoned[i], found->n_free);
    }
}

/* The rail that growth is refused for first. */
static bool has_less_left(const struct mrp_rail *rail, const struct mrp_pool_stats *stats)
{
    return rail->max_registrations - mrp_min(rail->n_charged, rail->max_registrations) <
        stats->max_registrations -
        mrp_min(stats->n_registrations, stats->max_registrations);
}

enum mrp_status mrp_pool_stats(struct mrp_pool *pool, struct mrp_pool_stats *stats)
{
    struct mrp_pool_stats found = {.struct_size = sizeof found};
    size_t n_regions[MRP_CLASSES_MAX] = {0}; /* in nobody's hands who sifts */
    size_t n_abandoned[MRP_CLASSES_MAX + 1] = {0};
    uint32_t n_descriptors;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status != MRP_OK) {
        return status;
    }
    found.name = pool->member.named.name;
    pthread_mutex_lock(&pool->mutex);
    found.n_chunks = pool->n_chunks;
    found.chunk_size = pool->chunk_size;
    found.mapped_size = pool->mapped_size;
    found.max_bytes = pool->max_bytes;
    found.max_registrations = pool->max_registrations;
    for (size_t rail = 0; rail < pool->n_rails; rail++) {
        const struct mrp_rail *slot = &pool->rails[rail];

        found.n_rails += slot->provider != NULL;
        if (slot->provider != NULL &&
            (found.n_rails == 1 || has_less_left(slot, &found))) {
            found.n_registrations = slot->n_charged;
            found.max_registrations = slot->max_registrations;
        }
    }
    found.n_growths = pool->n_growths;
    found.n_taken_up = pool->n_taken_up;
    found.n_evictions = pool->n_evictions;
    found.n_released = pool->n_released;
    found.released_size = pool->released_size;
    found.n_temporary = pool->n_temporary;
    found.temporary_size = pool->temporary_size;
    found.n_waiting = mrp_load_relaxed(&pool->n_waiting);
    found.n_waits = pool->n_waits;
    found.room_size = pool->chunk_size;
    count_classes(pool, n_regions, &found);
    n_descriptors = pool->n_descriptors;
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < n_descriptors; i++) { /* long: no allocation waits for it */
        count_region(pool, mrp_region_at(pool, i), n_abandoned, &found);
    }
    count_caches(pool, &found);
    if (pool->checks == MRP_CHECKS_NONE) {
        count_unchecked(pool, n_regions, n_abandoned, &found);
    }
    mrp_retention_count(
        &pool->context->retention, pool, NULL, NULL, &found.n_idle, &found.idle_size);
    mrp_quarantine_count(&pool->quarantine, &found.n_quarantined, &found.quarantined_size,
        &found.n_revoked);
    count_free(pool, n_abandoned, &found);
    return mrp_info_write(stats, &found, sizeof found, "mrp_pool_stats");
}
