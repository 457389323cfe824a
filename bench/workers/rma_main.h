/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The rest of a worker of mrpool-bench rma: its two sides, and its options. It is one unit,
 * as the examples are whose peer.h it uses.
 */
#ifndef BENCH_WORKERS_RMA_MAIN_H
#define BENCH_WORKERS_RMA_MAIN_H

#include "rma_client.h"

#include <argp.h>

#define TIMEOUT_S 30

/* -- the two sides ----------------------------------------------------------------------
 */

static bool import_target(struct rma *rma)
{
    struct peer_message keys, message;
    struct mrp_token token;
    void *via = rma_network.endpoint != NULL ? rma_network.endpoint(rma) : NULL;

    if (!peer_receive(&rma->peer, PEER_KEYS, &keys) ||
        !peer_receive(&rma->peer, PEER_TOKEN, &message)) {
        return false;
    }
    if (message.size != sizeof token.bytes) {
        return complain("a token of %zu bytes", message.size);
    }
    memcpy(token.bytes, message.body, sizeof token.bytes);
    rma->target = (struct mrp_remote_region)MRP_REMOTE_REGION_INIT;
    return mrp_ok("keys",
               mrp_remote_open(
                   rma->provider, via, 0, keys.body, keys.size, &rma->remote)) &&
        mrp_ok("token", mrp_remote_resolve(rma->remote, &token, &rma->target));
}

/* Without a rail: memory just like the other's, but registered by nobody. */
static bool make_pool(
    struct rma *rma, struct mrp_provider *const *rail, struct mrp_pool **pool)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.rails = rail;
    params.n_rails = rail != NULL ? 1 : 0;
    params.access = MRP_ACCESS_LOCAL | (rail != NULL ? (uint32_t)MRP_ACCESS_REMOTE : 0);
    params.never_free = rail != NULL;
    return mrp_ok("pool", mrp_pool_create(rma->context, &params, pool));
}

static bool run_client(struct options *options)
{
    static struct client client;
    char text[256];
    bool done;

    client.rma = &options->rma;
    client.options = options;
    rma_network.describe(text, sizeof text);
    printf("text %s\n", text);
    client.cache = rma_network.unregistered != NULL ? rma_network.unregistered() : NULL;
    if (client.cache != NULL) {
        printf("cache %s\n", client.cache);
    }
    done = import_target(&options->rma) &&
        make_pool(&options->rma, NULL, &client.plain) && verify(&client) &&
        measure_sizes(&client);
    done = done && peer_send(&options->rma.peer, PEER_DONE, NULL, 0);
    if (options->rma.remote != NULL) {
        (void)mrp_remote_close(options->rma.remote);
    }
    return done;
}

static bool run_server(struct rma *rma)
{
    struct mrp_region *region = mrp_region_alloc(rma->pool, rma->max_size);
    unsigned char keys[PEER_MESSAGE_MAX];
    size_t size = sizeof keys;
    struct peer_message message;
    uint64_t timeout = rma->peer.timeout;
    struct mrp_token token;
    bool done;

    if (region == NULL) {
        return complain("region: %s", mrp_error_last()->text);
    }
    rma->peer.timeout = UINT64_MAX / 2; /* the client takes as long as it takes */
    done = mrp_ok("keys", mrp_region_key_pack(region, 1, keys, &size)) &&
        mrp_ok("token", mrp_region_token(region, &token)) &&
        peer_send(&rma->peer, PEER_KEYS, keys, size) &&
        peer_send(&rma->peer, PEER_TOKEN, token.bytes, sizeof token.bytes) &&
        peer_receive(&rma->peer, PEER_DONE, &message);
    rma->peer.timeout = timeout;
    return done && mrp_ok("free", mrp_region_free(region));
}

static bool run(struct options *options)
{
    struct rma *rma = &options->rma;
    bool done = mrp_ok("context", mrp_context_create(NULL, &rma->context)) &&
        rma_network.open(rma) && make_pool(rma, &rma->provider, &rma->pool) &&
        (rma->is_server ? run_server(rma) : run_client(options));

    if (!done) {
        peer_give_up(&rma->peer);
    }
    rma_network.quiet(rma);
    if (rma->context != NULL) {
        done = mrp_ok("closing", mrp_context_destroy(rma->context)) && done;
    }
    rma->peer.progress = NULL;
    rma_network.close(rma);
    return done;
}

/* -- options ----------------------------------------------------------------------------
 */

