/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Counters. None is kept on the fast path: what is live and how often is in the
 * descriptors.
 */
#include "base/error.h"
#include "pool/pool.h"

static void count_region(const struct mrp_pool *pool, const struct mrp_region *region,
    struct mrp_pool_stats *stats)
{
    bool is_live = mrp_load_relaxed(&region->state) == MRP_STATE_LIVE;
    size_t size = mrp_load_relaxed(&region->size);
    enum mrp_region_kind kind = mrp_kind_of(region);
    unsigned class = mrp_depot_of(region);
    struct mrp_tier_stats *tier;

    if (class != MRP_CLASS_BARE) {
        tier = &stats->tiers[pool->classes.classes[class].tier];
        tier->n_live += is_live;
        tier->live_size += is_live ? size : 0;
        tier->n_allocs += mrp_load_relaxed(&region->generation);
    } else if (is_live && kind == MRP_REGION_LARGE) {
        stats->n_large++;
        stats->large_size += size;
    } else if (is_live && kind == MRP_REGION_USER) {
        stats->n_user++;
        stats->user_size += size;
    } else if (is_live) {
        stats->n_slices++;
    }
}

static void count_classes(const struct mrp_pool *pool, struct mrp_pool_stats *stats)
{
    for (size_t i = 0; i < pool->classes.n_classes; i++) {
        const struct mrp_size_class *class = &pool->classes.classes[i];
        struct mrp_tier_stats *tier = &stats->tiers[class->tier];

        tier->n_classes++;
        tier->n_regions += pool->depots[i].n_regions;
        tier->slab_size += pool->depots[i].slab_size;
    }
}

enum mrp_status mrp_pool_stats(struct mrp_pool *pool, struct mrp_pool_stats *stats)
{
    struct mrp_pool_stats found = {.struct_size = sizeof found};
    uint32_t n_descriptors;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status != MRP_OK) {
        return status;
    }
    found.name = pool->member.named.name;
    found.n_rails = pool->n_rails;
    pthread_mutex_lock(&pool->mutex);
    found.n_chunks = pool->n_chunks;
    found.chunk_size = pool->chunk_size;
    found.mapped_size = pool->mapped_size;
    found.max_bytes = pool->max_bytes;
    found.n_registrations = pool->n_rails > 0 ? pool->n_charged : 0;
    found.max_registrations = pool->max_registrations;
    found.n_growths = pool->n_growths;
    found.n_evictions = pool->n_evictions;
    count_classes(pool, &found);
    n_descriptors = pool->n_descriptors;
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 0; i < n_descriptors; i++) { /* long: no allocation waits for it */
        count_region(pool, mrp_region_at(pool, i), &found);
    }
    mrp_retention_count(&pool->context->retention, pool, &found.n_idle, &found.idle_size);
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        found.tiers[tier].max_size = pool->classes.tier_max[tier];
        /* those just cut may be live before they are counted as regions */
        found.tiers[tier].n_free = found.tiers[tier].n_regions -
            mrp_min(found.tiers[tier].n_live, found.tiers[tier].n_regions);
    }
    return mrp_info_write(stats, &found, sizeof found, "mrp_pool_stats");
}
