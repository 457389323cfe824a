/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The pool's part of mrp_context_report: collected while the pool is visited, judged and
 * printed when it may be gone.
 */
#include "pool/report.h"

#include "base/align.h"
#include "base/clock.h"
#include "pool/cache.h"

#include <string.h>

#define QUARANTINE_LONG (10 * MRP_SECOND)

/* -- collect -- */

static void add(struct mrp_region_sum *sum, size_t count, size_t block_size)
{
    sum->count += count;
    sum->size += count * block_size;
}

static size_t count_cached(
    const struct mrp_pool *pool, const struct mrp_size_class *class)
{
    struct mrp_thread *cursor = NULL;
    struct mrp_cache_slot *slot;
    size_t n = 0;

    while ((slot = mrp_thread_next(pool, &cursor)) != NULL) {
        n += mrp_bin_count(slot, class->bin, class->magazine_capacity);
    }
    return n;
}

static void collect_classes(struct mrp_pool *pool, struct mrp_pool_report *report)
{
    for (size_t i = 0; i < mrp_n_classes(&pool->classes); i++) {
        const struct mrp_size_class *class = &pool->classes.classes[i];
        struct mrp_tier_report *tier = &report->tiers[class->tier];
        size_t n_regions, n_sifted;

        pthread_mutex_lock(&pool->mutex);
        n_regions = pool->depots[i].n_regions;
        n_sifted = pool->depots[i].sift.n_regions;
        pthread_mutex_unlock(&pool->mutex);
        add(&tier->trim, n_sifted, class->block_size);
        add(&tier->cached, count_cached(pool, class), class->block_size);
        add(&tier->depot, mrp_depot_count(pool, i, n_regions - n_sifted, SIZE_MAX),
            class->block_size);
    }
}

/* When a region was abandoned; 0: it is not in quarantine. */
static uint64_t abandoned_at(const struct mrp_region *region)
{
    bool was_there = mrp_load_acquire(&region->state) == MRP_STATE_QUARANTINED;
    uint64_t since = mrp_load_acquire(&region->size);

    /* one that has left meanwhile has a size there */
    return was_there && mrp_load_relaxed(&region->state) == MRP_STATE_QUARANTINED ? since
                                                                                  : 0;
}

/* Nothing to see in most pools, so their descriptors are not looked at twice. */
static void collect_quarantined(
    struct mrp_pool *pool, uint64_t now, struct mrp_pool_report *report)
{
    uint32_t n_descriptors = 0;
    uint64_t oldest = now;

    if (report->stats.n_quarantined > 0) {
        pthread_mutex_lock(&pool->mutex);
        n_descriptors = pool->n_descriptors;
        pthread_mutex_unlock(&pool->mutex);
    }
    for (uint32_t i = 0; i < n_descriptors; i++) {
        const struct mrp_region *region = mrp_region_at(pool, i);
        unsigned class = mrp_depot_of(region);
        uint64_t since = abandoned_at(region);

        if (since != 0) {
            oldest = mrp_min(oldest, since);
            if (class != MRP_CLASS_BARE) {
                add(&report->tiers[pool->classes.classes[class].tier].quarantined, 1,
                    pool->classes.classes[class].block_size);
            }
        }
    }
    report->quarantine_age = now - oldest;
}

/* Where nobody gives tags, and no backtraces are taken, there is nothing to tell. */
static void collect_origins(struct mrp_pool *pool, struct mrp_pool_report *report)
{
    report->n_origins = mrp_pool_origins(pool, report->origins, MRP_REPORT_ORIGINS);
    if (report->n_origins == 1 && !report->origins[0].is_known) {
        report->n_origins = 0;
    }
}

static void add_sum(struct mrp_region_sum *total, const struct mrp_region_sum *sum)
{
    total->count += sum->count;
    total->size += sum->size;
}

static void collect_totals(struct mrp_pool_report *report)
{
    for (size_t i = 0; i < MRP_TIERS; i++) {
        const struct mrp_tier_stats *tier = &report->stats.tiers[i];
        const struct mrp_tier_report *found = &report->tiers[i];

        report->total.n_regions += tier->n_regions;
        report->total.n_live += tier->n_live;
        report->total.live_size += tier->live_size;
        report->total.block_live_size += tier->block_live_size;
        report->total.slab_size += tier->slab_size;
        add_sum(&report->total_free.cached, &found->cached);
        add_sum(&report->total_free.depot, &found->depot);
        add_sum(&report->total_free.trim, &found->trim);
        add_sum(&report->total_free.quarantined, &found->quarantined);
    }
}

static void collect_rails(struct mrp_pool *pool, struct mrp_pool_report *report)
{
    report->n_rails = 0;
    pthread_mutex_lock(&pool->mutex);
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        const struct mrp_rail *slot = &pool->rails[rail];
        struct mrp_rail_report *found = &report->rails[report->n_rails];

        if (slot->provider != NULL) {
            found->index = rail;
            found->info = (struct mrp_rail_info){
                .state = slot->state,
                .policy = slot->policy,
                .n_registrations = slot->n_registrations,
                .registered_size = slot->registered_size,
                .max_registrations = slot->max_registrations,
                .n_failures = slot->n_failures,
            };
            memcpy(found->info.reason, slot->reason, sizeof found->info.reason);
            memcpy(found->name, slot->provider->named.name, MRP_NAME_SIZE);
            report->n_rails++;
        }
    }
    pthread_mutex_unlock(&pool->mutex);
}

