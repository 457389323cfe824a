/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What ofi_rma, ucx_rma and verbs_rma have in common before they come to their networks:
 * options, how the two processes find each other, and the plan, the part of the options
 * that both must agree on.
 */
#ifndef EXAMPLES_RMA_OPTIONS_H
#define EXAMPLES_RMA_OPTIONS_H

#include "options.h"
#include "peer.h"

#define SIZE_LARGEST (1u << 30)

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

struct rma_options {
    enum role role;
    const char *host; /* of the server, for a client */
    const char *address; /* where the server listens */
    unsigned port;
    size_t timeout; /* seconds */
    bool quiet;
    struct plan plan;
    int argc;
    char **argv;
};

enum rma_option_key {
    OPTION_SERVER = 256,
    OPTION_CLIENT,
    OPTION_PORT,
    OPTION_ADDRESS,
    OPTION_SEED,
    OPTION_OWN /* the first of an example's own */
};

static const struct argp_option rma_options_table[] = {
    {NULL, 0, NULL, 0, "What to do", 2},
    {"rounds", 'r', "N", 0, "rounds after the warm-up (3)", 0},
    {"max-size", 's', "BYTES", 0, "largest transfer (16M)", 0},
    {"seed", OPTION_SEED, "N", 0, "of the pattern (1)", 0},
    {"timeout", 't', "SECONDS", 0, "longest wait for anything (30)", 0},
    {NULL, 0, NULL, 0, "Where to run", 3},
    {"server", OPTION_SERVER, NULL, 0, "wait for one client", 0},
    {"client", OPTION_CLIENT, "HOST", 0, "work with the server there", 0},
    {"port", OPTION_PORT, "N", 0, "where the server listens (47470)", 0},
    {"address", OPTION_ADDRESS, "IP", 0,
        "address to listen at: 0.0.0.0 for a server, else 127.0.0.1", 0},
    {NULL, 0, NULL, 0, "What to print", 4},
    {"quiet", 'q', NULL, 0, "nothing but complaints", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t rma_options_take(int key, char *argument, struct argp_state *state)
{
    struct rma_options *options = state->input;

    switch (key) {
    case 'r':
        options->plan.rounds = option_number(state, argument, 1, 1000000);
        break;
    case 's':
        options->plan.max_size = option_number(state, argument, 1, SIZE_LARGEST);
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

/* The `children` of an example's argp; its parser passes its input on with ARGP_KEY_INIT:
 * state->child_inputs[0] = state->input. */
static const struct argp rma_options_argp = {
    .options = rma_options_table, .parser = rma_options_take};
static const struct argp_child rma_options_child[] = {
    {&rma_options_argp, 0, NULL, 0}, {NULL, 0, NULL, 0}};

/* Parse these and the example's own options, a struct that begins with these. */
static void rma_options_parse(
    const struct argp *argp, struct rma_options *options, int argc, char **argv)
{
    options->timeout = 30;
    options->port = 47470;
    options->plan = (struct plan){.seed = 1, .rounds = 3, .max_size = (size_t)16 << 20};
    options->argc = argc;
    options->argv = argv;
    argp_parse(argp, argc, argv, 0, NULL, options);
    if (options->address == NULL) {
        options->address = options->role == ROLE_SERVER ? "0.0.0.0" : "127.0.0.1";
    }
}

/* Start our client: with our own options, and who it is to call on. */
static bool rma_spawn(const struct rma_options *options, unsigned port, struct peer *peer)
{
    char port_text[16];
    const char *const more[] = {
        "--client", options->address, "--port", port_text, "--quiet", NULL};
    size_t n = (size_t)options->argc;
    char **arguments = calloc(n + sizeof(more) / sizeof(more[0]), sizeof(*arguments));
    bool spawned;

    if (arguments == NULL) {
        return complain("no memory for the client's arguments");
    }
    snprintf(port_text, sizeof(port_text), "%u", port);
    memcpy(arguments, options->argv, n * sizeof(*arguments));
    memcpy(arguments + n, more, sizeof(more));
    spawned = peer_spawn(peer, arguments);
    free(arguments);
    return spawned;
}

/* Find the peer: start it, wait for it, or call on it. */
static bool rma_meet(const struct rma_options *options, struct peer *peer)
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
    met = (options->role == ROLE_SERVER || rma_spawn(options, port, peer)) &&
        peer_accept(peer, listener);
    close(listener);
    return met;
}

/* The server tells the plan; a client for the same network takes it over. */
static bool plan_agree(
    struct rma_options *options, struct peer *peer, const char *network)
{
    struct plan *plan = &options->plan;
    struct peer_message message;
    char text[256], server[100];

    if (options->role != ROLE_CLIENT) {
        int size = snprintf(text, sizeof(text),
            "rma 1: %.99s, seed %" PRIu64 ", %zu rounds, up to %zu bytes, only %zu",
            network, plan->seed, plan->rounds, plan->max_size, plan->only_size);

        return peer_send(peer, PEER_PLAN, text, (size_t)size);
    }
    if (!peer_receive(peer, PEER_PLAN, &message)) {
        return false;
    }
    if (sscanf((char *)message.body,
            "rma 1: %99[^,], seed %" SCNu64 ", %zu rounds, up to %zu bytes, only %zu",
            server, &plan->seed, &plan->rounds, &plan->max_size, &plan->only_size) != 5 ||
        plan->max_size > SIZE_LARGEST || plan->only_size > SIZE_LARGEST) {
        return complain("the server's plan is not understood: not of this version?");
    }
    return strncmp(server, network, sizeof(server) - 1) == 0 ||
        complain("the server uses %s, this client %s", server, network);
}

#endif
