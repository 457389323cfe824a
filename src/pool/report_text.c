/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool's part of a report for people.
 */
#include "pool/report.h"

#include "base/align.h"

/* "backend mmap-1, rails ofi-1, ofi-2 and 3 more; ..." */
static void print_head(const struct mrp_pool_report *report, FILE *file)
{
    char rails[4 * MRP_NAME_SIZE] = "no rail", limit[48] = "fail";
    size_t n_rails = report->n_rails;

    if (n_rails > 0) {
        int end = snprintf(rails, sizeof rails, "rail%s %s%s%s", n_rails == 1 ? "" : "s",
            report->rails[0].name, n_rails == 1 ? "" : ", ",
            n_rails == 1 ? "" : report->rails[1].name);

        if (n_rails > 2) {
            snprintf(
                rails + end, sizeof rails - (size_t)end, " and %zu more", n_rails - 2);
        }
    }
    if (report->at_limit == MRP_AT_LIMIT_WAIT) {
        snprintf(limit, sizeof limit, "wait up to %g s", report->wait_ms / 1000.0);
    } else if (report->at_limit == MRP_AT_LIMIT_TEMPORARY) {
        snprintf(limit, sizeof limit, "temporary memory");
    }
    fputs("pool ", file);
    mrp_print_plain(file, report->name);
    fputc('\n', file);
    mrp_print_line(file, "", "backend %s, %s; %s, checks: %s%s; at the limit: %s%s",
        report->backend, rails, report->has_caches ? "thread caches" : "no thread caches",
        mrp_checks_words(report->checks), report->is_isolated ? ", isolated" : "", limit,
        report->never_free ? "; never gives memory back" : "");
}

static bool print_budgets(const struct mrp_pool_report *report, FILE *file)
{
    char remedy[MRP_REMEDY_SIZE];
    struct mrp_table table;

    mrp_table_open(&table, file, MRP_BUDGET_COLUMNS, mrp_budget_heads);
    mrp_report_budget_row(
        &table, "mapped", &report->mapped, true, mrp_pool_mapped_remedy(report, remedy));
    if (report->has_registrations) {
        mrp_report_budget_row(&table, "registrations per rail", &report->registrations,
            false, mrp_pool_registrations_remedy(report, remedy));
    }
    for (size_t i = 0; i < MRP_TIERS; i++) {
        const struct mrp_tier_stats *tier = &report->stats.tiers[i];
        const struct mrp_report_budget reserve = {tier->slab_size, tier->reserve, NULL};
        char what[32];

        snprintf(what, sizeof what, "reserve of %s", mrp_tier_names[i]);
        mrp_report_budget_row(&table, what, &reserve, true, "");
    }
    return mrp_table_close(&table);
}

static void size_cell(struct mrp_table *table, size_t size)
{
    mrp_table_cell(table, "%s", size == 0 ? "" : mrp_size_words(size).text);
}

/* Nothing to tell of one rail that has all chunks. */
static bool is_plain(const struct mrp_rail_report *rail)
{
    return rail->info.state == MRP_RAIL_ACTIVE && rail->info.policy == MRP_RAIL_EAGER &&
        rail->info.n_failures == 0;
}

static bool print_rails(const struct mrp_pool_report *report, FILE *file)
{
    static const char *const heads[] = {
        "<rail", "<provider", "<policy", "<state", "registrations", "size", "failures"};
    char remedy[MRP_REMEDY_SIZE];
    struct mrp_table table;
    bool is_told = report->n_rails > 2;

    mrp_table_open(&table, file, 7, heads);
    for (size_t i = 0; i < report->n_rails; i++) {
        is_told = is_told || !is_plain(&report->rails[i]);
    }
    for (size_t i = 0; is_told && i < report->n_rails; i++) {
        const struct mrp_rail_report *rail = &report->rails[i];

        mrp_table_cell(&table, "%u", rail->index);
        mrp_table_cell(&table, "%s", rail->name);
        mrp_table_cell(&table, "%s", mrp_rail_policy_words(rail->info.policy));
        mrp_table_cell(&table, "%s", mrp_rail_state_words(rail->info.state));
        mrp_table_cell(&table, "%s", mrp_count_words(rail->info.n_registrations).text);
        size_cell(&table, rail->info.registered_size);
        mrp_table_cell(&table, "%s", mrp_count_words(rail->info.n_failures).text);
        mrp_table_end_row(&table, mrp_pool_rail_remedy(rail, remedy));
    }
    if (table.n_rows > 0) {
        fputc('\n', file);
    }
    return mrp_table_close(&table);
}

/* -- tiers -- */

static void percent_cell(struct mrp_table *table, unsigned percent, size_t whole)
{
    if (whole == 0) {
        mrp_table_cell(table, "%s", "");
    } else {
        mrp_table_cell(table, "%u %%", percent);
    }
}

static void tier_row(struct mrp_table *table, const char *name,
    const struct mrp_tier_stats *tier, const struct mrp_tier_report *found)
{
    mrp_table_cell(table, "%s", name);
    size_cell(table, tier->max_size);
    mrp_table_cell(table, "%s", mrp_count_words(tier->n_live).text);
    size_cell(table, tier->live_size);
    size_cell(table, tier->block_live_size);
    percent_cell(table, mrp_tier_waste(tier), tier->block_live_size);
    size_cell(table, found->cached.size);
    size_cell(table, found->depot.size);
    size_cell(table, found->trim.size);
    size_cell(table, found->quarantined.size);
    size_cell(table, tier->slab_size);
    percent_cell(table, mrp_tier_unused(tier), tier->slab_size);
    mrp_table_end_row(table, "");
}

