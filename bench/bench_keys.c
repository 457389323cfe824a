/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench keys: what it takes until every process can reach every buffer of every
 * other one, with keys per chunk and with a key for each buffer.
 */
#include "harness.h"
#include "pool_workers.h"
#include "report.h"
#include "table.h"
#include "targets.h"
#include "units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNTS_MAX 8
#define MANY 100000 /* what the figures per peer are worked out for */

static const char all_networks[] = "ofi:provider=tcp,ucx:tls=tcp+self";

struct keys_options {
    struct bench_options common;
    struct bench_targets networks;
    size_t counts[COUNTS_MAX], n_counts; /* of processes */
    size_t n_buffers, size;
};

static struct keys_options options = {
    .common = BENCH_OPTIONS_INIT, .n_buffers = 256, .size = 4096};

/* -- measuring --------------------------------------------------------------------------
 */

/* Results keep the pointer. */
static const char *unit_of(const char *text)
{
    return strcmp(text, "ns") == 0   ? "ns"
        : strcmp(text, "bytes") == 0 ? "bytes"
                                     : "count";
}

static void measure(struct bench *bench, const struct bench_target *network, size_t n)
{
    const char *path_alone[POOL_ARGUMENTS_MAX];
    struct pool_subject program = {.program = NULL};
    struct pool_worker worker = {.pid = 0};
    struct worker_lines lines = {.n = 0};
    struct bench_subject about = {.provider = network->spec, .threads = (unsigned)n};
    char path[4096], name[32], count[24], n_buffers[24], size[24];
    const char *arguments[] = {path, count, n_buffers, size, network->options, NULL};
    const char *line;
    bool complete = false;

    snprintf(name, sizeof name, "keys-%.24s", network->module);
    program.program = name;
    if (!pool_worker_command(&program, path, sizeof path, path_alone)) {
        bench_note(bench, "%s: built without it", network->label);
        return;
    }
    snprintf(count, sizeof count, "%zu", n);
    snprintf(n_buffers, sizeof n_buffers, "%zu", options.n_buffers);
    snprintf(size, sizeof size, "%zu", options.size);
    bench_progress(bench, "%s: %zu processes", network->label, n);
    if (!pool_worker_spawn(&worker, path, arguments, NULL)) {
        bench_note(bench, "%s: its worker does not start", network->label);
        return;
    }
    lines.file = worker.from;
    while ((line = worker_next_line(&lines)) != NULL) {
        struct bench_samples samples = {.n = 1};
        char figure[40], unit[16];
        size_t processes;

        if (sscanf(line, "value %39s %zu %15s %lf", figure, &processes, unit,
                samples.values) == 4) {
            bench_record(bench, &about, figure, unit_of(unit), &samples, NULL);
        } else if (strncmp(line, "text ", 5) == 0 && n == options.counts[0]) {
            bench_compared(bench, network->spec, line + 5);
        } else if (strncmp(line, "problem ", 8) == 0) {
            bench_note(bench, "%s, %zu processes: %s", network->label, n, line + 8);
        }
        complete = complete || strcmp(line, "end") == 0 || line[0] == 'p';
    }
    pool_worker_stop(&worker);
    if (!complete) {
        bench_note(
            bench, "%s, %zu processes: its worker died or hung", network->label, n);
    }
}

/* -- the table --------------------------------------------------------------------------
 */

static double value_of(
    const struct bench *bench, const char *network, unsigned n, const char *figure)
{
    struct bench_subject about = {.provider = network, .threads = n};
    const struct bench_result *found = bench_find(bench, &about, figure);

    return found != NULL ? found->median : -1;
}

/* A figure of n processes; where n was not measured, per peer of the largest that was. */
static double figure_of(const struct bench *bench, const char *network, unsigned n,
    const char *figure, const char *variant)
{
    char name[48];
    double value;

    snprintf(name, sizeof name, "%s/%s", figure, variant);
    if (n != MANY) {
        return value_of(bench, network, n, name);
    }
    n = (unsigned)options.counts[options.n_counts - 1];
    value = value_of(bench, network, n, name);
    if (strcmp(figure, "registrations") == 0 || value < 0) {
        return value; /* whoever the peers are */
    }
    return value / (n - 1) * (MANY - 1);
}

static struct bench_text count_text(double value)
{
    struct bench_text text = {"-"};

    if (value >= 0) {
        snprintf(text.text, sizeof text.text, "%.0f", value);
    }
    return text;
}

static struct bench_text bytes_text(double value)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct bench_text text = {"-"};
    size_t unit = 0;

    if (value >= 0) {
        while (value >= 1000 && unit < 4) {
            value /= 1024;
            unit++;
        }
        snprintf(text.text, sizeof text.text, "%.3g %s", value, units[unit]);
    }
    return text;
}