static void collect_settings(const struct mrp_pool *pool, struct mrp_pool_report *report)
{
    memcpy(report->name, pool->member.named.name, sizeof report->name);
    memcpy(report->backend, pool->backend->named.name, sizeof report->backend);
    report->mapped = (struct mrp_report_budget){
        report->stats.mapped_size, pool->max_bytes, pool->max_bytes_source};
    report->has_registrations = report->n_rails > 0;
    report->registrations = (struct mrp_report_budget){report->stats.n_registrations,
        report->stats.max_registrations,
        report->stats.max_registrations < pool->max_registrations
            ? "the network"
            : pool->max_registrations_source};
    report->is_fixed = pool->backend->max_size != 0;
    report->budget_remedy = pool->budget_remedy;
    report->checks = pool->checks;
    report->at_limit = pool->at_limit;
    report->wait_ms = pool->wait_ms;
    report->decay_ms = pool->decay_ms;
    report->has_caches = pool->cache_slot != MRP_NO_SLOT;
    report->never_free = pool->never_free;
    report->is_isolated = pool->is_isolated;
}

static void collect(struct mrp_pool *pool, uint64_t now, void *snapshot)
{
    struct mrp_pool_report *report = snapshot;

    report->stats.struct_size = sizeof report->stats;
    mrp_pool_stats(pool, &report->stats);
    report->stats.name = NULL; /* it goes with the pool */
    collect_rails(pool, report);
    collect_settings(pool, report);
    collect_classes(pool, report);
    collect_quarantined(pool, now, report);
    collect_origins(pool, report);
    collect_totals(report);
    mrp_pool_end_visit(pool);
}

const struct mrp_pool_reporter mrp_pool_reporter = {
    .snapshot_size = sizeof(struct mrp_pool_report),
    .collect = collect,
    .print_text = mrp_pool_report_text,
    .print_json = mrp_pool_report_json,
};

/* -- judge -- */

size_t mrp_tier_free_size(const struct mrp_tier_report *tier)
{
    return tier->cached.size + tier->depot.size + tier->trim.size;
}

unsigned mrp_tier_waste(const struct mrp_tier_stats *tier)
{
    return mrp_percent(
        tier->block_live_size - mrp_min(tier->live_size, tier->block_live_size),
        tier->block_live_size);
}

unsigned mrp_tier_unused(const struct mrp_tier_stats *tier)
{
    return mrp_percent(tier->slab_size - mrp_min(tier->block_live_size, tier->slab_size),
        tier->slab_size);
}

const char *mrp_pool_mapped_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (mrp_report_is_tight(&report->mapped) && !report->is_fixed) {
        snprintf(text, MRP_REMEDY_SIZE,
            "the next growth may be refused%s; a trim (mrp_pool_trim) finds %s of idle "
            "chunks and %s of free blocks",
            report->budget_remedy, mrp_size_words(report->stats.idle_size).text,
            mrp_size_words(mrp_tier_free_size(&report->total_free)).text);
    }
    return text;
}

const char *mrp_pool_registrations_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (report->has_registrations && mrp_report_is_tight(&report->registrations)) {
        snprintf(text, MRP_REMEDY_SIZE,
            "the next growth may be refused: use larger chunks (chunk_min, "
            "MRPOOL_CHUNK_MIN), free registered buffers, or raise max_registrations "
            "(MRPOOL_MAX_REGISTRATIONS)");
    }
    return text;
}

const char *mrp_pool_waiting_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE])
{
    size_t cached = report->stats.cached_size;

    text[0] = '\0';
    if (report->stats.n_waiting > 0) {
        snprintf(text, MRP_REMEDY_SIZE,
            "they wait for a free that makes room: free regions, or raise the budget "
            "that is used up%s%s",
            cached > 0 ? "; a thread that blocks should call mrp_thread_flush first: "
                         "caches hold "
                       : "",
            cached > 0 ? mrp_size_words(cached).text : "");
    }
    return text;
}

const char *mrp_pool_quarantine_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (report->stats.n_quarantined > 0 && report->quarantine_age > QUARANTINE_LONG) {
        snprintf(text, MRP_REMEDY_SIZE,
            "the oldest was abandoned %s ago and is nobody's until its fence is "
            "reported: call mrp_pool_drained once the network cannot touch it any more%s",
            mrp_age_words(report->quarantine_age).text,
            report->is_isolated ? ""
                                : "; an isolated pool (isolate) could revoke its keys");
    }
    return text;
}

const char *mrp_pool_temporary_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (report->stats.n_temporary > 0) {
        snprintf(text, MRP_REMEDY_SIZE,
            "mapped and registered for one request each, which is slow: where that is "
            "the rule, raise max_bytes (MRPOOL_MAX_BYTES) by as much");
    }
    return text;
}

const char *mrp_pool_rail_remedy(
    const struct mrp_rail_report *rail, char text[MRP_REMEDY_SIZE])
{
    text[0] = '\0';
    if (rail->info.state == MRP_RAIL_FAILED) {
        snprintf(text, MRP_REMEDY_SIZE,
            "%s; it takes no chunks and gives no keys: remove it (mrp_pool_rail_remove), "
            "and add its provider again once it works",
            rail->info.reason);
    }
    return text;
}

const char *mrp_rail_state_words(uint32_t state)
{
    static const char *const words[] = {
        "unused", "joining", "active", "failed", "leaving"};

    return words[state];
}

const char *mrp_rail_policy_words(uint32_t policy)
{
    static const char *const words[] = {"eager", "lazy", "near"};

    return words[policy];
}

const char *mrp_checks_words(enum mrp_checks checks)
{
    return checks == MRP_CHECKS_NONE ? "none"
        : checks == MRP_CHECKS_STATE ? "state"
                                     : "full";
}

const char *mrp_at_limit_words(enum mrp_at_limit at_limit)
{
    return at_limit == MRP_AT_LIMIT_WAIT     ? "wait"
        : at_limit == MRP_AT_LIMIT_TEMPORARY ? "temporary"
                                             : "fail";
}
