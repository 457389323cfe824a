/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of ucx_rma, and how its two processes find each other.
 */
#ifndef EXAMPLES_UCX_RMA_OPTIONS_H
#define EXAMPLES_UCX_RMA_OPTIONS_H

#include "peer.h"
#include "ucx_endpoint.h"

#include <argp.h>
#include <inttypes.h>

enum role {
    ROLE_BOTH, /* server, and starts its client itself */
    ROLE_SERVER,
    ROLE_CLIENT
};

/* Settled by the server. */
struct plan {
    uint64_t seed;
    size_t rounds;
    size_t max_size; /* bytes of the largest transfer */
};

struct options {
    enum role role;
    const char *host; /* of the server, for a client */
    const char *address; /* where the server listens */
    unsigned port;
    size_t timeout; /* seconds */
    bool quiet;
    bool ucx_memory; /* regions in memory that UCX allocates */
    struct ucx_options ucx;
    struct plan plan;
};

enum option_key {
    OPTION_SERVER = 256,
    OPTION_CLIENT,
    OPTION_PORT,
    OPTION_ADDRESS,
    OPTION_SEED
};

static const struct argp_option options_table[] = {
    {NULL, 0, NULL, 0, "What to use", 1},
    {"tls", 'x', "LIST", 0, "UCX's transports, as UCX_TLS: tcp, posix,sysv, rc, ...", 0},
    {"devices", 'd', "LIST", 0, "network devices, as UCX_NET_DEVICES", 0},
    {"memory", 'm', "mmap|ucx", 0,
        "regions in mrpool's own memory (default), or in what UCX allocates, which its "
        "shared memory transports reach without copying twice",
        0},
    {NULL, 0, NULL, 0, "What to do", 2},
    {"rounds", 'r', "N", 0, "rounds after the warm-up (3)", 0},
    {"max-size", 's', "BYTES", 0, "largest transfer (16M)", 0},
    {"seed", OPTION_SEED, "N", 0, "of the pattern (1)", 0},
    {"timeout", 't', "SECONDS", 0, "longest wait for anything (30)", 0},
    {NULL, 0, NULL, 0, "Where to run", 3},
    {"server", OPTION_SERVER, NULL, 0, "wait for one client", 0},
    {"client", OPTION_CLIENT, "HOST", 0, "work with the server there", 0},
    {"port", OPTION_PORT, "N", 0, "where the server listens (47471)", 0},
    {"address", OPTION_ADDRESS, "IP", 0,
        "address to listen at: 0.0.0.0 for a server, else 127.0.0.1", 0},
    {NULL, 0, NULL, 0, "What to print", 4},
    {"quiet", 'q', NULL, 0, "nothing but complaints", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char options_doc[] =
    "One-sided puts, gets and atomics between two processes, from and to pool memory, "
    "over UCX: sizes from 1 byte to 16 MiB in both directions, every byte verified, and "
    "nothing registered after the warm-up."
    "\vWithout --server or --client it starts its peer itself, on this machine.\n\n"
    "Examples:\n"
    "  ucx_rma\n"
    "  ucx_rma --tls tcp --rounds 10\n"
    "  ucx_rma --tls posix,sysv --memory ucx\n"
    "  ucx_rma --server --tls rc                     on one machine, and\n"
    "  ucx_rma --client 192.0.2.1 --tls rc           on the other\n\n"
    "The exit status is 0 only when every byte was right and nothing was registered "
    "after the warm-up.";

/* A number with an optional K, M or G, within bounds; anything else ends the program. */
static uint64_t option_number(
    struct argp_state *state, const char *text, uint64_t least, uint64_t most)
{
    static const char units[] = "KMG";
    const char *unit;
    char *end;
    uint64_t number;
    unsigned shift = 0;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (*end != '\0' && (unit = strchr(units, toupper((unsigned char)*end))) != NULL) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
    }
    if (errno != 0 || !isdigit((unsigned char)text[0]) || *end != '\0' ||
        number > most >> shift || number << shift < least) {
        argp_error(state, "'%s' is not a number from %" PRIu64 " to %" PRIu64, text,
            least, most);
    }
    return number << shift;
}

static error_t options_take(int key, char *argument, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case 'x':
        options->ucx.tls = argument;
        break;
    case 'd':
        options->ucx.devices = argument;
        break;
    case 'm':
        if (strcmp(argument, "mmap") != 0 && strcmp(argument, "ucx") != 0) {
            argp_error(state, "--memory is mmap or ucx, not '%s'", argument);
        }
        options->ucx_memory = argument[0] == 'u';
        break;
    case 'r':
        options->plan.rounds = option_number(state, argument, 1, 1000000);
        break;
    case 's':
        options->plan.max_size = option_number(state, argument, 1, 1u << 30);
        break;
    case 't':
        options->timeout = option_number(state, argument, 1, 3600);
        break;
    case 'q':
        options->quiet = true;
        break;
    case OPTION_SEED:
        options->plan.seed = option_number(state, argument, 0, UINT32_MAX);
        break;
    case OPTION_SERVER:
        options->role = ROLE_SERVER;
        break;
    case OPTION_CLIENT:
        options->role = ROLE_CLIENT;
        options->host = argument;
        break;
    case OPTION_PORT:
        options->port = (unsigned)option_number(state, argument, 1, 65535);
        break;
    case OPTION_ADDRESS:
        options->address = argument;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void options_parse(struct options *options, int argc, char **argv)
{
    static const struct argp argp = {
        .options = options_table, .parser = options_take, .doc = options_doc};

    *options = (struct options){.timeout = 30, .port = 47471};
    options->plan = (struct plan){.seed = 1, .rounds = 3, .max_size = (size_t)16 << 20};
    argp_parse(&argp, argc, argv, 0, NULL, options);
    if (options->address == NULL) {
        options->address = options->role == ROLE_SERVER ? "0.0.0.0" : "127.0.0.1";
    }
}

/* Start our client, with our options. */
static bool options_spawn(const struct options *options, unsigned port, struct peer *peer)
{
    char port_text[16], timeout_text[24];
    const char *arguments[16] = {program_invocation_short_name, "--client",
        options->address, "--port", port_text, "--timeout", timeout_text, "--quiet",
        "--memory", options->ucx_memory ? "ucx" : "mmap"};
    size_t n = 10;

    snprintf(port_text, sizeof(port_text), "%u", port);
    snprintf(timeout_text, sizeof(timeout_text), "%zu", options->timeout);
    if (options->ucx.tls != NULL) {
        arguments[n++] = "--tls";
        arguments[n++] = options->ucx.tls;
    }
    if (options->ucx.devices != NULL) {
        arguments[n++] = "--devices";
        arguments[n++] = options->ucx.devices;
    }
    return peer_spawn(peer, (char *const *)arguments);
}

/* Find the peer: start it, wait for it, or call on it. */
static bool options_meet(const struct options *options, struct peer *peer)
{
    unsigned port = options->role == ROLE_BOTH ? 0 : options->port;
    bool met;
    int listener;

    if (options->role == ROLE_CLIENT) {
        return peer_connect(peer, options->host, port);
    }
    listener = peer_listen(options->address, &port);
    if (listener < 0) {
        return false;
    }
    met = (options->role == ROLE_SERVER || options_spawn(options, port, peer)) &&
        peer_accept(peer, listener);
    close(listener);
    return met;
}

/* The server tells the plan, a client takes it over. */
static bool plan_agree(struct options *options, struct peer *peer)
{
    struct plan *plan = &options->plan;
    struct peer_message message;
    char text[128];

    if (options->role != ROLE_CLIENT) {
        int size = snprintf(text, sizeof(text),
            "ucx_rma 1: seed %" PRIu64 ", %zu rounds, %zu bytes", plan->seed,
            plan->rounds, plan->max_size);

        return peer_send(peer, PEER_PLAN, text, (size_t)size);
    }
    if (!peer_receive(peer, PEER_PLAN, &message)) {
        return false;
    }
    return (sscanf((char *)message.body,
                "ucx_rma 1: seed %" SCNu64 ", %zu rounds, %zu bytes", &plan->seed,
                &plan->rounds, &plan->max_size) == 3 &&
               plan->max_size <= 1u << 30) ||
        complain("the server's plan is not understood: not this version of ucx_rma?");
}

#endif
