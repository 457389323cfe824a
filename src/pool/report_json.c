/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool's part of a report for programs.
 */
#include "pool/report.h"

#include "base/clock.h"

static void sum_json(
    struct mrp_json *json, const char *key, size_t count, size_t size, const char *remedy)
{
    mrp_json_open(json, key, '{');
    mrp_json_number(json, "count", count);
    mrp_json_number(json, "size", size);
    mrp_report_attention_json(json, remedy);
    mrp_json_close(json, '}');
}

static void print_rail(const struct mrp_rail_report *rail, struct mrp_json *json)
{
    char remedy[MRP_REMEDY_SIZE];

    mrp_json_open(json, NULL, '{');
    mrp_json_number(json, "rail", rail->index);
    mrp_json_text(json, "provider", rail->name);
    mrp_json_text(json, "policy", mrp_rail_policy_words(rail->info.policy));
    mrp_json_text(json, "state", mrp_rail_state_words(rail->info.state));
    mrp_json_number(json, "registrations", rail->info.n_registrations);
    mrp_json_number(json, "registered_size", rail->info.registered_size);
    mrp_json_number(json, "failures", rail->info.n_failures);
    mrp_report_attention_json(json, mrp_pool_rail_remedy(rail, remedy));
    mrp_json_close(json, '}');
}

static void print_settings(const struct mrp_pool_report *report, struct mrp_json *json)
{
    mrp_json_text(json, "name", report->name);
    mrp_json_text(json, "backend", report->backend);
    mrp_json_open(json, "rails", '[');
    for (size_t i = 0; i < report->n_rails; i++) {
        print_rail(&report->rails[i], json);
    }
    mrp_json_close(json, ']');
    mrp_json_text(json, "checks", mrp_checks_words(report->checks));
    mrp_json_bool(json, "thread_caches", report->has_caches);
    mrp_json_bool(json, "isolated", report->is_isolated);
    mrp_json_bool(json, "never_free", report->never_free);
    mrp_json_text(json, "at_limit", mrp_at_limit_words(report->at_limit));
    mrp_json_number(json, "wait_ms", report->wait_ms);
    mrp_json_number(
        json, "decay_ms", report->decay_ms == UINT32_MAX ? UINT64_MAX : report->decay_ms);
}

static void print_budgets(const struct mrp_pool_report *report, struct mrp_json *json)
{
    char remedy[MRP_REMEDY_SIZE];

    mrp_json_open(json, "budgets", '{');
    mrp_report_budget_json(
        json, "mapped", &report->mapped, mrp_pool_mapped_remedy(report, remedy));
    if (report->has_registrations) {
        mrp_report_budget_json(json, "registrations_per_rail", &report->registrations,
            mrp_pool_registrations_remedy(report, remedy));
    }
    mrp_json_open(json, "reserves", '{');
    for (size_t i = 0; i < MRP_TIERS; i++) {
        const struct mrp_tier_stats *tier = &report->stats.tiers[i];
        const struct mrp_report_budget reserve = {tier->slab_size, tier->reserve, NULL};

        mrp_report_budget_json(json, mrp_tier_names[i], &reserve, "");
    }
    mrp_json_close(json, '}');
    mrp_json_close(json, '}');
}

static void print_tier(const char *name, const struct mrp_tier_stats *tier,
    const struct mrp_tier_report *found, struct mrp_json *json)
{
    mrp_json_open(json, NULL, '{');
    mrp_json_text(json, "name", name);
    mrp_json_number(json, "max_size", tier->max_size);
    mrp_json_number(json, "regions", tier->n_regions);
    mrp_json_number(json, "live", tier->n_live);
    mrp_json_number(json, "live_size", tier->live_size);
    mrp_json_number(json, "block_live_size", tier->block_live_size);
    mrp_json_number(json, "waste_percent", mrp_tier_waste(tier));
    sum_json(json, "cached", found->cached.count, found->cached.size, "");
    sum_json(json, "depot", found->depot.count, found->depot.size, "");
    sum_json(json, "in_trim", found->trim.count, found->trim.size, "");
    sum_json(json, "quarantined", found->quarantined.count, found->quarantined.size, "");
    mrp_json_number(json, "slab_size", tier->slab_size);
    mrp_json_number(json, "unused_percent", mrp_tier_unused(tier));
    mrp_json_number(json, "allocs", tier->n_allocs);
    mrp_json_close(json, '}');
}

