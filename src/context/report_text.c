/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A report for people: tables on 100 columns, without what there is none of. A line that
 * needs attention begins with '!', and what to do stands below it.
 */
#include "context/report.h"

#include "base/align.h"

#include <string.h>

const char *const mrp_budget_heads[MRP_BUDGET_COLUMNS] = {
    "<budget", "used", "of", "use", "<limit from"};

void mrp_report_budget_row(struct mrp_table *table, const char *what,
    const struct mrp_report_budget *budget, bool is_size, const char *remedy)
{
    struct mrp_words used = is_size ? mrp_size_words(budget->used)
                                    : mrp_count_words(budget->used),
                     max = is_size || budget->max == MRP_UNLIMITED
        ? mrp_size_words(budget->max)
        : mrp_count_words(budget->max);

    if (budget->max == 0) {
        return;
    }
    mrp_table_cell(table, "%s", what);
    mrp_table_cell(table, "%s", used.text);
    mrp_table_cell(table, "%s", max.text);
    if (budget->max == MRP_UNLIMITED) {
        mrp_table_cell(table, "-");
    } else {
        mrp_table_cell(table, "%u %%", mrp_percent(budget->used, budget->max));
    }
    mrp_table_cell(table, "%s", budget->source != NULL ? budget->source : "");
    mrp_table_end_row(table, remedy);
}

static bool print_budgets(const struct mrp_report *report, FILE *file)
{
    char remedy[MRP_REMEDY_SIZE];
    struct mrp_table table;

    mrp_table_open(&table, file, MRP_BUDGET_COLUMNS, mrp_budget_heads);
    mrp_report_budget_row(&table, "mapped", &report->mapped, true,
        mrp_report_mapped_remedy(report, remedy));
    mrp_report_budget_row(&table, "pinned", &report->pinned, true,
        mrp_report_pinned_remedy(report, remedy));
    mrp_report_budget_row(&table, "registrations", &report->registrations, false,
        mrp_report_registrations_remedy(report, remedy));
    if (table.n_rows > 0) {
        fputs("\nBudgets of all pools together\n", file);
    }
    return mrp_table_close(&table);
}

/* "" for zero: a column of nothing else is left out. */
static void count_cell(struct mrp_table *table, size_t count)
{
    mrp_table_cell(table, "%s", count == 0 ? "" : mrp_count_words(count).text);
}

static void size_cell(struct mrp_table *table, size_t size)
{
    mrp_table_cell(table, "%s", size == 0 ? "" : mrp_size_words(size).text);
}

/* NUMA nodes from 0; "" for memory that is bound to none. */
static void node_cell(struct mrp_table *table, int node)
{
    if (node == 0) {
        mrp_table_cell(table, "%s", "");
    } else {
        mrp_table_cell(table, "%d", node - 1);
    }
}

static bool print_backends(const struct mrp_report *report, FILE *file)
{
    static const char *const heads[] = {"<backend", "<kind", "mappings", "size", "of"};
    struct mrp_table table;

    fputs("\nWhere memory comes from\n", file);
    mrp_table_open(&table, file, 5, heads);
    for (size_t i = 0; i < report->n_backends; i++) {
        const struct mrp_report_backend *backend = &report->backends[i];

        mrp_table_cell(&table, "%s", backend->name);
        mrp_table_cell(&table, "%s", backend->kind);
        mrp_table_cell(&table, "%s", mrp_count_words(backend->n_mappings).text);
        size_cell(&table, backend->mapped_size);
        size_cell(&table, backend->max_size);
        mrp_table_end_row(&table, "");
    }
    return mrp_table_close(&table);
}

