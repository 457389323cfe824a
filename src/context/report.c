/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_context_report: who holds what. Numbers are copied under the locks that guard them,
 * one lock at a time; the text is made in memory and written in one piece, under none.
 */
#include "context/report.h"

#include "base/align.h"
#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- chunks -- */

/* What lookups read tells how a chunk is used; the rest of it is the owner's. */
static enum mrp_chunk_use use_of(struct mrp_chunk *chunk)
{
    if ((mrp_load_acquire(&chunk->view.generation) & 1) == 0) {
        return MRP_CHUNK_PRIVATE;
    }
    return chunk->backend == NULL                         ? MRP_CHUNK_USER
        : mrp_load_acquire(&chunk->view.granules) != NULL ? MRP_CHUNK_SLABS
                                                          : MRP_CHUNK_REGION;
}

static bool looks_like(
    const struct mrp_report_chunks *chunks, const struct mrp_report_chunks *chunk)
{
    return chunks->pool == chunk->pool && chunks->from == chunk->from &&
        chunks->use == chunk->use && chunks->pages_wanted == chunk->pages_wanted &&
        chunks->pages == chunk->pages && chunks->node == chunk->node &&
        chunks->device == chunk->device;
}

/* Most chunks look like the one before. */
static struct mrp_report_chunks *find_chunks(
    struct mrp_report *report, const struct mrp_report_chunks *wanted)
{
    for (size_t i = report->n_chunks; i > 0; i--) {
        if (looks_like(&report->chunks[i - 1], wanted)) {
            return &report->chunks[i - 1];
        }
    }
    if (report->n_chunks < MRP_REPORT_CHUNKS - 1) {
        report->chunks[report->n_chunks] = *wanted;
        return &report->chunks[report->n_chunks++];
    }
    report->n_chunks = MRP_REPORT_CHUNKS;
    report->chunks[MRP_REPORT_CHUNKS - 1].pool = NULL;
    report->chunks[MRP_REPORT_CHUNKS - 1].use = MRP_CHUNK_REST;
    return &report->chunks[MRP_REPORT_CHUNKS - 1];
}

static void count_chunk(struct mrp_report *report, struct mrp_chunk *chunk)
{
    struct mrp_report_chunks *chunks,
        one = {
            .pool = chunk->pool,
            .from = chunk->backend,
            .use = use_of(chunk),
            .pages_wanted = chunk->mapping.pages_wanted,
            .pages = chunk->mapping.pages,
            .node = chunk->mapping.node,
            .device = chunk->mapping.device,
            .oldest = chunk->born,
            .youngest = chunk->born,
        };

    if (chunk->backend != NULL) {
        memcpy(one.backend, chunk->backend->named.name, sizeof one.backend);
    }
    chunks = find_chunks(report, &one);
    if (chunks->n_chunks == 0) {
        chunks->oldest = chunks->youngest = chunk->born;
    }
    chunks->n_chunks++;
    chunks->size += chunk->mapping.size;
    chunks->n_registrations += (size_t)__builtin_popcountll(chunk->registered);
    chunks->oldest = mrp_min(chunks->oldest, chunk->born);
    chunks->youngest = mrp_max(chunks->youngest, chunk->born);
}

static bool is_listed(const struct mrp_report *report, const struct mrp_pool *pool)
{
    for (size_t i = 0; i < report->n_pools; i++) {
        if (report->pools[i].handle == pool) {
            return true;
        }
    }
    return false;
}

/* By use, the oldest first. */
static int compare_chunks(const void *a, const void *b)
{
    const struct mrp_report_chunks *left = a, *right = b;

    return left->use != right->use
        ? (left->use > right->use) - (left->use < right->use)
        : (left->oldest > right->oldest) - (left->oldest < right->oldest);
}

/* While all pools of the report are held: their handles are nobody else's. */
static void collect_chunks(struct mrp_report *report, struct mrp_chunk_store *store)
{
    pthread_mutex_lock(&store->mutex);
    for (struct mrp_chunk *chunk = store->live; chunk != NULL; chunk = chunk->next) {
        count_chunk(report, chunk);
    }
    pthread_mutex_unlock(&store->mutex);
    for (size_t i = 0; i < report->n_chunks; i++) {
        if (!is_listed(report, report->chunks[i].pool)) { /* it comes or goes */
            report->chunks[i].pool = NULL;
        }
    }
    qsort(report->chunks, report->n_chunks, sizeof report->chunks[0], compare_chunks);
}

/* -- idle memory -- */

