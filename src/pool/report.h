/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a pool says of itself in mrp_context_report: the numbers of mrp_pool_stats, and
 * where the free ones are.
 */
#ifndef MRP_POOL_REPORT_H
#define MRP_POOL_REPORT_H

#include "context/report.h"
#include "pool/debug.h"
#include "pool/pool.h"

#define MRP_REPORT_ORIGINS 8 /* those that hold most */

/** Regions and the bytes of their blocks. */
struct mrp_region_sum {
    size_t count, size;
};

/** Where the regions of a tier are that nobody holds. */
struct mrp_tier_report {
    struct mrp_region_sum cached, depot, trim, quarantined;
};

struct mrp_rail_report {
    struct mrp_rail_info info; /* its provider is not followed */
    unsigned index;
    char name[MRP_NAME_SIZE];
};

struct mrp_pool_report {
    struct mrp_pool_stats stats;
    char name[MRP_NAME_SIZE], backend[MRP_NAME_SIZE];
    struct mrp_rail_report rails[MRP_RAILS_MAX]; /* n_rails, unused ones left out */
    size_t n_rails;
    struct mrp_tier_report tiers[MRP_TIERS];
    struct mrp_tier_stats total; /* of all tiers; max_size and n_classes are 0 */
    struct mrp_tier_report total_free;
    struct mrp_report_budget mapped, registrations; /* the latter per rail */
    bool has_registrations, is_fixed; /* max_bytes is all that the backend has */
    const char *budget_remedy;
    enum mrp_checks checks;
    enum mrp_at_limit at_limit;
    uint32_t wait_ms, decay_ms;
    bool has_caches, never_free, is_isolated;
    uint64_t quarantine_age; /* of the oldest there, nanoseconds */
    struct mrp_origin_total origins[MRP_REPORT_ORIGINS];
    size_t n_origins; /* in all; 0 where the pool does not remember them */
};

/* -- report.c: what both printers say; each returns `text`, empty for no remedy -- */

const char *mrp_pool_mapped_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE]);
const char *mrp_pool_registrations_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE]);
const char *mrp_pool_waiting_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE]);
const char *mrp_pool_quarantine_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE]);
const char *mrp_pool_rail_remedy(
    const struct mrp_rail_report *rail, char text[MRP_REMEDY_SIZE]);
const char *mrp_pool_temporary_remedy(
    const struct mrp_pool_report *report, char text[MRP_REMEDY_SIZE]);

const char *mrp_rail_state_words(uint32_t state);
const char *mrp_rail_policy_words(uint32_t policy);
const char *mrp_checks_words(enum mrp_checks checks);
const char *mrp_at_limit_words(enum mrp_at_limit at_limit);

/** Bytes of free blocks, wherever they are: what a trim may find whole slabs in. */
size_t mrp_tier_free_size(const struct mrp_tier_report *tier);

/** Percent of the blocks of live regions that was not asked for. */
unsigned mrp_tier_waste(const struct mrp_tier_stats *tier);

/** Percent of the slabs that no live region has. */
unsigned mrp_tier_unused(const struct mrp_tier_stats *tier);

/* -- report_text.c, report_json.c -- */

bool mrp_pool_report_text(const void *snapshot, FILE *file);
void mrp_pool_report_json(const void *snapshot, struct mrp_json *json);

#endif