static bool print_providers(const struct mrp_report *report, FILE *file)
{
    static const char *const heads[] = {"<provider", "<module", "registrations", "of",
        "ever", "size", "at once", "parked", "size", "<device"};
    char remedy[MRP_REMEDY_SIZE];
    struct mrp_table table;

    if (report->n_providers > 0) {
        fputs("\nWhere it is registered\n", file);
    }
    mrp_table_open(&table, file, 10, heads);
    for (size_t i = 0; i < report->n_providers; i++) {
        const struct mrp_report_provider *provider = &report->providers[i];

        mrp_table_cell(&table, "%s", provider->name);
        mrp_table_cell(&table, "%s", provider->module);
        mrp_table_cell(&table, "%s", mrp_count_words(provider->n_registrations).text);
        count_cell(&table, provider->max_registrations);
        count_cell(&table, provider->n_registered);
        size_cell(&table, provider->registered_size);
        size_cell(&table, provider->max_size);
        count_cell(&table, provider->n_parked);
        size_cell(&table, provider->parked_size);
        mrp_table_cell(&table, "%s", provider->device);
        mrp_table_end_row(&table, mrp_report_provider_remedy(provider, remedy));
    }
    return mrp_table_close(&table);
}

static void place_row(
    struct mrp_table *table, const struct mrp_report_place *place, uint64_t now)
{
    if (place->is_shared) {
        mrp_table_cell(table, "all others");
    } else if (place->place.kind == MRP_MEMORY_HOST) {
        mrp_table_cell(table, "host");
    } else {
        mrp_table_cell(table, "%s %d", mrp_memory_kind_words(place->place.kind),
            place->place.device);
    }
    node_cell(table, place->place.node);
    mrp_table_cell(table, "%s", mrp_count_words(place->n_chunks).text);
    mrp_table_cell(table, "%s", mrp_count_words(place->max_chunks).text);
    mrp_table_cell(table, "%s", mrp_size_words(place->size).text);
    mrp_table_cell(table, "%s", mrp_size_words(place->max_size).text);
    if (place->n_chunks > 0) {
        mrp_table_cell(
            table, "%s", mrp_age_words(now - mrp_min(place->oldest, now)).text);
    } else {
        mrp_table_cell(table, "%s", "");
    }
    count_cell(table, place->n_kept);
    size_cell(table, place->kept_size);
    mrp_table_end_row(table, "");
}

static bool print_idle(const struct mrp_report *report, FILE *file)
{
    static const char *const heads[] = {
        "<memory", "node", "chunks", "of", "size", "of", "oldest", "never given", "back"};
    struct mrp_table table;

    mrp_table_open(&table, file, 9, heads);
    for (size_t i = 0; i < report->n_places; i++) {
        const struct mrp_report_place *place = &report->places[i];

        if (place->n_chunks > 0 || place->n_kept > 0) {
            place_row(&table, place, report->now);
        }
    }
    if (table.n_rows > 0) {
        fputs("\nIdle memory, registered, for whoever needs it next\n", file);
    }
    return mrp_table_close(&table);
}

static void print_rest(const struct mrp_report *report, FILE *file)
{
    const struct mrp_context_stats *stats = &report->stats;
    char remedy[MRP_REMEDY_SIZE];

    if (stats->n_blocks > 0 || stats->n_parked > 0) {
        fputc('\n', file);
    }
    if (stats->n_blocks > 0) {
        mrp_print_line(file, "", "%s block%s of mrp_memory_alloc: %s asked for",
            mrp_count_words(stats->n_blocks).text, stats->n_blocks == 1 ? "" : "s",
            mrp_size_words(stats->block_size).text);
    }
    if (stats->n_parked > 0) {
        mrp_print_line(file, mrp_report_parked_remedy(report, remedy),
            "%s parked mapping%s: %s", mrp_count_words(stats->n_parked).text,
            stats->n_parked == 1 ? "" : "s", mrp_size_words(stats->parked_size).text);
    }
}

/* -- chunks -- */

