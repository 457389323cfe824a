/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench rma: one-sided messages between two processes, from memory of the pool, of
 * memory registered for each message, and of memory left to the network library.
 */
#include "rma.h"
#include "units.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a machine may have; what it lacks is noted. */
static const char all_networks[] = "ofi:provider=tcp,ofi:provider=shm,ofi:provider=verbs,"
                                   "ucx:tls=tcp+self,ucx:tls=shm+self,"
                                   "verbs,mpi,mpich";

/* A message from the pool costs no more than the best that there is without it; and no more
 * than if there were no registration, so that all of that is saved. */
static void hold(struct bench *bench, const struct rma_options *options,
    const struct bench_target *network)
{
    static const char *const operations[] = {"put", "get"};
    static const char *const figures[] = {"latency", "message"};
    static const char *const ratios[] = {RMA_TO_CACHE, RMA_TO_ONCE};

    for (size_t i = 0; i < 8 * options->n_sizes; i++) {
        const struct bench_result *ratio =
            rma_find(bench, network->spec, options->sizes[i / 8], operations[i / 4 % 2],
                figures[i / 2 % 2], ratios[i % 2]);

        if (ratio != NULL) {
            bench_hold_interval(bench, ratio, RMA_AT_MOST);
        }
    }
}

static size_t count(const struct bench *bench, const char *verdict)
{
    size_t n = 0;

    for (size_t i = 0; i < bench->n_goals; i++) {
        n += strcmp(bench_verdict(&bench->goals[i]), verdict) == 0;
    }
    return n;
}

static int run_rma(struct rma_options *options)
{
    struct bench bench;
    cpu_set_t cpus;
    bool drawn = true;
    char bounds[128];
    int exit_status;

    CPU_ZERO(&cpus);
    sched_getaffinity(0, sizeof cpus, &cpus);
    if (options->is_server) {
        return rma_serve(options, &options->networks.all[0]);
    }
    if (!bench_begin(&bench, "rma", &options->common)) {
        return EXIT_FAILURE;
    }
    sched_setaffinity(0, sizeof cpus, &cpus); /* two processes work at once */
    for (size_t i = 0; i < options->networks.n; i++) {
        rma_measure(&bench, options, &options->networks.all[i]);
        hold(&bench, options, &options->networks.all[i]);
    }
    if (options->plot != NULL && bench.n_results > 0) {
        drawn = rma_plot(&bench, options->plot);
    }
    snprintf(bounds, sizeof bounds,
        "Bounds (at most %g times): %zu reached, %zu open, %zu missed of %zu.",
        RMA_AT_MOST, count(&bench, "reached"), count(&bench, "open"),
        count(&bench, "missed"), bench.n_goals);
    exit_status = bench_end(&bench, rma_print);
    if (options->common.format == BENCH_TABLE) {
        printf("\n%s\n", bounds); /* below all that the report says */
    }
    return drawn ? exit_status : EXIT_FAILURE;
}

/* -- options ---------------------------------------------------------------------------
 */

static void parse_sizes(
    struct rma_options *options, const char *list, struct argp_state *state)
{
    options->n_sizes = bench_numbers(
        list, "--sizes", 1, (size_t)64 << 20, 1, options->sizes, RMA_SIZES_MAX, state);
}

static void set_defaults(struct rma_options *options, struct argp_state *state)
{
    if (options->networks.n == 0) {
        (void)bench_targets_parse(all_networks, &options->networks);
        if (options->is_server || options->host != NULL) {
            argp_error(state, "two machines use one network: name it with --networks");
        }
    }
    if ((options->is_server || options->host != NULL) && options->networks.n > 1) {
        argp_error(state, "--networks: one, where the peer is on another machine");
    }
    if ((options->is_server || options->host != NULL) &&
        strncmp(options->networks.all[0].module, "mpi", 3) == 0) {
        argp_error(state,
            "--networks %s: mpirun starts both processes of it, on this machine; "
            "--server and --connect are for the other networks",
            options->networks.all[0].module);
    }
    if (options->limit_s == 0) {
        options->limit_s = RMA_LIMIT_S;
    }
    if (options->n_sizes == 0) {
        parse_sizes(options,
            options->common.quick ? "64,64K" : "8,64,512,4K,32K,256K,1M,4M", state);
    }
}