static void add_place(const struct mrp_retention_place *found, void *user)
{
    struct mrp_report *report = user;

    if (report->n_places < MRP_REPORT_PLACES) {
        report->places[report->n_places++] = (struct mrp_report_place){
            .place = found->place,
            .is_shared = found->is_shared,
            .n_chunks = found->n_items,
            .size = found->size,
            .max_chunks = found->max_items,
            .max_size = found->max_size,
            .n_kept = found->n_kept,
            .kept_size = found->kept_size,
            .oldest = found->oldest_since,
        };
    }
}

/* -- what has a name -- */

static void copy_text(char *to, size_t to_size, const char *from)
{
    snprintf(to, to_size, "%s", from == NULL ? "" : from);
}

static void copy_backend(
    const struct mrp_backend_state *backend, struct mrp_report_backend *copy)
{
    copy_text(copy->name, sizeof copy->name, backend->named.name);
    copy_text(copy->kind, sizeof copy->kind, backend->ops.kind);
    copy->n_mappings = mrp_load_relaxed(&backend->n_mappings);
    copy->mapped_size = mrp_load_relaxed(&backend->mapped_size);
    copy->max_size = backend->max_size;
}

static void copy_provider(
    const struct mrp_provider_state *provider, struct mrp_report_provider *copy)
{
    copy_text(copy->name, sizeof copy->name, provider->named.name);
    copy_text(copy->module, sizeof copy->module, provider->info.module);
    copy_text(copy->device, sizeof copy->device, provider->device);
    copy->n_registrations = mrp_load_relaxed(&provider->n_registrations);
    copy->registered_size = mrp_load_relaxed(&provider->registered_size);
    copy->n_registered = mrp_load_relaxed(&provider->n_registered);
    copy->n_deregistered = mrp_load_relaxed(&provider->n_deregistered);
    copy->max_registrations = provider->info.max_registrations;
    copy->max_size = provider->info.max_size;
    copy->n_parked = mrp_load_relaxed(&provider->n_parked);
    copy->parked_size = mrp_load_relaxed(&provider->parked_size);
}

/* A pool that is visited does not go before its snapshot has been taken. */
static void visit_pool(struct mrp_pool_member *member, struct mrp_report_pool *visited)
{
    mrp_add_relaxed(&member->n_visitors, 1);
    visited->member = member;
    visited->handle = member->handle;
    visited->reporter = member->reporter;
}

/* Lists show the latest first, reports the first first. Under the context's mutex. */
static void copy_named(struct mrp_context_state *context, struct mrp_report *report)
{
    size_t i = report->n_backends;

    for (struct mrp_named *named = context->backends; named != NULL;
         named = named->next) {
        copy_backend((struct mrp_backend_state *)named, &report->backends[--i]);
    }
    i = report->n_providers;
    for (struct mrp_named *named = context->providers; named != NULL;
         named = named->next) {
        copy_provider((struct mrp_provider_state *)named, &report->providers[--i]);
    }
    i = report->n_pools;
    for (struct mrp_named *named = context->pools; named != NULL; named = named->next) {
        visit_pool((struct mrp_pool_member *)named, &report->pools[--i]);
    }
}

static void free_arrays(struct mrp_report *report)
{
    for (size_t i = 0; report->pools != NULL && i < report->n_pools; i++) {
        free(report->pools[i].snapshot);
    }
    free(report->pools);
    free(report->providers);
    free(report->backends);
    report->pools = NULL;
    report->providers = NULL;
    report->backends = NULL;
}

static bool allocate_arrays(struct mrp_report *report)
{
    report->backends = calloc(report->n_backends + 1, sizeof *report->backends);
    report->providers = calloc(report->n_providers + 1, sizeof *report->providers);
    report->pools = calloc(report->n_pools + 1, sizeof *report->pools);
    return report->backends != NULL && report->providers != NULL && report->pools != NULL;
}

/* No pool has been made yet that would say how large a snapshot is; all are alike. Under
 * the context's mutex. */
static size_t snapshot_size(const struct mrp_context_state *context)
{
    return context->pools == NULL
        ? 0
        : ((const struct mrp_pool_member *)context->pools)->reporter->snapshot_size;
}

static bool allocate_snapshots(struct mrp_report *report, size_t size)
{
    for (size_t i = 0; i < report->n_pools; i++) {
        report->pools[i].snapshot = calloc(1, size);
        if (report->pools[i].snapshot == NULL) {
            return false;
        }
    }
    return true;
}

static size_t count_named(const struct mrp_named *list)
{
    size_t count = 0;

    for (; list != NULL; list = list->next) {
        count++;
    }
    return count;
}

/* Room for all there are, found outside the lock; if others come meanwhile, once more.
 * With the mutex held when it succeeds. */
