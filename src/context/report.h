/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The data model of mrp_context_report, filled under locks, and what prints it, under
 * none. The part of a pool is the pool's (pool/report.c), behind a table of functions.
 */
#ifndef MRP_CONTEXT_REPORT_H
#define MRP_CONTEXT_REPORT_H

#include "base/json.h"
#include "base/table.h"
#include "context/context.h"

#define MRP_REMEDY_SIZE 320
#define MRP_REPORT_CHUNKS \
    256 /* kinds of chunks told apart; the last stands for the rest */
#define MRP_REPORT_PLACES (MRP_PLACES_MAX + 1) /* of idle memory */

/** How much of a limit is used. */
struct mrp_report_budget {
    size_t used, max;
    const char *source; /* where the limit comes from; NULL: not known */
};

enum mrp_chunk_use {
    MRP_CHUNK_SLABS,
    MRP_CHUNK_REGION, /* one larger-than-huge region, live or idle */
    MRP_CHUNK_USER, /* memory of the caller */
    MRP_CHUNK_PRIVATE, /* being built, or going */
    MRP_CHUNK_REST /* of kinds there was no room for */
};

/** Chunks that look alike: all members but the last five are the same. */
struct mrp_report_chunks {
    const struct mrp_pool *pool; /* a name, never followed; NULL: of none listed */
    const struct mrp_backend_state *from; /* the same */
    enum mrp_chunk_use use;
    enum mrp_pages pages_wanted, pages;
    int node, device;
    char backend[MRP_NAME_SIZE]; /* "": memory of the caller */
    size_t n_chunks, size, n_registrations;
    uint64_t oldest, youngest; /* when they were made */
};

struct mrp_report_backend {
    char name[MRP_NAME_SIZE], kind[MRP_NAME_SIZE];
    size_t n_mappings, mapped_size, max_size;
};

struct mrp_report_provider {
    char name[MRP_NAME_SIZE], module[MRP_NAME_SIZE], device[128];
    size_t n_registrations, registered_size, max_registrations, max_size;
    uint64_t n_registered, n_deregistered;
    size_t n_parked, parked_size;
};

/** Idle memory of one place. */
struct mrp_report_place {
    struct mrp_place place;
    bool is_shared; /* stands for several places */
    size_t n_chunks, size, max_chunks, max_size; /* of what may go */
    size_t n_kept, kept_size; /* what its pools never give back */
    uint64_t oldest; /* when the oldest that may go came */
};

struct mrp_report_pool {
    struct mrp_pool_member *member; /* held until its snapshot has been taken */
    const struct mrp_pool *handle; /* a name, never followed */
    const struct mrp_pool_reporter *reporter;
    void *snapshot;
};

struct mrp_report {
    char name[MRP_NAME_SIZE];
    uint64_t now; /* of mrp_clock_coarse() */
    struct mrp_context_stats stats;
    struct mrp_report_budget mapped, pinned, registrations;
    const char *mapped_remedy, *pinned_remedy; /* how a refusal ends */
    struct mrp_report_backend *backends;
    struct mrp_report_provider *providers;
    struct mrp_report_pool *pools;
    size_t n_backends, n_providers, n_pools; /* in the arrays above */
    struct mrp_report_chunks chunks[MRP_REPORT_CHUNKS];
    size_t n_chunks;
    struct mrp_report_place places[MRP_REPORT_PLACES];
    size_t n_places;
    bool is_short; /* there was no memory to print all of it */
};

/** What a pool adds to a report. */
struct mrp_pool_reporter {
    size_t snapshot_size; /* bytes, zeroed before collect */
    /** Fill a snapshot, and end the visit (mrp_pool_member.n_visitors): the pool may be gone
     *  when this returns. Takes the pool's locks. */
    void (*collect)(struct mrp_pool *pool, uint64_t now, void *snapshot);
    /** False: there was no memory to print all of it. No lock. */
    bool (*print_text)(const void *snapshot, FILE *file);
    /** Members of the pool's object, which is open. No lock. */
    void (*print_json)(const void *snapshot, struct mrp_json *json);
};

/* -- report_text.c -- */

void mrp_report_print_text(struct mrp_report *report, FILE *file);

/** The heads of a table of budgets, and a row of it; nothing of a budget that has no
 *  limit. A remedy marks the row. */
#define MRP_BUDGET_COLUMNS 5
extern const char *const mrp_budget_heads[MRP_BUDGET_COLUMNS];
void mrp_report_budget_row(struct mrp_table *table, const char *what,
    const struct mrp_report_budget *budget, bool is_size, const char *remedy);

/* -- report_json.c -- */

void mrp_report_print_json(const struct mrp_report *report, FILE *file);

/** An object with used, max, used_percent, source, and what to do, if anything. */
void mrp_report_budget_json(struct mrp_json *json, const char *key,
    const struct mrp_report_budget *budget, const char *remedy);

/** A member "attention", unless there is nothing to say. */
void mrp_report_attention_json(struct mrp_json *json, const char *remedy);

/* -- report_words.c: what both say -- */

/** More than nine tenths of it are used. */
bool mrp_report_is_tight(const struct mrp_report_budget *budget);

/** Each returns `text`, empty when nothing needs attention. */
const char *mrp_report_mapped_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE]);
const char *mrp_report_pinned_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE]);
const char *mrp_report_registrations_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE]);
const char *mrp_report_provider_remedy(
    const struct mrp_report_provider *provider, char text[MRP_REMEDY_SIZE]);
const char *mrp_report_parked_remedy(
    const struct mrp_report *report, char text[MRP_REMEDY_SIZE]);

const char *mrp_chunk_use_words(enum mrp_chunk_use use);
const char *mrp_pages_words(
    enum mrp_pages pages); /**< "2 MiB"; "" where it is not known */
const char *mrp_memory_kind_words(enum mrp_memory_kind kind);

#endif
