/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench create: cycles of making and destroying a context, a backend, a provider
 * and a pool with a region taken from it. A cycle must leave nothing behind.
 */
#include "footprint.h"
#include "harness.h"
#include "report.h"
#include "table.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_CYCLES 10000
#define N_CYCLES_QUICK 200
#define N_WARM 20 /* cycles until lazy things of the libraries are there */

struct growth {
    const char *name, *unit;
    long amount;
};

static const char *const case_name = "create and destroy";

static enum mrp_status run_pool(struct mrp_context *context)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *host;
    struct mrp_pool *pool;
    struct mrp_region *region;
    enum mrp_status status = mrp_provider_open(context, "host", NULL, &host);

    if (status == MRP_OK) {
        status = mrp_backend_create(context, "malloc", NULL, &params.backend);
    }
    if (status != MRP_OK) {
        return status;
    }
    params.rails = &host;
    params.n_rails = 1;
    params.max_bytes = 2 << 20; /* so that the time is not that of pinning a chunk */
    status = mrp_pool_create(context, &params, &pool);
    if (status != MRP_OK) {
        return status;
    }
    region = mrp_region_alloc(pool, 4096);
    if (region == NULL) {
        return mrp_error_last()->status;
    }
    status = mrp_region_free(region);
    return status == MRP_OK ? mrp_pool_destroy(pool) : status;
}

static enum mrp_status run_cycle(void *state, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct mrp_context *context;
        enum mrp_status status = mrp_context_create(NULL, &context);

        if (status != MRP_OK) {
            return status;
        }
        status = run_pool(context);
        if (status == MRP_OK) {
            status = mrp_context_destroy(context);
        }
        if (status != MRP_OK) {
            return status;
        }
    }
    return MRP_OK;
}

/* Recorded in this order; the table shows the first as the time, the rest as growth. */
static void record(struct bench *bench, const struct bench_samples *time,
    const struct bench_footprint *before, const struct bench_footprint *after)
{
    const struct growth growths[] = {
        {"growth of heap", "bytes", after->heap_size - before->heap_size},
        {"growth of address space", "bytes", after->mapped_size - before->mapped_size},
        {"growth of locked memory", "bytes", after->locked_size - before->locked_size},
        {"growth of mappings", "count", after->n_mappings - before->n_mappings},
        {"growth of open files", "count", after->n_files - before->n_files},
    };
    const struct bench_subject subject = {"host", NULL, 0, 1};

    bench_record(bench, &subject, case_name, "ns", time, NULL);
    for (size_t i = 0; i < sizeof growths / sizeof growths[0]; i++) {
        static struct bench_samples one = {.n = 1};

        one.values[0] = (double)growths[i].amount;
        bench_record(bench, &subject, growths[i].name, growths[i].unit, &one, NULL);
    }
}

static bool has_grown(const struct bench *bench)
{
    for (size_t i = 1; i < bench->n_results; i++) {
        if (bench->results[i]->median > 0) {
            return true;
        }
    }
    return false;
}

static enum mrp_status measure(struct bench *bench, size_t n_cycles)
{
    static struct bench_case one = {.run = run_cycle};
    struct bench_footprint before, after;
    size_t repetitions = bench->options->repetitions;
    enum mrp_status status = run_cycle(NULL, N_WARM);

    one.name = case_name;
    one.batch = n_cycles / (repetitions + 1); /* the harness warms up with a batch */
    one.batch = one.batch > 0 ? one.batch : 1;
    bench_progress(bench, "%zu cycles", one.batch * (repetitions + 1));
    bench_footprint_take(&before); /* once for its own stdio buffers */
    bench_footprint_take(&before);
    if (status == MRP_OK) {
        status = bench_compare(bench, &one, 1);
    }
    bench_footprint_take(&after);
    if (status == MRP_OK) {
        record(bench, &one.samples, &before, &after);
    }
    return status;
}

static void print(const struct bench *bench)
{
    static const char *const titles[] = {"<", "median", "min", "max"};
    struct bench_table *table = bench_table_create(titles, 4);

    if (table == NULL || bench->n_results == 0) {
        bench_table_destroy(table);
        return;
    }
    puts("a context, a backend, a provider, a pool and one region, made and destroyed\n");
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];
        bool is_time = strcmp(result->unit, "ns") == 0;
        struct bench_text cells[3] = {bench_time_text(result->median),
            bench_time_text(result->min), bench_time_text(result->max)};
        const char *row[] = {result->name, cells[0].text, is_time ? cells[1].text : "",
            is_time ? cells[2].text : ""};

        if (!is_time) {
            snprintf(cells[0].text, sizeof cells[0].text, "%+.0f %s", result->median,
                result->unit);
        }
        bench_table_add(table, row);
    }
    bench_table_print(table);
    bench_table_destroy(table);
    puts(has_grown(bench) ? "\nThe cycles leave something behind: see the growth above."
                          : "\nThe cycles leave nothing behind.");
}

static int run_create(const struct bench_options *options, size_t n_cycles)
{
    struct bench bench;
    bool failed;
    int exit_status;

    if (!bench_begin(&bench, "create", options)) {
        return EXIT_FAILURE;
    }
    if (measure(&bench, n_cycles) != MRP_OK) {
        bench_note(&bench, "the cycles: %s", mrp_error_last()->text);
    }
    failed = has_grown(&bench);
    exit_status = bench_end(&bench, print);
    return failed ? EXIT_FAILURE : exit_status;
}

struct create_options {
    struct bench_options common;
    size_t n_cycles;
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct create_options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case 'n':
        if (!bench_parse_count(text, 1, 100000000, &options->n_cycles)) {
            argp_error(state, "--cycles %s: write a number of at least 1", text);
        }
        return 0;
    case ARGP_KEY_END:
        if (options->n_cycles == 0) {
            options->n_cycles = options->common.quick ? N_CYCLES_QUICK : N_CYCLES;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int run(int argc, char **argv)
{
    static const struct argp_option rows[] = {
        {"cycles", 'n', "N", 0, "Make and destroy about N times (default 10000)", 0},
        {0},
    };
    static const char doc[] =
        "Measure cycles of making and destroying everything there is, and what they "
        "leave behind of memory, mappings and open files."
        "\vExits with 1 when something has grown. There is no baseline, so no ratio.";
    const struct argp argp = {rows, parse, NULL, doc, bench_options_child, NULL, NULL};
    struct create_options options = {BENCH_OPTIONS_INIT, 0};

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return run_create(&options.common, options.n_cycles);
}

const struct bench_command bench_command_create = {"create",
    "10,000 cycles of create and destroy: time, and growth (none allowed)", run};
