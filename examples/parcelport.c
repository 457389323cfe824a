/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A message layer over libfabric or UCX with its memory from a pool, as a transport would
 * have it, and a load that shows what it does: messages of 8 bytes to 1 MiB between two or
 * more processes, every byte verified, nothing registered after the warm-up. parcelport.h
 * says which file has what; this one has the options and what a process does.
 */
#include "parcelport.h"

#include "options.h"
#include "parcelport_launch.h"
#include "parcelport_load.h"
#include "parcelport_network.h"
#include "parcelport_packet.h"
#include "parcelport_report.h"

#include <stdio.h>
#include <unistd.h>

/* What this program was built with; the first one is the default. */
static const struct network_ops *const networks[] = {
#ifdef HAVE_OFI
    &network_ofi,
#endif
#ifdef HAVE_UCX
    &network_ucx,
#endif
    NULL};

/* -- options -- */

enum option_key {
    OPTION_EAGER = 256,
    OPTION_KEYS,
    OPTION_SEED,
    OPTION_MIX,
    OPTION_TIMEOUT,
    OPTION_JSON,
    OPTION_RANK,
    OPTION_PORT
};

static const struct argp_option options_table[] = {
    {NULL, 0, NULL, 0, "What to use", 1},
    {"network", 'N', "ofi|ucx", 0, "libfabric (default) or UCX", 0},
    {"provider", 'p', "NAME", 0,
        "ofi: tcp (default), shm, verbs; ucx: tcp (default), shm, or a list of its "
        "transports",
        0},
    {"processes", 'n', "N", 0, "how many, 2 to 16 (2)", 0},
    {NULL, 0, NULL, 0, "What to do", 2},
    {"messages", 'm', "N", 0, "of all processes together, after the warm-up (1000000)",
        0},
    {"mix", OPTION_MIX, "small|even", 0,
        "mostly small messages (default), or every power of two as often as the others",
        0},
    {"seed", OPTION_SEED, "N", 0, "of sizes, receivers and bytes (1)", 0},
    {NULL, 0, NULL, 0, "The message layer", 3},
    {"pool", 'P', "BYTES", 0,
        "memory of each process, a power of two from 8M: less of it means more waiting "
        "(32M)",
        0},
    {"eager", OPTION_EAGER, "BYTES", 0,
        "largest message that is sent at once, up to 12K: beyond that the networks would "
        "register by themselves (8K)",
        0},
    {"window", 'w', "N", 0, "messages under way to one peer, 2 to 256 (64)", 0},
    {"keys", OPTION_KEYS, "N", 0, "chunks of one peer whose keys are kept (64)", 0},
    {"timeout", OPTION_TIMEOUT, "SECONDS", 0, "without any progress (30)", 0},
    {NULL, 0, NULL, 0, "What to print", 4},
    {"json", OPTION_JSON, NULL, 0, "one JSON object instead of the table", 0},
    {"quiet", 'q', NULL, 0, "nothing but complaints", 0},
    {"rank", OPTION_RANK, "N", OPTION_HIDDEN, NULL, 0},
    {"port", OPTION_PORT, "N", OPTION_HIDDEN, NULL, 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char options_doc[] =
    "A message layer over libfabric or UCX with its memory from a pool: eager messages "
    "with the header in front of the payload, large ones by one-sided reads of the "
    "sender's regions, between processes that it starts itself. Every byte is verified, "
    "and nothing is registered after the warm-up."
    "\vExamples:\n"
    "  parcelport\n"
    "  parcelport --processes 4 --messages 100000\n"
    "  parcelport --network ucx --provider shm\n"
    "  parcelport --messages 20000 --mix even --pool 8M --window 16 --keys 1\n"
    "                                         memory and keys are short\n\n"
    "The exit status is 0 only when every byte was right, nothing was registered after "
    "the warm-up, and every stale token was refused.";

static const struct network_ops *option_network(
    struct argp_state *state, const char *name)
{
    for (size_t i = 0; networks[i] != NULL; i++) {
        if (strcmp(networks[i]->name, name) == 0) {
            return networks[i];
        }
    }
    argp_error(state, "--network %s: this program was built without it", name);
    return NULL;
}

static error_t options_take(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case 'N':
        options->network = option_network(state, argument);
        break;
    case 'p':
        options->provider = argument;
        break;
    case 'n':
        options->n_processes = (unsigned)option_number(state, argument, 2, PROCESSES_MAX);
        break;
    case 'm':
        options->n_messages = option_number(state, argument, 1, UINT32_MAX);
        break;
    case OPTION_SEED:
        options->seed = option_number(state, argument, 0, UINT32_MAX);
        break;
    case OPTION_MIX:
        if (strcmp(argument, "small") != 0 && strcmp(argument, "even") != 0) {
            argp_error(state, "--mix is small or even, not '%s'", argument);
        }
        options->is_even = argument[0] == 'e';
        break;
    case 'P':
        options->pool_size = option_number(state, argument, 8 << 20, 1u << 30);
        if ((options->pool_size & (options->pool_size - 1)) != 0) {
            argp_error(state, "--pool %s is not a power of two", argument);
        }
        break;
    case OPTION_EAGER:
        options->eager_max = option_number(state, argument, 64, 12 << 10);
        break;
    case 'w':
        options->window = (unsigned)option_number(state, argument, 2, WINDOW_MAX);
        break;
    case OPTION_KEYS:
        options->max_keys = (unsigned)option_number(state, argument, 1, CHUNKS_MAX);
        break;
    case OPTION_TIMEOUT:
        options->timeout = (unsigned)option_number(state, argument, 1, 3600);
        break;
    case OPTION_JSON:
        options->json = true;
        break;
    case 'q':
        options->quiet = true;
        break;
    case OPTION_RANK:
        options->rank = (int)option_number(state, argument, 0, PROCESSES_MAX - 1);
        break;
    case OPTION_PORT:
        options->port = (unsigned)option_number(state, argument, 1, 65535);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Receives posted for all peers may have a quarter of the pool, like what goes out. */
static bool options_fit(const struct options *options)
{
    size_t message = options->eager_max + options->eager_max / 4 + 1024;
    size_t posted = (options->n_processes - 1) * 2 * options->window * message;

    return posted <= options->pool_size / 4 ||
        trouble("a window of %u to %u peers needs %zu KiB of receives, a quarter of the "
                "pool is %zu: --pool more, or --window or --eager less",
            options->window, options->n_processes - 1, posted >> 10,
            options->pool_size >> 12);
}

static bool options_parse(struct options *options, int argc, char **argv)
{
    static const struct argp argp = {
        .options = options_table, .parser = options_take, .doc = options_doc};

    *options = (struct options){.network = networks[0],
        .n_processes = 2,
        .n_messages = 1000000,
        .seed = 1,
        .pool_size = (size_t)32 << 20,
        .eager_max = 8192,
        .window = 64,
        .max_keys = CHUNKS_MAX,
        .timeout = 30,
        .rank = -1};
    argp_parse(&argp, argc, argv, 0, NULL, options);
    if (options->network == NULL) {
        return trouble("this program was built without libfabric and without UCX");
    }
    if (options->provider == NULL) {
        options->provider = options->network->default_provider;
    }
    options->n_warm_up = options->n_messages / 20 + 1000 * options->n_processes;
    return options_fit(options);
}

/* -- one process -- */

struct process {
    const struct options *options;
    struct port *port;
    struct load load;
    struct report report;
    uint64_t told[PROCESSES_MAX]; /* a number that each process has for us */
};

static bool process_connect(
    void *process_arg, unsigned rank, const void *bytes, size_t size)
{
    struct process *process = process_arg;

    return rank == (unsigned)process->options->rank ||
        port_connect(process->port, rank, bytes, size);
}

static bool process_open(struct process *process)
{
    const struct options *options = process->options;
    struct port_events events = load_events;
    unsigned char address[4096];
    size_t size = sizeof(address);
    char node[128];

    events.user = &process->load;
    if (!launch_join(options) || !launch_node(node, sizeof(node))) {
        return false;
    }
    process->port = port_open(options, node, &events);
    if (process->port == NULL) {
        return false;
    }
    process->load.options = options;
    process->load.port = process->port;
    process->load.rank = (unsigned)options->rank;
    snprintf(process->report.network, sizeof(process->report.network), "%s",
        port_describe(process->port));
    return port_address(process->port, address, &size) &&
        launch_share(options, address, size, process_connect, process) &&
        port_start(process->port) && launch_share(options, NULL, 0, NULL, NULL);
}

static bool process_take_told(
    void *process_arg, unsigned rank, const void *bytes, size_t size)
{
    struct process *process = process_arg;
    uint64_t numbers[PROCESSES_MAX];

    if (size != sizeof(numbers)) {
        return trouble("rank %u shares %zu bytes", rank, size);
    }
    memcpy(numbers, bytes, sizeof(numbers));
    process->told[rank] = numbers[process->options->rank];
    return true;
}

/* Tell each process a number, and hear theirs. */
static bool process_tell(
    struct process *process, uint64_t (*number)(struct port *port, unsigned rank))
{
    uint64_t numbers[PROCESSES_MAX] = {0};

    for (unsigned i = 0; i < process->options->n_processes; i++) {
        numbers[i] = number(process->port, i);
    }
    return launch_share(
        process->options, numbers, sizeof(numbers), process_take_told, process);
}

/* Acknowledgements that were sent twice may still be on their way: wait for the last of
 * them, so that what is counted is complete. */
static bool process_settle(struct process *process)
{
    const struct options *options = process->options;
    uint64_t deadline = clock_ns() + options->timeout * UINT64_C(1000000000);
    uint64_t n_repeats = 0;
    bool busy;

    if (!process_tell(process, port_repeated)) {
        return false;
    }
    for (unsigned i = 0; i < options->n_processes; i++) {
        n_repeats += process->told[i];
    }
    while (port_counts(process->port)->n_acks_stale < n_repeats) {
        if (!port_poll(process->port, &busy)) {
            return false;
        }
        if (clock_ns() > deadline) {
            return trouble("%" PRIu64 " acknowledgements were sent to us twice, %" PRIu64
                           " were refused",
                n_repeats, port_counts(process->port)->n_acks_stale);
        }
        port_wait(process->port);
    }
    return launch_share(options, NULL, 0, NULL, NULL);
}

/* Everybody falls silent, hears the last of the others, and says good-bye before anybody
 * goes: the last words of one process need the others still to listen. */
static bool process_part(struct process *process)
{
    const struct options *options = process->options;

    if (!port_stop(process->port)) {
        return false;
    }
    launch_meanwhile(port_progress, process->port);
    if (!process_tell(process, port_messages_to) ||
        !port_drain(process->port, process->told) ||
        !launch_share(options, NULL, 0, NULL, NULL) || !port_disconnect(process->port) ||
        !launch_share(options, NULL, 0, NULL, NULL)) {
        return false;
    }
    launch_meanwhile(NULL, NULL);
    return true;
}

static bool process_run(struct process *process)
{
    const struct options *options = process->options;
    struct report *report = &process->report;
    struct load *load = &process->load;

    if (!process_open(process) || !load_run(load, 0, options->n_warm_up) ||
        !process_settle(process) || !port_memory(process->port, &report->warm)) {
        return false;
    }
    report_take(process->port, &report->warm_counts);
    if (!load_run(load, options->n_warm_up, options->n_messages) ||
        !process_settle(process) || !port_memory(process->port, &report->end)) {
        return false;
    }
    report_take(process->port, &report->counts);
    report->pid = (uint64_t)getpid();
    report->sent = load->n_sent;
    report->received = load->n_received;
    report->bytes = load->bytes_sent;
    report->nanoseconds = load->nanoseconds;
    return process_part(process) && launch_report(report);
}

static bool process_main(const struct options *options)
{
    static struct process process;
    bool good;

    process.options = options;
    good = process_run(&process);
    alarm(options->timeout); /* closing is a wait like any other */
    if (process.port != NULL) {
        if (!good) {
            port_abort(process.port);
        }
        good &= port_stop(process.port);
        good &= port_close(process.port);
    }
    launch_leave(good);
    return good;
}

/* -- main -- */

int main(int argc, char **argv)
{
    static struct report reports[PROCESSES_MAX];
    struct options options;
    bool good;

    good = options_parse(&options, argc, argv) &&
        (options.rank >= 0 ? process_main(&options)
                           : launch_all(&options, argv, argc, reports) &&
                    report_print(&options, reports));
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