static void print_besides(const struct mrp_pool_report *report, struct mrp_json *json)
{
    const struct mrp_pool_stats *stats = &report->stats;
    char remedy[MRP_REMEDY_SIZE];

    sum_json(json, "chunks", stats->n_chunks, stats->chunk_size, "");
    mrp_json_number(json, "room_size", stats->room_size);
    mrp_json_number(json, "free_block_size", mrp_tier_free_size(&report->total_free));
    sum_json(json, "larger_than_huge", stats->n_large, stats->large_size, "");
    sum_json(json, "user", stats->n_user, stats->user_size, "");
    mrp_json_number(json, "slices", stats->n_slices);
    sum_json(json, "idle", stats->n_idle, stats->idle_size, "");
    sum_json(json, "thread_cached", stats->n_threads, stats->cached_size, "");
    sum_json(json, "temporary", stats->n_temporary, stats->temporary_size,
        mrp_pool_temporary_remedy(report, remedy));
    mrp_json_open(json, "quarantined", '{');
    mrp_json_number(json, "count", stats->n_quarantined);
    mrp_json_number(json, "size", stats->quarantined_size);
    mrp_json_number(json, "age_max", report->quarantine_age / MRP_SECOND);
    mrp_report_attention_json(json, mrp_pool_quarantine_remedy(report, remedy));
    mrp_json_close(json, '}');
    mrp_json_open(json, "waiting", '{');
    mrp_json_number(json, "count", stats->n_waiting);
    mrp_report_attention_json(json, mrp_pool_waiting_remedy(report, remedy));
    mrp_json_close(json, '}');
}

static void print_origins(const struct mrp_pool_report *report, struct mrp_json *json)
{
    mrp_json_number(json, "n_origins", report->n_origins);
    mrp_json_open(json, "origins", '[');
    for (size_t i = 0; i < report->n_origins && i < MRP_REPORT_ORIGINS; i++) {
        const struct mrp_origin_total *total = &report->origins[i];

        mrp_json_open(json, NULL, '{');
        mrp_json_text(json, "origin", total->is_known ? total->text : NULL);
        mrp_json_number(json, "count", total->n_regions);
        mrp_json_number(json, "size", total->size);
        mrp_json_close(json, '}');
    }
    mrp_json_close(json, ']');
}

static void print_history(const struct mrp_pool_stats *stats, struct mrp_json *json)
{
    mrp_json_open(json, "since_made", '{');
    mrp_json_number(json, "growths", stats->n_growths);
    mrp_json_number(json, "taken_up", stats->n_taken_up);
    mrp_json_number(json, "evictions", stats->n_evictions);
    mrp_json_number(json, "released", stats->n_released);
    mrp_json_number(json, "released_size", stats->released_size);
    mrp_json_number(json, "waits", stats->n_waits);
    mrp_json_number(json, "revoked", stats->n_revoked);
    mrp_json_close(json, '}');
}

void mrp_pool_report_json(const void *snapshot, struct mrp_json *json)
{
    const struct mrp_pool_report *report = snapshot;

    print_settings(report, json);
    print_budgets(report, json);
    mrp_json_open(json, "tiers", '[');
    for (size_t i = 0; i < MRP_TIERS; i++) {
        if (report->stats.tiers[i].n_regions > 0) {
            print_tier(
                mrp_tier_names[i], &report->stats.tiers[i], &report->tiers[i], json);
        }
    }
    mrp_json_close(json, ']');
    print_besides(report, json);
    print_origins(report, json);
    print_history(&report->stats, json);
}