static bool print_tiers(const struct mrp_pool_report *report, FILE *file)
{
    static const char *const heads[] = {"<tier", "up to", "live", "asked for",
        "in blocks", "waste", "cached", "depot", "in trim", "quarantine", "slabs",
        "unused"};
    struct mrp_table table;

    mrp_table_open(&table, file, 12, heads);
    for (size_t i = 0; i < MRP_TIERS; i++) {
        if (report->stats.tiers[i].n_regions > 0) {
            tier_row(
                &table, mrp_tier_names[i], &report->stats.tiers[i], &report->tiers[i]);
        }
    }
    if (table.n_rows > 1) {
        tier_row(&table, "all", &report->total, &report->total_free);
    }
    if (table.n_rows > 0) {
        fputc('\n', file);
    }
    return mrp_table_close(&table);
}

/* -- what is in no tier -- */

/* Nothing for a size of 0. */
static void besides_row(struct mrp_table *table, const char *what, size_t count,
    size_t size, const char *remark, const char *remedy)
{
    if (count == 0 && size == 0) {
        return;
    }
    mrp_table_cell(table, "%s", what);
    mrp_table_cell(table, "%s", count == 0 ? "" : mrp_count_words(count).text);
    size_cell(table, size);
    mrp_table_cell(table, "%s", remark);
    mrp_table_end_row(table, remedy);
}

static bool print_besides(const struct mrp_pool_report *report, FILE *file)
{
    static const char *const heads[] = {"<besides", "count", "size", "<"};
    const struct mrp_pool_stats *stats = &report->stats;
    char remedy[MRP_REMEDY_SIZE];
    struct mrp_table table;

    mrp_table_open(&table, file, 4, heads);
    besides_row(
        &table, "larger than huge", stats->n_large, stats->large_size, "asked for", "");
    besides_row(&table, "user memory", stats->n_user, stats->user_size, "registered", "");
    besides_row(&table, "slices", stats->n_slices, 0, "", "");
    besides_row(&table, "idle chunks", stats->n_idle, stats->idle_size,
        report->never_free ? "kept for reuse" : "evictable", "");
    besides_row(&table, "room in chunks", 0, stats->room_size, "in no slab yet", "");
    besides_row(&table, "free blocks", 0, mrp_tier_free_size(&report->total_free),
        "evictable where they fill a slab", "");
    if (stats->cached_size > 0) {
        besides_row(&table, "thread caches", stats->n_threads, stats->cached_size,
            "of threads or slots", "");
    }
    besides_row(&table, "temporary", stats->n_temporary, stats->temporary_size,
        "beyond the budget", mrp_pool_temporary_remedy(report, remedy));
    besides_row(&table, "quarantine", stats->n_quarantined, stats->quarantined_size,
        "abandoned, not drained", mrp_pool_quarantine_remedy(report, remedy));
    besides_row(&table, "waiting", stats->n_waiting, 0, "requests in line",
        mrp_pool_waiting_remedy(report, remedy));
    if (table.n_rows > 0) {
        fputc('\n', file);
    }
    return mrp_table_close(&table);
}

/* Who holds most of it, a line for each. */
static void print_origins(const struct mrp_pool_report *report, FILE *file)
{
    size_t n_shown = mrp_min(report->n_origins, MRP_REPORT_ORIGINS);

    if (n_shown > 0) {
        fputs("\n  live regions, by who took them", file);
    }
    if (n_shown < report->n_origins) {
        fprintf(file, ": the first %zu of %s", n_shown,
            mrp_count_words(report->n_origins).text);
    }
    if (n_shown > 0) {
        fputc('\n', file);
    }
    for (size_t i = 0; i < n_shown; i++) {
        const struct mrp_origin_total *total = &report->origins[i];

        mrp_print_line(file, "", "%10s %9s  %s", mrp_size_words(total->size).text,
            mrp_count_words(total->n_regions).text,
            total->is_known ? total->text : "not known");
    }
}

/* "since it was made: 12 growths, 3 evictions", of what there was any. */
static void print_history(const struct mrp_pool_report *report, FILE *file)
{
    const struct mrp_pool_stats *stats = &report->stats;
    const struct {
        uint64_t count;
        const char *one, *many;
    } events[] = {
        {stats->n_growths, "growth", "growths"},
        {stats->n_taken_up, "idle chunk taken up", "idle chunks taken up"},
        {stats->n_evictions, "eviction", "evictions"},
        {stats->n_released, "chunk given back", "chunks given back"},
        {stats->n_waits, "wait", "waits"},
        {stats->n_revoked, "revoked region", "revoked regions"},
    };
    char text[256] = "";
    size_t end = 0;

    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        if (events[i].count > 0) {
            end += (size_t)snprintf(text + end, sizeof text - end, "%s%s %s",
                end == 0 ? "" : ", ", mrp_count_words(events[i].count).text,
                events[i].count == 1 ? events[i].one : events[i].many);
        }
    }
    if (end > 0) {
        fputc('\n', file);
        mrp_print_line(file, "", "since it was made: %s", text);
    }
}

bool mrp_pool_report_text(const void *snapshot, FILE *file)
{
    const struct mrp_pool_report *report = snapshot;
    bool is_whole;

    print_head(report, file);
    is_whole = print_budgets(report, file);
    is_whole = print_rails(report, file) && is_whole;
    is_whole = print_tiers(report, file) && is_whole;
    is_whole = print_besides(report, file) && is_whole;
    print_origins(report, file);
    print_history(report, file);
    return is_whole;
}
