/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One-sided messages measured: subjects take turns, a batch each. The rest of a worker: it
 * is one unit, as the examples are whose peer.h it uses.
 */
#ifndef BENCH_WORKERS_RMA_MAIN_H
#define BENCH_WORKERS_RMA_MAIN_H

#include "rma.h"

#include <argp.h>

#define TARGET_NS 5e6 /* of a batch */
#define TARGET_NS_QUICK 2e5
#define BATCH_MAX 4096
#define WINDOW_BYTES ((size_t)16 << 20) /* under way at once, at most */
#define TIMEOUT_S 30

enum subject {
    SUBJECT_POOL, /* a region of the pool, taken for the message */
    SUBJECT_ONCE, /* one buffer, registered once by hand: nothing is left to save */
    SUBJECT_REGISTER, /* a buffer registered for the message */
    SUBJECT_CACHE, /* a buffer that the library registers as it thinks best */
    SUBJECTS
};

static const char *const subject_names[SUBJECTS] = {"pool", "once", "register", "cache"};

struct options {
    struct rma rma;
    bool is_client, is_quick;
    const char *host, *address, *sizes;
    size_t port, repetitions;
};

struct client {
    struct rma *rma;
    const struct options *options;
    const char *cache; /* NULL: no such subject */
    bool is_get;
    size_t size;
    struct rma_buffer own[RMA_WINDOW]; /* malloc's memory, one for each under way */
    struct rma_buffer once[RMA_WINDOW];
};

static bool mrp_ok(const char *what, enum mrp_status status)
{
    return status == MRP_OK || complain("%s: %s", what, mrp_error_last()->text);
}

/* -- a message ------------------------------------------------------------------------
 */

static bool acquire(struct client *client, enum subject subject, struct rma_buffer *with)
{
    struct rma *rma = client->rma;

    switch (subject) {
    case SUBJECT_POOL:
        with->region = mrp_region_alloc(rma->pool, client->size);
        if (with->region == NULL) {
            return complain("region: %s", mrp_error_last()->text);
        }
        with->address = mrp_region_address(with->region);
        return mrp_ok(
            "descriptor", mrp_region_local_desc(with->region, 0, &with->local_desc));
    case SUBJECT_REGISTER:
        return rma_network.register_buffer(rma, with, client->size);
    default:
        return true;
    }
}

static bool release(struct client *client, enum subject subject, struct rma_buffer *with)
{
    switch (subject) {
    case SUBJECT_POOL:
        return mrp_ok("free", mrp_region_free(with->region));
    case SUBJECT_REGISTER:
        return rma_network.deregister_buffer(client->rma, with);
    default:
        return true;
    }
}

/* `n` messages, `window` of them under way at once. */
static bool move(struct client *client, enum subject subject, size_t n, size_t window)
{
    struct rma *rma = client->rma;
    struct rma_buffer with[RMA_WINDOW];

    while (n > 0) {
        size_t n_posted = n < window ? n : window;

        for (size_t i = 0; i < n_posted; i++) {
            with[i] = subject == SUBJECT_ONCE ? client->once[i] : client->own[i];
            if (!acquire(client, subject, &with[i]) ||
                !rma_network.post(rma, client->is_get, &with[i], client->size)) {
                return false;
            }
        }
        if (!rma_network.finish(rma, n_posted, client->is_get)) {
            return false;
        }
        for (size_t i = 0; i < n_posted; i++) {
            if (!release(client, subject, &with[i])) {
                return false;
            }
        }
        n -= n_posted;
    }
    return true;
}

/* Registering alone, and taking it back. */
static bool register_only(struct client *client, size_t n)
{
    struct rma_buffer with = client->own[0];

    for (size_t i = 0; i < n; i++) {
        if (!rma_network.register_buffer(client->rma, &with, client->size) ||
            !rma_network.deregister_buffer(client->rma, &with)) {
            return false;
        }
    }
    return true;
}

/* -- measuring --------------------------------------------------------------------------
 */

struct batch {
    const char *name; /* of the case; NULL: register_only */
    enum subject subject;
    size_t window, n;
};

static bool run_batch(struct client *client, const struct batch *batch, double *ns)
{
    double started = worker_wall_ns();
    bool done = batch->name == NULL
        ? register_only(client, batch->n)
        : move(client, batch->subject, batch->n, batch->window);

    *ns = (worker_wall_ns() - started) / (double)batch->n;
    return done;
}

/* So many messages that a batch lasts, twice: the first ones connect, and warm up. */
static bool size_batch(struct client *client, struct batch *batch)
{
    double target = client->options->is_quick ? TARGET_NS_QUICK : TARGET_NS;
    double ns, again;

    for (batch->n = batch->window; batch->n < BATCH_MAX; batch->n *= 2) {
        if (!run_batch(client, batch, &ns) || !run_batch(client, batch, &again)) {
            return false;
        }
        if ((ns < again ? ns : again) * (double)batch->n >= target) {
            break;
        }
    }
    return true;
}

