/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench reg: what registering memory costs on this machine, step by step, and what
 * a pool saves of it.
 */
#include "buffer.h"
#include "harness.h"
#include "measure_reg.h"
#include "table_reg.h"
#include "targets.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZES_MAX 32

struct reg_options {
    struct bench_options common;
    size_t sizes[SIZES_MAX];
    size_t n_sizes; /* 0: 4 KiB to 64 MiB */
    bool pages[BENCH_PAGES_ALL];
    bool pages_given;
    struct bench_targets targets; /* none: what the machine has */
    const char *plot; /* NULL: none */
};

/* -- measuring -------------------------------------------------------------------------
 */

static void measure_size(
    struct reg_station *station, const struct bench_pages *pages, size_t size)
{
    struct bench *bench = station->bench;
    const char *label = station->target->label;
    struct bench_text size_text = bench_size_text(size);

    if (size < pages->page_size) {
        return;
    }
    bench_progress(bench, "%s, %s pages, %s", label, pages->name, size_text.text);
    if (reg_measure_steps(station, pages, size) != MRP_OK ||
        reg_measure_message(station, pages, size) != MRP_OK) {
        bench_note(bench, "%s, %s pages, %s: %s", label, pages->name, size_text.text,
            mrp_error_last()->text);
    }
}

/* Where nothing is pinned the kind of page makes no difference, so one is enough unless
 * the caller asks for more. */
static bool is_wanted(const struct reg_options *options,
    const struct reg_station *station, const struct bench_pages *pages)
{
    const struct mrp_system *system = &station->bench->machine.system;
    size_t i = (size_t)(pages - bench_pages_all);

    if (options->pages_given) {
        return options->pages[i];
    }
    return pages->pages == MRP_PAGES_4K ||
        (station->pins && bench_pages_available(pages, system, pages->page_size));
}

static void measure_target(struct bench *bench, const struct reg_options *options,
    const struct bench_target *target)
{
    struct reg_station station;

    bench_progress(bench, "opening %s", target->label);
    if (reg_station_open(bench, target, &station) != MRP_OK) {
        bench_note(bench, "%s: %s", target->spec, mrp_error_last()->text);
        reg_station_close(&station);
        return;
    }
    for (size_t i = 0; i < BENCH_PAGES_ALL; i++) {
        const struct bench_pages *pages = &bench_pages_all[i];

        if (!is_wanted(options, &station, pages)) {
            continue;
        }
        if (!bench_pages_available(pages, &bench->machine.system, pages->page_size)) {
            bench_note(bench, "%s pages: the system has none free (mrpool info limits)",
                pages->name);
            continue;
        }
        for (size_t k = 0; k < options->n_sizes; k++) {
            measure_size(&station, pages, options->sizes[k]);
        }
    }
    reg_station_close(&station);
}

static int run_reg(struct reg_options *options)
{
    struct bench bench;
    bool drawn = true;
    int exit_status;

    if (!bench_begin(&bench, "reg", &options->common)) {
        return EXIT_FAILURE;
    }
    if (options->targets.n == 0) {
        bench_progress(&bench, "looking for providers");
        bench_targets_default(&bench, &options->targets);
    }
    for (size_t i = 0; i < options->targets.n; i++) {
        measure_target(&bench, options, &options->targets.all[i]);
    }
    if (options->plot != NULL && bench.n_results > 0) {
        drawn = reg_plot(&bench, options->plot);
    }
    exit_status = bench_end(&bench, reg_print);
    return drawn ? exit_status : EXIT_FAILURE;
}

/* -- options ---------------------------------------------------------------------------
 */

static void set_default_sizes(struct reg_options *options)
{
    size_t factor = options->common.quick ? 16 : 4;
    size_t last = (size_t)(options->common.quick ? 1 : 64) << 20;

    for (size_t size = 4096; size <= last; size *= factor) {
        options->sizes[options->n_sizes++] = size;
    }
}

enum {
    OPTION_SIZES = 's',
    OPTION_PAGES = 'p',
    OPTION_PROVIDERS = 'P',
    OPTION_PLOT = 300
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct reg_options *options = state->input;
    const char *problem;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case OPTION_SIZES:
        options->n_sizes = bench_numbers(text, "--sizes", 4096, (size_t)1 << 40, 4096,
            options->sizes, SIZES_MAX, state);
        return 0;
    case OPTION_PAGES:
        options->pages_given = true;
        bench_choose(text, "--pages", "kind of page", &bench_pages_all[0].name,
            sizeof bench_pages_all[0], BENCH_PAGES_ALL, options->pages, state);
        return 0;
    case OPTION_PROVIDERS:
        problem = bench_targets_parse(text, &options->targets);
        if (problem != NULL) {
            argp_error(state, "--providers %s: %s", text, problem);
        }
        return 0;
    case OPTION_PLOT:
        options->plot = text;
        return 0;
    case ARGP_KEY_END:
        if (options->n_sizes == 0) {
            set_default_sizes(options);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option rows[] = {
    {"sizes", OPTION_SIZES, "LIST", 0,
        "Buffer sizes, 4K,64K,1M (default 4K to 64M by fours)", 0},
    {"pages", OPTION_PAGES, "LIST", 0,
        "Kinds of pages, of 4k,thp,2m (default 4k, and for providers that pin every kind "
        "the system has); sizes smaller than a page are left out",
        0},
    {"providers", OPTION_PROVIDERS, "LIST", 0,
        "Providers with their options, host,ofi:provider=tcp,domain=lo (default: one of "
        "each sort that the machine has; see `mrpool info providers`)",
        0},
    {"plot", OPTION_PLOT, "FILE", 0,
        "Draw the costs by size with gnuplot (.svg, .png, .pdf)", 0},
    {0},
};

static const char doc[] =
    "Measure what registering memory costs: mapping, touching, registering, "
    "deregistering and unmapping apart; and registering a buffer for each message "
    "against taking a region from a pool."
    "\vA buffer is registered per message the way a program does it without mrpool: "
    "mlock and munlock for host, fi_mr_reg and fi_close for ofi, "
    "io_uring_register_buffers_update_tag for uring; `through mrpool` is "
    "mrp_region_register and mrp_region_free. In --json and --csv a case is named with "
    "its pages (register/4k), times are nanoseconds of CPU time, and ratio is the "
    "baseline's median divided by this median: 100 means that the baseline costs 100 "
    "times as much.\n\n"
    "Examples:\n"
    "  mrpool-bench reg --sizes 64K --providers host\n"
    "  mrpool-bench reg --providers ofi:provider=tcp,domain=lo,host --json\n"
    "  mrpool-bench reg --pages 4k,thp --plot registration.svg\n";

static int run(int argc, char **argv)
{
    static struct reg_options options = {.common = BENCH_OPTIONS_INIT};
    const struct argp argp = {rows, parse, NULL, doc, bench_options_child, NULL, NULL};

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return run_reg(&options);
}

const struct bench_command bench_command_reg = {
    "reg", "memory registration: its steps, and per message against a pool", run};
