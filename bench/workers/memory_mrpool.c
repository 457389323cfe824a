/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker of mrpool-bench memory for mrpool. In the load its pool is made with the
 * defaults: with a rail that pins (host), and all memory prefaulted, what it holds is what
 * is charged; with --no-rail, as malloc's, what the process has become larger by.
 */
#include "memory_mrpool.h"

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIVE_BACK ((size_t)1 << 30)
#define GIVE_BACK_QUICK ((size_t)32 << 20)

/* -- shared ----------------------------------------------------------------------------
 */

static enum mrp_status count_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct counting_rail *counts = state;

    (void)request;
    atomic_fetch_add(&counts->n_registered, 1);
    registration->native = counts;
    return MRP_OK;
}

static enum mrp_status count_deregister(
    void *state, const struct mrp_registration *registration)
{
    struct counting_rail *counts = state;

    (void)registration;
    atomic_fetch_add(&counts->n_deregistered, 1);
    return MRP_OK;
}

static const struct mrp_provider_ops counting_ops = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "counting",
    .purpose = "counts registrations",
    .register_memory = count_register,
    .deregister_memory = count_deregister,
};

enum mrp_status counting_rail_create(struct mrp_context *context,
    struct counting_rail *counts, struct mrp_provider **provider)
{
    atomic_store(&counts->n_registered, 0);
    atomic_store(&counts->n_deregistered, 0);
    return mrp_provider_create(context, "counting", &counting_ops, counts, provider);
}

bool sections_fail(struct mrp_context *context, const char *what)
{
    memory_tell_problem("%s: %s", what, mrp_error_last()->text);
    if (context != NULL) {
        mrp_context_destroy(context);
    }
    return false;
}

size_t sections_fill(
    struct mrp_pool *pool, size_t size, size_t max, struct mrp_region **regions)
{
    size_t n = 0;

    while (n < max && (regions[n] = mrp_region_alloc(pool, size)) != NULL) {
        n++;
    }
    return n;
}

static void note_largest(const struct mrp_registration_info *info, void *user)
{
    size_t *largest = user;

    *largest = info->size > *largest ? info->size : *largest;
}

size_t sections_largest_chunk(struct mrp_context *context)
{
    size_t largest = 0;

    mrp_registration_visit(context, note_largest, &largest);
    return largest;
}

/* -- the load --------------------------------------------------------------------------
 */

static struct mrp_context *context;
static struct mrp_pool *pool;

static void *load_alloc(size_t size)
{
    return mrp_region_alloc(pool, size);
}

static void *load_address(void *item)
{
    return mrp_region_address(item);
}

static void load_free(void *item)
{
    mrp_region_free(item);
}

static void load_trim(void)
{
    mrp_thread_flush(pool);
    mrp_pool_trim(pool, 0, NULL);
}

static struct mrp_context_stats context_stats(void)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    mrp_context_stats(context, &stats);
    return stats;
}

static size_t load_held(void)
{
    return context_stats().chunk_size;
}

static size_t load_registrations(void)
{
    return context_stats().n_registrations;
}

static const char *load_problem(void)
{
    return mrp_error_last()->text;
}

static void tell_part(const char *part, const char *phase, size_t size)
{
    char name[48];

    snprintf(name, sizeof name, "%s-%s", part, phase);
    memory_tell_value(name, 2, "bytes", (double)size);
}

/* After the trim: what is held beyond the live bytes, in chunks of the largest size there
 * has been. */
static void note_beyond(const char *phase, size_t live)
{
    static size_t largest;
    size_t now = sections_largest_chunk(context);

    largest = now > largest ? now : largest;
    if (strcmp(phase, "trim") == 0 && largest > 0) {
        memory_tell_value("trimmed-beyond-live", 2, "chunks",
            ((double)load_held() - (double)live) / (double)largest);
    }
}

/* Where the bytes are: together what is held, but for what was larger than huge and is
 * rounded up. */
static void load_detail(const char *phase)
{
    struct mrp_pool_stats stats = MRP_POOL_STATS_INIT;
    static const char *const tiers[MRP_TIERS] = {"small", "medium", "large", "huge"};
    size_t live = 0, blocks = 0, slabs = 0;

    mrp_pool_stats(pool, &stats);
    for (size_t i = 0; i < MRP_TIERS; i++) {
        char part[32];

        live += stats.tiers[i].live_size;
        blocks += stats.tiers[i].block_live_size;
        slabs += stats.tiers[i].slab_size;
        snprintf(part, sizeof part, "live-%s", tiers[i]);
        tell_part(part, phase, stats.tiers[i].live_size);
        snprintf(part, sizeof part, "slabs-%s", tiers[i]);
        tell_part(part, phase, stats.tiers[i].slab_size);
    }
    tell_part("at-live", phase, live + stats.large_size);
    tell_part("at-rounding", phase, blocks > live ? blocks - live : 0);
    tell_part("at-cached", phase, stats.cached_size);
    tell_part("at-free", phase, slabs - blocks - stats.cached_size);
    tell_part("at-room", phase, stats.room_size);
    tell_part("at-idle", phase, stats.idle_size);
    tell_part("at-large", phase, stats.large_size);
    note_beyond(phase, live + stats.large_size);
}

static const struct memory_subject registered = {load_alloc, load_address, load_free,
    load_trim, load_held, load_registrations, load_problem, load_detail};
static const struct memory_subject without_rail = {load_alloc, load_address, load_free,
    load_trim, NULL, NULL, load_problem, load_detail};

static enum mrp_status open_pool(bool no_rail)
{
    struct mrp_backend_params memory = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *host;
    enum mrp_status status = mrp_context_create(NULL, &context);

    memory.prefault = no_rail ? -1 : 0;
    if (status == MRP_OK) {
        status = mrp_backend_create(context, "mmap", &memory, &params.backend);
    }
    if (status == MRP_OK && !no_rail) {
        status = mrp_provider_open(context, "host", NULL, &host);
        params.rails = &host;
        params.n_rails = 1;
    }
    return status == MRP_OK ? mrp_pool_create(context, &params, &pool) : status;
}

static bool run_load(const struct memory_arguments *arguments)
{
    const struct memory_subject *subject =
        arguments->no_rail ? &without_rail : &registered;
    bool is_done;

    if (open_pool(arguments->no_rail) != MRP_OK) {
        return sections_fail(context, "the load's pool");
    }
    is_done = strcmp(arguments->section, "load") == 0
        ? memory_load(subject, &arguments->plan)
        : memory_give_back(subject, arguments->quick ? GIVE_BACK_QUICK : GIVE_BACK,
              arguments->repetitions);
    if (mrp_context_destroy(context) != MRP_OK && is_done) {
        memory_tell_problem("%s", mrp_error_last()->text);
    }
    return is_done;
}

/* -- */

static bool run_trim(const struct memory_arguments *arguments)
{
    return run_load(arguments) && (arguments->no_rail || section_trim(arguments));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool (*run)(const struct memory_arguments *arguments);
    } sections[] = {
        {"load", run_load},
        {"trim", run_trim},
        {"latency", section_latency},
        {"missed", section_missed},
        {"limit", section_limit},
        {"waiting", section_waiting},
        {"counts", section_counts},
    };
    struct memory_arguments arguments;
    bool is_done = false;

    memory_arguments_read(&arguments, argc, argv);
    printf("text mrpool %s\n", mrp_version());
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        if (strcmp(sections[i].name, arguments.section) == 0) {
            is_done = sections[i].run(&arguments);
        }
    }
    puts("end");
    return is_done ? EXIT_SUCCESS : EXIT_FAILURE;
}
