/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of verbs_rma, and the plan: the part of it that both processes must
 * agree on.
 */
#ifndef EXAMPLES_VERBS_RMA_OPTIONS_H
#define EXAMPLES_VERBS_RMA_OPTIONS_H

#include "peer.h"

#include <argp.h>
#include <inttypes.h>

#define GID_INDEX_MAX 255 /* a queue pair takes no larger one */

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
    size_t only_size; /* bytes of every transfer; 0: all sizes up to max_size */
};

struct options {
    enum role role;
    const char *host; /* of the server, for a client */
    const char *address; /* where the server listens */
    unsigned port;
    size_t timeout; /* seconds */
    bool quiet;
    const char *device; /* NULL: the first with an active port */
    int gid_index; /* -1: the best of the port */
    unsigned device_port; /* 0: the first active one */
    struct plan plan;
};

enum option_key {
    OPTION_SERVER = 256,
    OPTION_CLIENT,
    OPTION_PORT,
    OPTION_ADDRESS,
    OPTION_DEVICE_PORT,
    OPTION_MAX_SIZE,
    OPTION_SEED
};

static const struct argp_option options_table[] = {
    {NULL, 0, NULL, 0, "What to use", 1},
    {"device", 'd', "NAME", 0, "verbs device (the first with an active port)", 0},
    {"device-port", OPTION_DEVICE_PORT, "N", 0, "its port (the first active one)", 0},
    {"gid-index", 'g', "N", 0,
        "index of the port's address (a RoCE v2 one of IPv4, where there is one)", 0},
    {NULL, 0, NULL, 0, "What to do", 2},
    {"size", 's', "BYTES", 0, "transfers of this size only", 0},
    {"max-size", OPTION_MAX_SIZE, "BYTES", 0, "largest of all sizes (16M)", 0},
    {"rounds", 'r', "N", 0, "rounds after the warm-up (3)", 0},
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
    "RDMA writes, reads and compare-and-swaps between two processes, from and to pool "
    "memory, over one verbs queue pair: sizes from 1 byte to 16 MiB in both directions, "
    "every byte verified, and nothing registered after the warm-up."
    "\vWithout --server or --client it starts its peer itself, on this machine.\n\n"
    "Examples:\n"
    "  verbs_rma --device mlx5_0\n"
    "  verbs_rma --device rxe0 --gid-index 1 --size 64K\n"
    "  verbs_rma --server                 on one machine, and\n"
    "  verbs_rma --client 192.0.2.1       on the other\n\n"
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
    case 'd':
        /* it becomes one of the provider's options, which a comma ends */
        if (strlen(argument) >= 64 || strchr(argument, ',') != NULL) {
            argp_error(
                state, "'%s' is no name of a device: `ibv_devices` lists them", argument);
        }
        options->device = argument;
        break;
    case 'g':
        options->gid_index = (int)option_number(state, argument, 0, GID_INDEX_MAX);
        break;
    case OPTION_DEVICE_PORT:
        options->device_port = (unsigned)option_number(state, argument, 1, 255);
        break;
    case 's':
        options->plan.only_size = option_number(state, argument, 1, 1u << 30);
        break;
    case OPTION_MAX_SIZE:
        options->plan.max_size = option_number(state, argument, 1, 1u << 30);
        break;
    case 'r':
        options->plan.rounds = option_number(state, argument, 1, 1000000);
        break;
    case OPTION_SEED:
        options->plan.seed = option_number(state, argument, 0, UINT32_MAX);
        break;
    case 't':
        options->timeout = option_number(state, argument, 1, 3600);
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
    case 'q':
        options->quiet = true;
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

    *options = (struct options){.timeout = 30, .port = 47471, .gid_index = -1};
    options->plan = (struct plan){.seed = 1, .rounds = 3, .max_size = (size_t)16 << 20};
    argp_parse(&argp, argc, argv, 0, NULL, options);
    if (options->address == NULL) {
        options->address = options->role == ROLE_SERVER ? "0.0.0.0" : "127.0.0.1";
    }
}

/* Start our client, with our options. */
static bool options_spawn(const struct options *options, unsigned port, struct peer *peer)
{
    const char *device = options->device;
    const char *arguments[20] = {
        program_invocation_short_name, "--client", options->address, "--quiet", "--port"};
    char port_text[16], timeout_text[24], device_port_text[16], gid_text[16];
    size_t n = 5;

    snprintf(port_text, sizeof(port_text), "%u", port);
    snprintf(timeout_text, sizeof(timeout_text), "%zu", options->timeout);
    snprintf(device_port_text, sizeof(device_port_text), "%u", options->device_port);
    snprintf(gid_text, sizeof(gid_text), "%d", options->gid_index);
    arguments[n++] = port_text;
    arguments[n++] = "--timeout";
    arguments[n++] = timeout_text;
    if (device != NULL) {
        arguments[n++] = "--device";
        arguments[n++] = device;
    }
    if (options->device_port > 0) {
        arguments[n++] = "--device-port";
        arguments[n++] = device_port_text;
    }
    if (options->gid_index >= 0) {
        arguments[n++] = "--gid-index";
        arguments[n++] = gid_text;
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

/* The server tells the plan; a client takes it over. */
static bool plan_agree(struct options *options, struct peer *peer)
{
    struct plan *plan = &options->plan;
    struct peer_message message;
    char text[256];

    if (options->role != ROLE_CLIENT) {
        int size = snprintf(text, sizeof(text),
            "verbs_rma 1: seed %" PRIu64 ", %zu rounds, up to %zu bytes, only %zu",
            plan->seed, plan->rounds, plan->max_size, plan->only_size);

        return peer_send(peer, PEER_PLAN, text, (size_t)size);
    }
    if (!peer_receive(peer, PEER_PLAN, &message)) {
        return false;
    }
    return (sscanf((char *)message.body,
                "verbs_rma 1: seed %" SCNu64 ", %zu rounds, up to %zu bytes, only %zu",
                &plan->seed, &plan->rounds, &plan->max_size, &plan->only_size) == 4 &&
               plan->max_size <= 1u << 30 && plan->only_size <= 1u << 30) ||
        complain("the server's plan is not understood: not this version of verbs_rma?");
}

#endif