/* "2 MiB", or "THP, not 2 MiB" where there were none of those. */
static void pages_cell(struct mrp_table *table, const struct mrp_report_chunks *chunks)
{
    const char *got = mrp_pages_words(chunks->pages);
    const char *wanted = mrp_pages_words(chunks->pages_wanted);

    if (wanted[0] == '\0' || strcmp(got, wanted) == 0) {
        mrp_table_cell(table, "%s", got);
    } else {
        mrp_table_cell(table, "%s, not %s", got, wanted);
    }
}

static void age_cell(
    struct mrp_table *table, const struct mrp_report_chunks *chunks, uint64_t now)
{
    struct mrp_words oldest = mrp_age_words(now - mrp_min(chunks->oldest, now)),
                     youngest = mrp_age_words(now - mrp_min(chunks->youngest, now));

    if (strcmp(oldest.text, youngest.text) == 0) {
        mrp_table_cell(table, "%s", oldest.text);
    } else {
        mrp_table_cell(table, "%s to %s", youngest.text, oldest.text);
    }
}

/* Those of a pool; NULL: of pools that come or go. */
static bool print_chunks(
    const struct mrp_report *report, const struct mrp_pool *pool, FILE *file)
{
    static const char *const heads[] = {"<chunks of", "chunks", "size", "<backend",
        "<pages", "node", "device", "registrations", "<age"};
    struct mrp_table table;

    mrp_table_open(&table, file, 9, heads);
    for (size_t i = 0; i < report->n_chunks; i++) {
        const struct mrp_report_chunks *chunks = &report->chunks[i];

        if (chunks->pool != pool) {
            continue;
        }
        mrp_table_cell(&table, "%s", mrp_chunk_use_words(chunks->use));
        mrp_table_cell(&table, "%s", mrp_count_words(chunks->n_chunks).text);
        mrp_table_cell(&table, "%s", mrp_size_words(chunks->size).text);
        mrp_table_cell(&table, "%s", chunks->backend);
        pages_cell(&table, chunks);
        node_cell(&table, chunks->node);
        if (chunks->device != 0) {
            mrp_table_cell(&table, "%d", chunks->device);
        } else {
            mrp_table_cell(&table, "%s", "");
        }
        count_cell(&table, chunks->n_registrations);
        age_cell(&table, chunks, report->now);
        mrp_table_end_row(&table, "");
    }
    if (table.n_rows > 0) {
        fputs(pool == NULL ? "\nPools that come or go\n" : "\n", file);
    }
    return mrp_table_close(&table);
}

/* -- all of it -- */

static void print_head(const struct mrp_report *report, FILE *file)
{
    const struct mrp_context_stats *stats = &report->stats;

    fputs("context ", file);
    mrp_print_plain(file, report->name);
    fprintf(file, ": %zu pool%s, %s chunk%s of %s, %s registration%s of %s\n",
        report->n_pools, report->n_pools == 1 ? "" : "s",
        mrp_count_words(stats->n_chunks).text, stats->n_chunks == 1 ? "" : "s",
        mrp_size_words(stats->chunk_size).text,
        mrp_count_words(stats->n_registrations).text,
        stats->n_registrations == 1 ? "" : "s",
        mrp_size_words(stats->registered_size).text);
}

void mrp_report_print_text(struct mrp_report *report, FILE *file)
{
    bool is_whole;

    print_head(report, file);
    is_whole = print_budgets(report, file);
    is_whole = print_backends(report, file) && is_whole;
    is_whole = print_providers(report, file) && is_whole;
    is_whole = print_idle(report, file) && is_whole;
    print_rest(report, file);
    for (size_t i = 0; i < report->n_pools; i++) {
        const struct mrp_report_pool *pool = &report->pools[i];

        fputc('\n', file);
        is_whole = pool->reporter->print_text(pool->snapshot, file) && is_whole;
        is_whole = print_chunks(report, pool->handle, file) && is_whole;
    }
    is_whole = print_chunks(report, NULL, file) && is_whole;
    report->is_short = !is_whole;
}
