/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A report for programs: one object. Bytes are numbers whose name ends in "size", ages
 * are in seconds, a limit that there is none of is null.
 */
#include "context/report.h"

#include "base/align.h"
#include "base/clock.h"

void mrp_report_attention_json(struct mrp_json *json, const char *remedy)
{
    if (remedy[0] != '\0') {
        mrp_json_text(json, "attention", remedy);
    }
}

void mrp_report_budget_json(struct mrp_json *json, const char *key,
    const struct mrp_report_budget *budget, const char *remedy)
{
    if (budget->max == 0) {
        return;
    }
    mrp_json_open(json, key, '{');
    mrp_json_number(json, "used", budget->used);
    mrp_json_number(json, "max", budget->max);
    mrp_json_number(json, "used_percent", mrp_percent(budget->used, budget->max));
    mrp_json_text(json, "source", budget->source);
    mrp_report_attention_json(json, remedy);
    mrp_json_close(json, '}');
}

static void print_budgets(const struct mrp_report *report, struct mrp_json *json)
{
    char remedy[MRP_REMEDY_SIZE];

    mrp_json_open(json, "budgets", '{');
    mrp_report_budget_json(
        json, "mapped", &report->mapped, mrp_report_mapped_remedy(report, remedy));
    mrp_report_budget_json(
        json, "pinned", &report->pinned, mrp_report_pinned_remedy(report, remedy));
    mrp_report_budget_json(json, "registrations", &report->registrations,
        mrp_report_registrations_remedy(report, remedy));
    mrp_json_close(json, '}');
}

/* A limit where 0 means that there is none. */
static void limit_json(struct mrp_json *json, const char *key, size_t limit)
{
    mrp_json_number(json, key, limit == 0 ? UINT64_MAX : limit);
}

static void print_backends(const struct mrp_report *report, struct mrp_json *json)
{
    mrp_json_open(json, "backends", '[');
    for (size_t i = 0; i < report->n_backends; i++) {
        const struct mrp_report_backend *backend = &report->backends[i];

        mrp_json_open(json, NULL, '{');
        mrp_json_text(json, "name", backend->name);
        mrp_json_text(json, "kind", backend->kind);
        mrp_json_number(json, "mappings", backend->n_mappings);
        mrp_json_number(json, "mapped_size", backend->mapped_size);
        limit_json(json, "max_size", backend->max_size);
        mrp_json_close(json, '}');
    }
    mrp_json_close(json, ']');
}

static void print_providers(const struct mrp_report *report, struct mrp_json *json)
{
    char remedy[MRP_REMEDY_SIZE];

    mrp_json_open(json, "providers", '[');
    for (size_t i = 0; i < report->n_providers; i++) {
        const struct mrp_report_provider *provider = &report->providers[i];

        mrp_json_open(json, NULL, '{');
        mrp_json_text(json, "name", provider->name);
        mrp_json_text(json, "module", provider->module);
        mrp_json_text(json, "device", provider->device);
        mrp_json_number(json, "registrations", provider->n_registrations);
        limit_json(json, "max_registrations", provider->max_registrations);
        mrp_json_number(json, "registered_ever", provider->n_registered);
        mrp_json_number(json, "deregistered_ever", provider->n_deregistered);
        mrp_json_number(json, "registered_size", provider->registered_size);
        limit_json(json, "max_registration_size", provider->max_size);
        mrp_json_number(json, "parked", provider->n_parked);
        mrp_json_number(json, "parked_size", provider->parked_size);
        mrp_report_attention_json(json, mrp_report_provider_remedy(provider, remedy));
        mrp_json_close(json, '}');
    }
    mrp_json_close(json, ']');
}

/* NUMA nodes from 0; null: bound to none. */
static void node_json(struct mrp_json *json, int node)
{
    mrp_json_number(json, "node", node == 0 ? UINT64_MAX : (uint64_t)node - 1);
}

static void age_json(struct mrp_json *json, const char *key, uint64_t born, uint64_t now)
{
    mrp_json_number(json, key, (now - mrp_min(born, now)) / MRP_SECOND);
}