enum {
    OPTION_SIZES = 's',
    OPTION_NETWORKS = 'n',
    OPTION_SERVER = 300,
    OPTION_CONNECT,
    OPTION_ADDRESS,
    OPTION_PORT,
    OPTION_PLOT,
    OPTION_LIMIT
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct rma_options *options = state->input;
    const char *problem;
    size_t port;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case OPTION_SIZES:
        parse_sizes(options, text, state);
        return 0;
    case OPTION_NETWORKS:
        problem = bench_targets_parse(text, &options->networks);
        if (problem != NULL) {
            argp_error(state, "--networks %s: %s", text, problem);
        }
        return 0;
    case OPTION_SERVER:
        options->is_server = true;
        return 0;
    case OPTION_CONNECT:
        options->host = text;
        return 0;
    case OPTION_ADDRESS:
        options->address = text;
        return 0;
    case OPTION_PORT:
        if (!bench_parse_count(text, 1, 65535, &port)) {
            argp_error(state, "--port %s: write a number from 1 to 65535", text);
        }
        options->port = text;
        return 0;
    case OPTION_LIMIT:
        if (!bench_parse_count(text, 1, 30, &options->limit_s)) {
            argp_error(state, "--limit %s: write seconds from 1 to 30", text);
        }
        return 0;
    case OPTION_PLOT:
        options->plot = text;
        return 0;
    case ARGP_KEY_END:
        set_defaults(options, state);
        if (options->is_server && options->address == NULL) {
            options->address = "0.0.0.0";
        }
        if ((options->is_server || options->host != NULL) && options->port == NULL) {
            options->port = "47471";
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option rows[] = {
    {"networks", OPTION_NETWORKS, "LIST", 0,
        "Networks with their options, "
        "ofi:provider=tcp,ucx:tls=shm+self,verbs:device=mlx5_0,mpi "
        "(default all that there are)",
        0},
    {"sizes", OPTION_SIZES, "LIST", 0, "Bytes of a message, 64,4K,1M (default 8 to 4M)",
        0},
    {"server", OPTION_SERVER, NULL, 0, "Wait for a client on another machine", 0},
    {"connect", OPTION_CONNECT, "HOST", 0, "Measure against the server there", 0},
    {"address", OPTION_ADDRESS, "IP", 0,
        "Where the server listens (0.0.0.0 with --server); a client's network is the one "
        "that reaches it",
        0},
    {"port", OPTION_PORT, "N", 0, "Of the server (47471)", 0},
    {"limit", OPTION_LIMIT, "SECONDS", 0,
        "Sample a case so long at most while a bound is open (3), and 16 rounds at least",
        0},
    {"plot", OPTION_PLOT, "FILE", 0,
        "Draw bandwidth by size with gnuplot (.svg, .png, .pdf)", 0},
    {0},
};

static const char doc[] =
    "Measure one-sided puts and gets between two processes, on each network: the buffer "
    "taken from a pool for the message and given back after it; registered for the "
    "message, as a program does it without a pool; left to the library and the cache it "
    "may have; and registered once by hand, where nothing is left to save."
    "\vLatency is one message at a time, until it has arrived: for libfabric completed "
    "with FI_DELIVERY_COMPLETE, for UCX flushed, for MPI flushed, for verbs "
    "acknowledged. Bandwidth has 16 messages under way (16 MiB at most), each with a "
    "buffer of its own; of gets over verbs no more than both devices serve at once. "
    "All include what the buffer costs. Times are wall-clock time: both processes and "
    "the network's own threads share the machine. Verified once before measuring.\n"
    "A round is a batch of each, in an order drawn by chance. What is held to a bound is "
    "the median of the rounds' ratios, and is reached (or missed) when its interval of "
    "99 % lies below (or above); else it is open, and rounds go on, 512 at most, or "
    "until --limit; --repetitions, without a default here, says how many instead. The "
    "control is `once` measured against itself, on other memory.\n"
    "In --json and --csv a case is called put/latency/pool or put/message/register, "
    "where message is the time per message with many under way; `registration` is "
    "registering and deregistering alone. ratio is `register` divided by this. Of "
    "put/latency/pool/cache the values are ratios of the rounds; low and high are the "
    "interval of a median.\n\n"
    "Examples:\n"
    "  mrpool-bench rma --networks ofi:provider=shm,ucx:tls=shm+self --sizes 64,64K\n"
    "  mrpool-bench rma --plot rma.svg\n"
    "  mrpool-bench rma --server --networks ofi:provider=verbs              on one "
    "machine\n"
    "  mrpool-bench rma --connect 192.0.2.1 --networks ofi:provider=verbs   on the "
    "other\n";

static int run(int argc, char **argv)
{
    static struct rma_options options = {.common = BENCH_OPTIONS_INIT};
    const struct argp argp = {rows, parse, NULL, doc, bench_options_child, NULL, NULL};

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return run_rma(&options);
}

const struct bench_command bench_command_rma = {
    "rma", "one-sided messages from a pool, per-message registration, or a cache", run};
