/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench pool: what taking and freeing a region costs, against what a program would
 * use instead, each in a process of its own, all in turn.
 */
#include "pool.h"
#include "units.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The processors that may be used, found before the harness pins this thread. */
static void find_cpus(struct pool_run *run)
{
    cpu_set_t set;

    if (run->options->common.cpu >= 0) {
        run->cpus[run->n_cpus++] = run->options->common.cpu;
        return;
    }
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && run->n_cpus < WORKER_CPUS_MAX; cpu++) {
        if (CPU_ISSET((unsigned)cpu, &set)) {
            run->cpus[run->n_cpus++] = cpu;
        }
    }
}

static int run_pool(const struct pool_options *options)
{
    static struct pool_run run;
    struct bench bench;
    bool drawn = true;
    int exit_status;

    run.bench = &bench;
    run.options = options;
    find_cpus(&run);
    if (!bench_begin(&bench, "pool", &options->common)) {
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN); /* a worker that has died is noticed by its silence */
    pool_measure(&run);
    pool_hold_all(&bench);
    if (options->plot != NULL && bench.n_results > 0) {
        drawn = pool_plot(&bench, options->plot);
    }
    exit_status = bench_end(&bench, options->all ? pool_print_all : pool_print);
    return drawn ? exit_status : EXIT_FAILURE;
}

/* -- options ---------------------------------------------------------------------------
 */

static void set_defaults(struct pool_options *options)
{
    static const size_t sizes[] = {64, 1024, 16384, 65536, 1 << 20},
                        quick[] = {64, 1 << 20};
    static const size_t threads[] = {1, 2, 4};
    bool is_quick = options->common.quick;
    bool has_subject = false, has_choice = false;

    if (options->n_sizes == 0) {
        options->n_sizes = is_quick ? 2 : sizeof sizes / sizeof sizes[0];
        memcpy(
            options->sizes, is_quick ? quick : sizes, options->n_sizes * sizeof sizes[0]);
    }
    if (options->n_threads == 0) {
        options->n_threads = is_quick ? 2 : sizeof threads / sizeof threads[0];
        memcpy(options->threads, threads, options->n_threads * sizeof threads[0]);
    }
    for (size_t i = 0; i < POOL_SUBJECTS; i++) {
        has_subject = has_subject || options->subjects[i];
    }
    for (size_t i = 0; i < CHOICES; i++) {
        has_choice = has_choice || options->choices[i];
    }
    for (size_t i = 0; i < POOL_SUBJECTS && !has_subject; i++) {
        options->subjects[i] = true;
    }
    for (size_t i = 0; i < CHOICES && !has_choice; i++) {
        options->choices[i] = true;
    }
}

enum {
    OPTION_SIZES = 's',
    OPTION_THREADS = 't',
    OPTION_PATTERNS = 'p',
    OPTION_SUBJECTS = 'S',
    OPTION_ALL = 'a',
    OPTION_PLOT = 300
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct pool_options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case OPTION_SIZES:
        options->n_sizes = bench_numbers(
            text, "--sizes", 64, POOL_LARGE, 1, options->sizes, POOL_SIZES_MAX, state);
        return 0;
    case OPTION_THREADS:
        options->n_threads = bench_numbers(text, "--threads", 1, WORKER_THREADS_MAX, 1,
            options->threads, POOL_THREADS_MAX, state);
        return 0;
    case OPTION_PATTERNS:
        bench_choose(text, "--patterns", "pattern", pool_choice_names,
            sizeof pool_choice_names[0], CHOICES, options->choices, state);
        return 0;
    case OPTION_SUBJECTS:
        bench_choose(text, "--subjects", "subject", &pool_subjects[0].name,
            sizeof pool_subjects[0], POOL_SUBJECTS, options->subjects, state);
        return 0;
    case OPTION_ALL:
        options->all = true;
        return 0;
    case OPTION_PLOT:
        options->plot = text;
        return 0;
    case ARGP_KEY_END:
        set_defaults(options);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option rows[] = {
    {"patterns", OPTION_PATTERNS, "LIST", 0,
        "What to measure, separated by commas: pair, batch, bulk, producer-consumer, "
        "random, larson, first-touch, exhaustion, latency, growth, instructions "
        "(default all)",
        0},
    {"subjects", OPTION_SUBJECTS, "LIST", 0,
        "Whom to measure, separated by commas: mrpool, mrpool-plt, mrpool-static, "
        "mrpool-inline, mrpool-none, mrpool-inline-none, glibc, jemalloc, mimalloc, "
        "tcmalloc, dpdk, mutex, boost, ucx (default all that are there)",
        0},
    {"sizes", OPTION_SIZES, "LIST", 0,
        "Bytes per region, from 64 to 1M (default 64,1K,16K,64K,1M)", 0},
    {"threads", OPTION_THREADS, "LIST", 0,
        "Numbers of threads, pinned to the processors in turn (default 1,2,4)", 0},
    {"all", OPTION_ALL, NULL, 0, "Show every subject's figures after the targets", 0},
    {"plot", OPTION_PLOT, "FILE", 0,
        "Draw the cost of a pair by size and by threads with gnuplot (.svg, .png, .pdf)",
        0},
    {0},
};

static const char doc[] =
    "Measure what taking and freeing a region costs, against malloc (glibc, jemalloc, "
    "mimalloc, tcmalloc), a free list under a mutex, boost's lock-free stack, DPDK's "
    "rte_mempool with caches and UCX's ucs_mpool under a spinlock. Each runs in a "
    "process of its own; they take turns in each repetition. Those that are not "
    "installed are named."
    "\vmrpool is measured as a shared library with its default checks (mrpool), called "
    "through the linkage table, as clang does (-plt), linked statically (-static), with "
    "the inline forms (-inline), and without checks (-none). A figure is the CPU time of "
    "all threads per operation; a thread that spins for a lock pays for it. Each "
    "repetition goes through all cases, so that a disturbance spoils few of any; while "
    "at least three remain, those in which a thread lost its processor do not count, "
    "except where threads outnumber processors. Regions are not written to while they "
    "are measured; before that, each subject has to show that its regions are memory and "
    "belong to one thread at a time. Instructions are those of the processor's counter "
    "where there is one, else of valgrind. With --cpu all threads share that "
    "processor.\n\n"
    "In --json and --csv a case is named with its subject (pair/dpdk), and ratio is the "
    "baseline's median divided by this median. The goals of --json are what mrpool has "
    "to reach: `is` has to be `at_most` so much.\n\n"
    "Examples:\n"
    "  mrpool-bench pool --sizes 64,64K --threads 1 --patterns pair,batch\n"
    "  mrpool-bench pool --subjects mrpool,mrpool-inline,dpdk,tcmalloc --all\n"
    "  mrpool-bench pool --json --plot pool.svg > pool.json\n";

static int run(int argc, char **argv)
{
    static struct pool_options options = {.common = BENCH_OPTIONS_INIT};
    const struct argp argp = {rows, parse, NULL, doc, bench_options_child, NULL, NULL};

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return run_pool(&options);
}

const struct bench_command bench_command_pool = {
    "pool", "taking and freeing regions, against malloc and other pools", run};