static void print_idle(const struct mrp_report *report, struct mrp_json *json)
{
    mrp_json_open(json, "idle", '[');
    for (size_t i = 0; i < report->n_places; i++) {
        const struct mrp_report_place *place = &report->places[i];

        mrp_json_open(json, NULL, '{');
        mrp_json_text(json, "memory",
            place->is_shared ? "all others" : mrp_memory_kind_words(place->place.kind));
        mrp_json_number(json, "device", (uint64_t)place->place.device);
        node_json(json, place->place.node);
        mrp_json_number(json, "chunks", place->n_chunks);
        mrp_json_number(json, "max_chunks", place->max_chunks);
        mrp_json_number(json, "size", place->size);
        mrp_json_number(json, "max_size", place->max_size);
        if (place->n_chunks > 0) {
            age_json(json, "age_max", place->oldest, report->now);
        }
        mrp_json_number(json, "never_given_back", place->n_kept);
        mrp_json_number(json, "never_given_back_size", place->kept_size);
        mrp_json_close(json, '}');
    }
    mrp_json_close(json, ']');
}

static void print_totals(const struct mrp_report *report, struct mrp_json *json)
{
    const struct mrp_context_stats *stats = &report->stats;
    char remedy[MRP_REMEDY_SIZE];

    mrp_json_open(json, "chunks", '{');
    mrp_json_number(json, "count", stats->n_chunks);
    mrp_json_number(json, "size", stats->chunk_size);
    mrp_json_close(json, '}');
    mrp_json_open(json, "registrations", '{');
    mrp_json_number(json, "count", stats->n_registrations);
    mrp_json_number(json, "size", stats->registered_size);
    mrp_json_close(json, '}');
    mrp_json_open(json, "blocks", '{');
    mrp_json_number(json, "count", stats->n_blocks);
    mrp_json_number(json, "size", stats->block_size);
    mrp_json_close(json, '}');
    mrp_json_open(json, "parked", '{');
    mrp_json_number(json, "count", stats->n_parked);
    mrp_json_number(json, "size", stats->parked_size);
    mrp_report_attention_json(json, mrp_report_parked_remedy(report, remedy));
    mrp_json_close(json, '}');
}

static void print_chunk_kind(
    const struct mrp_report_chunks *chunks, uint64_t now, struct mrp_json *json)
{
    mrp_json_open(json, NULL, '{');
    mrp_json_text(json, "of", mrp_chunk_use_words(chunks->use));
    mrp_json_number(json, "count", chunks->n_chunks);
    mrp_json_number(json, "size", chunks->size);
    mrp_json_text(json, "backend", chunks->backend[0] == '\0' ? NULL : chunks->backend);
    mrp_json_text(json, "pages", mrp_pages_words(chunks->pages));
    mrp_json_text(json, "pages_wanted", mrp_pages_words(chunks->pages_wanted));
    node_json(json, chunks->node);
    mrp_json_number(json, "device", (uint64_t)chunks->device);
    mrp_json_number(json, "registrations", chunks->n_registrations);
    age_json(json, "age_min", chunks->youngest, now);
    age_json(json, "age_max", chunks->oldest, now);
    mrp_json_close(json, '}');
}

/* Those of a pool; NULL: of pools that come or go. */
static void print_chunks(const struct mrp_report *report, const struct mrp_pool *pool,
    const char *key, struct mrp_json *json)
{
    mrp_json_open(json, key, '[');
    for (size_t i = 0; i < report->n_chunks; i++) {
        const struct mrp_report_chunks *chunks = &report->chunks[i];

        if (chunks->pool == pool) {
            print_chunk_kind(chunks, report->now, json);
        }
    }
    mrp_json_close(json, ']');
}

void mrp_report_print_json(const struct mrp_report *report, FILE *file)
{
    struct mrp_json json = {.file = file};

    mrp_json_open(&json, NULL, '{');
    mrp_json_text(&json, "version", mrp_version());
    mrp_json_text(&json, "context", report->name);
    print_totals(report, &json);
    print_budgets(report, &json);
    print_backends(report, &json);
    print_providers(report, &json);
    print_idle(report, &json);
    mrp_json_open(&json, "pools", '[');
    for (size_t i = 0; i < report->n_pools; i++) {
        const struct mrp_report_pool *pool = &report->pools[i];

        mrp_json_open(&json, NULL, '{');
        pool->reporter->print_json(pool->snapshot, &json);
        print_chunks(report, pool->handle, "chunk_kinds", &json);
        mrp_json_close(&json, '}');
    }
    mrp_json_close(&json, ']');
    print_chunks(report, NULL, "chunks_of_other_pools", &json);
    mrp_json_close(&json, '}');
}
