/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench memory: what is held for each live byte, what giving it back costs, and
 * what happens to those who ask meanwhile, or when there is none left.
 */
#include "memory.h"
#include "units.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_memory(const struct memory_options *options)
{
    static struct memory_run run;
    struct bench bench;
    bool is_written = true, is_reached;
    int exit_status;

    run.bench = &bench;
    run.options = options;
    CPU_ZERO(&run.cpus);
    sched_getaffinity(0, sizeof run.cpus, &run.cpus);
    if (!bench_begin(&bench, "memory", &options->common)) {
        return EXIT_FAILURE;
    }
    if (options->common.cpu < 0) {
        sched_setaffinity(0, sizeof run.cpus, &run.cpus); /* workers have threads */
    }
    signal(SIGPIPE, SIG_IGN);
    memory_measure(&run);
    is_reached = memory_hold_all(&bench);
    if (options->plot != NULL && bench.n_results > 0) {
        is_written = memory_plot(&run, options->plot);
    }
    if (options->series != NULL) {
        is_written = memory_write_series(&run, options->series) && is_written;
    }
    exit_status = bench_end(&bench, memory_print);
    return is_written && is_reached ? exit_status : EXIT_FAILURE;
}

/* -- options ---------------------------------------------------------------------------
 */

static void set_defaults(struct memory_options *options)
{
    bool has_subject = false, has_section = false;

    for (size_t i = 0; i < MEMORY_SUBJECTS; i++) {
        has_subject = has_subject || options->subjects[i];
    }
    for (size_t i = 0; i < SECTIONS; i++) {
        has_section = has_section || options->sections[i];
    }
    for (size_t i = 0; i < MEMORY_SUBJECTS && !has_subject; i++) {
        options->subjects[i] = true;
    }
    for (size_t i = 0; i < SECTIONS && !has_section; i++) {
        options->sections[i] = true;
    }
}

enum {
    OPTION_ONLY = 'o',
    OPTION_SUBJECTS = 'S',
    OPTION_LIVE = 'l',
    OPTION_IDLE = 'i',
    OPTION_PLOT = 300,
    OPTION_SERIES
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct memory_options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case OPTION_ONLY:
        bench_choose(text, "--only", "section", memory_section_names,
            sizeof memory_section_names[0], SECTIONS, options->sections, state);
        return 0;
    case OPTION_SUBJECTS:
        bench_choose(text, "--subjects", "subject", &memory_subjects[0].name,
            sizeof memory_subjects[0], MEMORY_SUBJECTS, options->subjects, state);
        return 0;
    case OPTION_LIVE:
        if (!bench_parse_size(text, &options->live) || options->live < (1 << 20)) {
            argp_error(state, "--live %s: write a size of at least 1M", text);
        }
        return 0;
    case OPTION_IDLE:
        if (!bench_parse_count(text, 1, 600000, &options->idle_ms)) {
            argp_error(state, "--idle-ms %s: write a number from 1 to 600000", text);
        }
        return 0;
    case OPTION_PLOT:
        options->plot = text;
        return 0;
    case OPTION_SERIES:
        options->series = text;
        return 0;
    case ARGP_KEY_END:
        set_defaults(options);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option rows[] = {
    {"only", OPTION_ONLY, "LIST", 0,
        "Sections, separated by commas: load, trim, latency, missed, limit, waiting, "
        "counts (default all)",
        0},
    {"subjects", OPTION_SUBJECTS, "LIST", 0,
        "Whom to measure, separated by commas: mrpool, mrpool-no-rail, glibc, jemalloc, "
        "mimalloc (default all that are there)",
        0},
    {"live", OPTION_LIVE, "SIZE", 0,
        "Bytes live in the steady load (default 512M, less than a sixteenth of RAM)", 0},
    {"idle-ms", OPTION_IDLE, "N", 0, "Length of the idle phase (default 16000)", 0},
    {"plot", OPTION_PLOT, "FILE", 0,
        "Draw what was held over the load with gnuplot (.svg, .png, .pdf)", 0},
    {"series", OPTION_SERIES, "FILE", 0,
        "Write the samples of the load as comma-separated values", 0},
    {0},
};

static const char doc[] =
    "Measure what is held for each live byte over a long mixed load, against malloc "
    "(glibc, jemalloc, mimalloc); what a trim costs and how long 1 GiB takes to go back; "
    "how long others take while a thread trims, and at the limit; whether waiting is "
    "fair; and counts of registrations."
    "\vSections. load: two threads, requests of 64 B to 1 MiB and some to 8 MiB, even on "
    "a logarithmic scale, a quarter freed by the other thread, in phases: ramp, steady, "
    "peak (twice as much on top, which goes as a whole), drop, trim, small (64 B to 32 "
    "KiB), less (a quarter), "
    "idle, end. A byte of each page is written. The numbers are the same for every "
    "subject and run. mrpool has its defaults and a rail that pins (host), so that all "
    "of it is resident, and what it holds is what it is charged; mrpool-no-rail and the "
    "mallocs hold what the process has become larger by. Trimming is mrp_thread_flush "
    "and mrp_pool_trim, malloc_trim, jemalloc's arena.purge, mi_collect.\n"
    "trim: what it costs with nothing and with 1 GiB to give. latency: while another "
    "thread trims in a loop. missed: requests refused, or registrations made, because a "
    "trim had the memory in its hands. limit: allocs that wait. waiting: fairness. "
    "counts: registrations.\n\n"
    "--repetitions counts where it is less than a section's own (1 to 5). Exits with 1 "
    "when a count is not what it must be; times and shares are never judged so.\n\n"
    "Examples:\n"
    "  mrpool-bench memory --only load --plot memory.svg\n"
    "  mrpool-bench memory --only load --subjects mrpool,jemalloc --live 256M\n"
    "  mrpool-bench memory --only counts,missed --json\n";

static int run(int argc, char **argv)
{
    static struct memory_options options = {.common = BENCH_OPTIONS_INIT};
    const struct argp argp = {rows, parse, NULL, doc, bench_options_child, NULL, NULL};

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return run_memory(&options);
}

const struct bench_command bench_command_memory = {
    "memory", "memory held, given back and waited for, against malloc", run};