static enum mrp_status make_room(
    struct mrp_context_state *context, struct mrp_report *report)
{
    pthread_mutex_lock(&context->mutex);
    while (report->backends == NULL ||
        report->n_backends != count_named(context->backends) ||
        report->n_providers != count_named(context->providers) ||
        report->n_pools != count_named(context->pools)) {
        size_t n_pools = count_named(context->pools), size = snapshot_size(context);
        size_t n_backends = count_named(context->backends);
        size_t n_providers = count_named(context->providers);

        pthread_mutex_unlock(&context->mutex);
        free_arrays(report);
        report->n_backends = n_backends;
        report->n_providers = n_providers;
        report->n_pools = n_pools;
        if (!allocate_arrays(report) || !allocate_snapshots(report, size)) {
            return mrp_fail(
                MRP_ERR_MEMORY, 0, "malloc for a report of %zu pools failed", n_pools);
        }
        pthread_mutex_lock(&context->mutex);
    }
    return MRP_OK;
}

static void take_budgets(struct mrp_report *report, const struct mrp_budget *budget)
{
    const struct mrp_context_stats *stats = &report->stats;

    report->mapped = (struct mrp_report_budget){
        stats->charged_size, stats->max_bytes, budget->bytes_source};
    report->pinned = (struct mrp_report_budget){
        stats->pinned_size, stats->max_pinned, budget->pinned_source};
    report->registrations = (struct mrp_report_budget){
        stats->n_charged, stats->max_registrations, budget->registrations_source};
    report->mapped_remedy = budget->bytes_remedy;
    report->pinned_remedy = budget->pinned_remedy;
}

static enum mrp_status collect(
    struct mrp_context_state *context, struct mrp_report *report)
{
    enum mrp_status status = make_room(context, report);

    if (status != MRP_OK) {
        return status;
    }
    copy_named(context, report);
    pthread_mutex_unlock(&context->mutex);
    copy_text(report->name, sizeof report->name, context->name);
    report->now = mrp_clock_coarse();
    collect_chunks(report, &context->chunks);
    mrp_retention_visit(&context->retention, add_place, report);
    for (size_t i = 0; i < report->n_pools; i++) {
        struct mrp_report_pool *pool = &report->pools[i];

        pool->reporter->collect(pool->member->handle, report->now, pool->snapshot);
        pool->member = NULL; /* no longer visited */
    }
    report->stats.struct_size = sizeof report->stats;
    mrp_context_stats(context->handle, &report->stats);
    take_budgets(report, &context->budget);
    return MRP_OK;
}

/* -- writing -- */

static enum mrp_status write_text(const char *text, size_t size, FILE *file)
{
    errno = 0;
    if (fwrite(text, 1, size, file) != size || fflush(file) != 0) {
        int native = errno;

        return mrp_fail(MRP_ERR_SYSTEM, native,
            "the file does not take a report of %zu bytes: %s", size,
            native == 0 ? "it says no reason" : strerrordesc_np(native));
    }
    return MRP_OK;
}

/* In memory first: all of it or nothing, and no file's own pace while it is made. */
static enum mrp_status print(
    struct mrp_report *report, enum mrp_report_format format, FILE *file)
{
    enum mrp_status status;
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    bool is_whole = memory != NULL;

    if (memory != NULL) {
        if (format == MRP_REPORT_JSON) {
            mrp_report_print_json(report, memory);
        } else {
            mrp_report_print_text(report, memory);
        }
        is_whole = ferror(memory) == 0 && !report->is_short;
        is_whole = fclose(memory) == 0 && is_whole;
    }
    status = is_whole
        ? write_text(text, size, file)
        : mrp_fail(MRP_ERR_MEMORY, 0,
              "malloc for the text of a report of %zu pools failed", report->n_pools);
    free(text);
    return status;
}

enum mrp_status mrp_context_report(
    struct mrp_context *handle, enum mrp_report_format format, FILE *file)
{
    struct mrp_context_state *context;
    struct mrp_report *report;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (file == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "file is NULL: pass where to write, stderr");
    }
    if (format != MRP_REPORT_TEXT && format != MRP_REPORT_JSON) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "format is %d: MRP_REPORT_TEXT or MRP_REPORT_JSON", (int)format);
    }
    report = calloc(1, sizeof *report);
    if (report == NULL) {
        return mrp_fail(
            MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a report failed", sizeof *report);
    }
    status = collect(context, report);
    if (status == MRP_OK) {
        status = print(report, format, file);
    }
    free_arrays(report);
    free(report);
    return status;
}