static bool connect_peers(struct options *options, char **arguments)
{
    struct rma *rma = &options->rma;
    unsigned port = (unsigned)options->port;
    char port_text[16], repetitions[16], at_most[16], limit[16];
    char *child[] = {arguments[0], "--connect", "127.0.0.1", "--port", port_text,
        "--options", (char *)(uintptr_t)rma->options, "--sizes",
        (char *)(uintptr_t)options->sizes, "--repetitions", repetitions, "--at-most",
        at_most, "--limit", limit, options->is_quick ? "--quick" : NULL, NULL};
    int listener = -1;
    bool done;

    if (rma_network.share_port != NULL && !rma->is_server) {
        return rma_network.share_port(rma, &port) &&
            peer_connect(&rma->peer, "127.0.0.1", port);
    }
    if (!rma->is_server) {
        return peer_connect(&rma->peer, options->host, port);
    }
    listener = peer_listen(options->address, &port);
    if (listener < 0) {
        return false;
    }
    snprintf(port_text, sizeof port_text, "%u", port);
    snprintf(repetitions, sizeof repetitions, "%zu", options->repetitions);
    snprintf(at_most, sizeof at_most, "%g", options->at_most);
    snprintf(limit, sizeof limit, "%g", options->limit_s);
    done = rma_network.share_port != NULL ? rma_network.share_port(rma, &port)
        : options->is_client              ? peer_spawn(&rma->peer, child)
                                          : true;
    done = done && peer_accept(&rma->peer, listener);
    close(listener);
    return done;
}

enum {
    OPTION_SERVE = 256,
    OPTION_CONNECT,
    OPTION_ADDRESS,
    OPTION_PORT,
    OPTION_OPTIONS,
    OPTION_SIZES,
    OPTION_REPETITIONS,
    OPTION_AT_MOST,
    OPTION_LIMIT,
    OPTION_QUICK
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case OPTION_SERVE:
        options->is_client = false;
        return 0;
    case OPTION_CONNECT:
        options->rma.is_server = false;
        options->host = text;
        return 0;
    case OPTION_ADDRESS:
        options->address = text;
        return 0;
    case OPTION_PORT:
        options->port = strtoul(text, NULL, 10);
        return 0;
    case OPTION_OPTIONS:
        options->rma.options = text;
        return 0;
    case OPTION_SIZES:
        options->sizes = text;
        return 0;
    case OPTION_REPETITIONS:
        options->repetitions = strtoul(text, NULL, 10);
        if (options->repetitions > ROUNDS_MAX) {
            argp_error(state, "--repetitions %s: at most %d", text, ROUNDS_MAX);
        }
        return 0;
    case OPTION_AT_MOST:
        options->at_most = strtod(text, NULL);
        return 0;
    case OPTION_LIMIT:
        options->limit_s = strtod(text, NULL);
        return 0;
    case OPTION_QUICK:
        options->is_quick = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option rows[] = {
    {"serve", OPTION_SERVE, NULL, 0, "Wait for a client instead of starting one", 0},
    {"connect", OPTION_CONNECT, "HOST", 0, "Be the client of a server there", 0},
    {"address", OPTION_ADDRESS, "IP", 0, "Where to listen (127.0.0.1)", 0},
    {"port", OPTION_PORT, "N", 0, "Of the server (0: any)", 0},
    {"options", OPTION_OPTIONS, "TEXT", 0, "Of the network", 0},
    {"sizes", OPTION_SIZES, "LIST", 0, "Bytes, separated by commas", 0},
    {"repetitions", OPTION_REPETITIONS, "N", 0, "Rounds (0: as many as it takes)", 0},
    {"at-most", OPTION_AT_MOST, "RATIO", 0, "What it takes is to be on one side of this",
        0},
    {"limit", OPTION_LIMIT, "SECONDS", 0, "Of one case", 0},
    {"quick", OPTION_QUICK, NULL, 0, "Short batches", 0},
    {0},
};

/* The largest of the sizes, which the server has to have a region for; 0: not a list. */
static size_t largest(const char *sizes)
{
    size_t most = 1;

    while (*sizes != '\0') {
        char *end;
        size_t size = strtoull(sizes, &end, 10);

        if (size == 0 || (*end != ',' && *end != '\0')) {
            return 0;
        }
        most = size > most ? size : most;
        sizes = end + (*end == ',');
    }
    return most;
}

int main(int argc, char **argv)
{
    static struct options options = {
        .rma = {.peer = PEER_INIT(TIMEOUT_S), .is_server = true, .options = ""},
        .is_client = true,
        .address = "127.0.0.1",
        .sizes = "65536",
        .at_most = 1,
        .limit_s = 1,
    };
    const struct argp argp = {rows, parse, NULL,
        "One network of mrpool-bench rma, which starts it.", NULL, NULL, NULL};
    bool done;

    if (rma_network.begin != NULL && !rma_network.begin(&options.rma, &argc, &argv)) {
        return EXIT_FAILURE;
    }
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    options.rma.max_size = largest(options.sizes);
    done = (options.rma.max_size > 0 ||
               complain("--sizes %s: write bytes, separated by commas: 64,4096",
                   options.sizes)) &&
        connect_peers(&options, argv) && run(&options);
    peer_close(&options.rma.peer);
    done = peer_reap(&options.rma.peer) && done;
    if (!done) {
        printf("problem %s\n", peer_complaint);
    } else if (!options.rma.is_server) {
        puts("end");
    }
    return done ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
