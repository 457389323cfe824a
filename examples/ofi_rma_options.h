/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command line of ofi_rma, and the plan: the part of it that both processes must
 * agree on.
 */
#ifndef EXAMPLES_OFI_RMA_OPTIONS_H
#define EXAMPLES_OFI_RMA_OPTIONS_H

#include "ofi_endpoint.h"
#include "peer.h"

#include <argp.h>
#include <inttypes.h>
#include <stdlib.h>

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
    bool json;
    bool quiet;
    struct ofi_options ofi;
    struct plan plan;
};

enum option_key {
    OPTION_SERVER = 256,
    OPTION_CLIENT,
    OPTION_PORT,
    OPTION_ADDRESS,
    OPTION_MAX_MESSAGE,
    OPTION_SEED,
    OPTION_JSON
};

static const struct argp_option options_table[] = {
    {NULL, 0, NULL, 0, "What to use", 1},
    {"provider", 'p', "NAME", 0, "libfabric provider: tcp (default), shm, sockets, verbs",
        0},
    {"domain", 'd', "NAME", 0, "its domain, as fi_info shows it", 0},
    {"endpoint", 'e', "rdm|msg", 0,
        "connectionless (default; msg with verbs) or connected endpoints", 0},
    {NULL, 0, NULL, 0, "What to do", 2},
    {"rounds", 'r', "N", 0, "rounds after the warm-up (3)", 0},
    {"max-size", 's', "BYTES", 0, "largest transfer (64M)", 0},
    {"max-message", OPTION_MAX_MESSAGE, "BYTES", 0, "split what is larger than that", 0},
    {"seed", OPTION_SEED, "N", 0, "of the pattern (1)", 0},
    {"timeout", 't', "SECONDS", 0, "longest wait for anything (30)", 0},
    {NULL, 0, NULL, 0, "Where to run", 3},
    {"server", OPTION_SERVER, NULL, 0, "wait for one client", 0},
    {"client", OPTION_CLIENT, "HOST", 0, "work with the server there", 0},
    {"port", OPTION_PORT, "N", 0, "where the server listens (47470)", 0},
    {"address", OPTION_ADDRESS, "IP", 0,
        "address to listen at: 0.0.0.0 for a server, else 127.0.0.1", 0},
    {NULL, 0, NULL, 0, "What to print", 4},
    {"json", OPTION_JSON, NULL, 0, "one JSON object instead of the table", 0},
    {"quiet", 'q', NULL, 0, "nothing but complaints", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static const char options_doc[] =
    "One-sided writes and reads between two processes, from and to pool memory, over "
    "libfabric: sizes from 1 byte to 64 MiB in both directions, every byte verified, and "
    "nothing registered after the warm-up."
    "\vWithout --server or --client it starts its peer itself, on this machine.\n\n"
    "Examples:\n"
    "  ofi_rma\n"
    "  ofi_rma --provider shm --rounds 10\n"
    "  ofi_rma --provider tcp --endpoint msg --max-message 64K\n"
    "  ofi_rma --server --provider verbs                 on one machine, and\n"
    "  ofi_rma --client 192.0.2.1 --provider verbs       on the other\n\n"
    "The exit status is 0 only when every byte was right and nothing was registered "
    "after "
    "the warm-up.";

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
    case 'p':
        options->ofi.provider = argument;
        break;
    case 'd':
        options->ofi.domain = argument;
        break;
    case 'e':
        if (strcmp(argument, "rdm") != 0 && strcmp(argument, "msg") != 0) {
            argp_error(state, "--endpoint is rdm or msg, not '%s'", argument);
        }
        options->ofi.type = argument[0] == 'm' ? FI_EP_MSG : FI_EP_RDM;
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
    case OPTION_MAX_MESSAGE:
        options->ofi.max_message = option_number(state, argument, 1, UINT32_MAX);
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
    case OPTION_JSON:
        options->json = true;
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

    *options = (struct options){.timeout = 30, .port = 47470};
    options->ofi.provider = "tcp";
    options->ofi.type = FI_EP_UNSPEC;
    options->plan = (struct plan){.seed = 1, .rounds = 3, .max_size = (size_t)64 << 20};
    argp_parse(&argp, argc, argv, 0, NULL, options);
    if (options->ofi.type == FI_EP_UNSPEC) { /* verbs itself has only connected ones */
        options->ofi.type =
            strcmp(options->ofi.provider, "verbs") == 0 ? FI_EP_MSG : FI_EP_RDM;
    }
    if (options->address == NULL) {
        options->address = options->role == ROLE_SERVER ? "0.0.0.0" : "127.0.0.1";
    }
}

/* Start our client, with our options. */
static bool options_spawn(const struct options *options, unsigned port, struct peer *peer)
{
    const char *endpoint = options->ofi.type == FI_EP_MSG ? "msg" : "rdm";
    char port_text[16], timeout_text[24], max_message_text[24];
    const char *arguments[] = {program_invocation_short_name, "--client",
        options->address, "--port", port_text, "--timeout", timeout_text, "--max-message",
        max_message_text, "--endpoint", endpoint, "--provider", options->ofi.provider,
        "--quiet", options->ofi.domain != NULL ? "--domain" : NULL, options->ofi.domain,
        NULL};

    snprintf(port_text, sizeof(port_text), "%u", port);
    snprintf(timeout_text, sizeof(timeout_text), "%zu", options->timeout);
    snprintf(max_message_text, sizeof(max_message_text), "%zu",
        options->ofi.max_message != 0 ? options->ofi.max_message : UINT32_MAX);
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

/* The server tells the plan; a client here for the same network takes it over. */
static bool plan_agree(struct options *options, struct peer *peer)
{
    const char *endpoint = options->ofi.type == FI_EP_MSG ? "msg" : "rdm";
    struct plan *plan = &options->plan;
    struct peer_message message;
    char text[256], provider[64], type[8];

    if (options->role != ROLE_CLIENT) {
        int size = snprintf(text, sizeof(text),
            "ofi_rma 1: %.63s %s, seed %" PRIu64 ", %zu rounds, %zu bytes",
            options->ofi.provider, endpoint, plan->seed, plan->rounds, plan->max_size);

        return peer_send(peer, PEER_PLAN, text, (size_t)size);
    }
    if (!peer_receive(peer, PEER_PLAN, &message)) {
        return false;
    }
    if (sscanf((char *)message.body,
            "ofi_rma 1: %63s %7[a-z], seed %" SCNu64 ", %zu rounds, %zu bytes", provider,
            type, &plan->seed, &plan->rounds, &plan->max_size) != 5 ||
        plan->max_size > 1u << 30) {
        return complain(
            "the server's plan is not understood: not this version of ofi_rma?");
    }
    return (strcmp(provider, options->ofi.provider) == 0 &&
               strcmp(type, endpoint) == 0) ||
        complain("the server uses --provider %s --endpoint %s, this client %s %s",
            provider, type, options->ofi.provider, endpoint);
}

#endif