static void tell(const struct client *client, const struct batch *batch, double ns)
{
    if (batch->name == NULL) {
        printf("value registration %zu %.1f\n", client->size, ns);
    } else {
        printf("value %s/%s/%s %zu %.1f\n", client->is_get ? "get" : "put", batch->name,
            subject_names[batch->subject], client->size, ns);
    }
}

/* All subjects of one operation and size, in turn. */
static bool measure(struct client *client)
{
    struct batch batches[2 * SUBJECTS + 1];
    size_t window = WINDOW_BYTES / client->size, n = 0;
    double ns;

    window = window > RMA_WINDOW ? RMA_WINDOW : window == 0 ? 1 : window;
    for (unsigned subject = 0; subject < SUBJECTS; subject++) {
        if (subject != SUBJECT_CACHE || client->cache != NULL) {
            batches[n++] = (struct batch){"latency", (enum subject)subject, 1, 0};
            batches[n++] = (struct batch){"message", (enum subject)subject, window, 0};
        }
    }
    if (!client->is_get) {
        batches[n++] = (struct batch){NULL, SUBJECT_REGISTER, 1, 0};
    }
    for (size_t i = 0; i < n; i++) {
        if (!size_batch(client, &batches[i])) {
            return false;
        }
    }
    for (size_t repetition = 0; repetition < client->options->repetitions; repetition++) {
        for (size_t i = 0; i < n; i++) {
            if (!run_batch(client, &batches[i], &ns)) {
                return false;
            }
            tell(client, &batches[i], ns);
        }
    }
    fflush(stdout);
    return true;
}

static bool measure_sizes(struct client *client)
{
    const char *next = client->options->sizes;

    while (*next != '\0') {
        char *end;

        client->size = strtoull(next, &end, 10);
        next = end + (*end == ',');
        for (unsigned is_get = 0; is_get < 2; is_get++) {
            client->is_get = is_get != 0;
            if (!measure(client)) {
                return false;
            }
        }
    }
    return true;
}

/* The bytes get there and back before anything is measured. */
static bool verify(struct client *client)
{
    size_t size = client->rma->max_size;
    unsigned char *mine = client->own[0].address, *back = client->own[1].address;

    client->size = size;
    for (size_t i = 0; i < size; i++) {
        mine[i] = (unsigned char)(i * 31 + (i >> 12) + 7);
    }
    memset(back, 0, size);
    for (unsigned is_get = 0; is_get < 2; is_get++) {
        struct rma_buffer with = client->own[is_get];

        if (!rma_network.register_buffer(client->rma, &with, size) ||
            !rma_network.post(client->rma, is_get != 0, &with, size) ||
            !rma_network.finish(client->rma, 1, is_get != 0) ||
            !rma_network.deregister_buffer(client->rma, &with)) {
            return false;
        }
    }
    return memcmp(mine, back, size) == 0 ||
        complain("what was put is not what was got back");
}

/* -- the two sides ----------------------------------------------------------------------
 */

/* Buffer i carries messages of which i + 1 fit into the window; the first two also verify
 * the largest. */
static size_t room_of(size_t i, size_t largest)
{
    size_t room = WINDOW_BYTES / (i + 1);

    return i < 2 || room > largest ? largest : room;
}

static bool prepare_buffers(struct client *client)
{
    for (size_t i = 0; i < RMA_WINDOW; i++) {
        size_t each = room_of(i, client->rma->max_size);

        if (posix_memalign(&client->own[i].address, 4096, each) != 0 ||
            posix_memalign(&client->once[i].address, 4096, each) != 0) {
            return complain("no memory for %d buffers of up to %zu bytes", RMA_WINDOW,
                client->rma->max_size);
        }
        memset(client->own[i].address, 1, each);
        memset(client->once[i].address, 1, each);
        if (!rma_network.register_buffer(client->rma, &client->once[i], each)) {
            return false;
        }
    }
    return true;
}

static bool release_buffers(struct client *client)
{
    bool done = true;

    for (size_t i = 0; i < RMA_WINDOW; i++) {
        done = done && rma_network.deregister_buffer(client->rma, &client->once[i]);
        free(client->own[i].address);
        free(client->once[i].address);
    }
    return done;
}

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
    done = import_target(&options->rma) && prepare_buffers(&client) && verify(&client) &&
        measure_sizes(&client) && release_buffers(&client);
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

static bool make_pool(struct rma *rma)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.rails = &rma->provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    params.never_free = true;
    return mrp_ok("pool", mrp_pool_create(rma->context, &params, &rma->pool));
}

static bool run(struct options *options)
{
    struct rma *rma = &options->rma;
    bool done = mrp_ok("context", mrp_context_create(NULL, &rma->context)) &&
        rma_network.open(rma) && make_pool(rma) &&
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
    char port_text[16], repetitions[16];
    char *child[] = {arguments[0], "--connect", "127.0.0.1", "--port", port_text,
        "--options", (char *)(uintptr_t)rma->options, "--sizes",
        (char *)(uintptr_t)options->sizes, "--repetitions", repetitions,
        options->is_quick ? "--quick" : NULL, NULL};
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
    {"repetitions", OPTION_REPETITIONS, "N", 0, "Batches of each subject", 0},
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
        .repetitions = 3,
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