static void add_row(struct bench_table *table, const struct bench *bench,
    const char *network, unsigned n, const char *variant, const char *words)
{
    double import = figure_of(bench, network, n, "import", variant);
    struct bench_text cells[] = {
        count_text(n),
        {""},
        count_text(figure_of(bench, network, n, "registrations", variant)),
        bytes_text(figure_of(bench, network, n, "bytes", variant)),
        count_text(figure_of(bench, network, n, "imports", variant)),
        bench_time_text(import),
        bench_time_text(figure_of(bench, network, n, "resolve", variant)),
        bytes_text(figure_of(bench, network, n, "memory", variant)),
    };
    const char *row[8];

    snprintf(cells[1].text, sizeof cells[1].text, "%s", words);
    for (size_t i = 0; i < 8; i++) {
        row[i] = cells[i].text;
    }
    if (import >= 0) {
        bench_table_add(table, row);
    }
}

static void print(const struct bench *bench)
{
    static const char *const titles[] = {"ranks", "<keys", "registered", "received",
        "imports", "importing", "tokens", "memory"};
    struct bench_table *table = bench_table_create(titles, 8);
    char text[256];

    if (table == NULL) {
        return;
    }
    snprintf(text, sizeof text,
        "Until a process can reach all %zu buffers of %s of all others; of an average "
        "process. The last rows are worked out from the figures per peer, not measured.",
        options.n_buffers, bench_size_text(options.size).text);
    putchar('\n');
    bench_print_prose(text, 0);
    for (size_t k = 0; k < options.networks.n; k++) {
        const struct bench_target *network = &options.networks.all[k];

        bench_table_group(table, network->label);
        for (size_t i = 0; i <= options.n_counts; i++) {
            unsigned n = i < options.n_counts ? (unsigned)options.counts[i] : MANY;

            add_row(table, bench, network->spec, n, "chunks", "per chunk");
            add_row(table, bench, network->spec, n, "buffers", "per buffer");
        }
    }
    bench_table_print(table);
    bench_table_destroy(table);
}

static int run_keys(void)
{
    struct bench bench;

    if (!bench_begin(&bench, "keys", &options.common)) {
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < options.networks.n; i++) {
        for (size_t k = 0; k < options.n_counts; k++) {
            measure(&bench, &options.networks.all[i], options.counts[k]);
        }
    }
    return bench_end(&bench, print);
}

/* -- options ----------------------------------------------------------------------------
 */

static void parse_counts(const char *list, struct argp_state *state)
{
    options.n_counts =
        bench_numbers(list, "--processes", 2, 64, 1, options.counts, COUNTS_MAX, state);
}

enum {
    OPTION_NETWORKS = 'n',
    OPTION_PROCESSES = 'p',
    OPTION_BUFFERS = 'b',
    OPTION_SIZE = 's'
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    const char *problem;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options.common;
        return 0;
    case OPTION_NETWORKS:
        problem = bench_targets_parse(text, &options.networks);
        if (problem != NULL) {
            argp_error(state, "--networks %s: %s", text, problem);
        }
        return 0;
    case OPTION_PROCESSES:
        parse_counts(text, state);
        return 0;
    case OPTION_BUFFERS:
        if (!bench_parse_count(text, 1, 10000, &options.n_buffers)) {
            argp_error(state, "--buffers %s: write a number from 1 to 10000", text);
        }
        return 0;
    case OPTION_SIZE:
        if (!bench_parse_size(text, &options.size) || options.size > (1 << 20)) {
            argp_error(state, "--size %s: write a size up to 1M", text);
        }
        return 0;
    case ARGP_KEY_END:
        if (options.networks.n == 0) {
            (void)bench_targets_parse(all_networks, &options.networks);
        }
        if (options.n_counts == 0) {
            parse_counts(options.common.quick ? "2,4" : "2,4,8,16,32,64", state);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option rows[] = {
    {"networks", OPTION_NETWORKS, "LIST", 0,
        "Networks with their options (default ofi:provider=tcp,ucx:tls=tcp+self)", 0},
    {"processes", OPTION_PROCESSES, "LIST", 0,
        "How many processes there are (default 2,4,8,16,32,64)", 0},
    {"buffers", OPTION_BUFFERS, "N", 0, "Of each process (default 256)", 0},
    {"size", OPTION_SIZE, "SIZE", 0, "Bytes of a buffer (default 4K)", 0},
    {0},
};

static const char doc[] =
    "Measure what it takes until every process can reach every buffer of every other "
    "one: with the packed keys of each chunk sent once and a token of 32 bytes for each "
    "buffer; and with every buffer registered by itself, its key, address and size "
    "sent."
    "\v`registered`: registrations of a process. `received`: bytes of keys and tokens, "
    "or of keys, addresses and sizes. `imports`: keys made usable, "
    "ucp_ep_rkey_unpack for UCX; libfabric's are numbers here. `importing` and `tokens`: "
    "CPU time for all of them, and to get from all tokens to addresses. `memory`: what "
    "the process has become larger by. What it means for many peers: docs/SCALING.md.\n"
    "In --json and --csv a case is called received/chunks as bytes/chunks and so on, and "
    "`threads` counts the processes.\n\n"
    "Examples:\n"
    "  mrpool-bench keys --networks ucx:tls=shm+self --processes 2,8\n"
    "  mrpool-bench keys --buffers 1000 --size 64K --json\n";

static int run(int argc, char **argv)
{
    const struct argp argp = {rows, parse, NULL, doc, bench_options_child, NULL, NULL};

    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    return run_keys();
}

const struct bench_command bench_command_keys = {
    "keys", "keys for many peers: per chunk and per buffer", run};
