/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One-sided writes and reads between two processes over libfabric, from and to pool
 * regions.
 *
 * The program is a small transport: it opens its own domain and endpoint
 * (ofi_endpoint.h), wraps the domain as a provider, and lets a pool register memory with
 * it. What to look at:
 *   - what a transport hands to mrpool: domain, fi_info, endpoint    memory_open
 *   - what its send path asks for: address and descriptor            region_transfer
 *   - how a peer gets at a region: a token of 32 bytes per region,
 *     keys once per chunk, when the peer asks for them               remote_resolve
 *   - that nothing is registered after one round of all sizes        run_rounds
 *
 * Both processes run the same steps. In each step one is active: it writes to, or reads
 * from, a region of the other, which stays passive. Then both verify their region, each
 * byte of the payload and of the guards around it.
 */
#include "ofi_endpoint.h"
#include "ofi_rma_options.h"
#include "pattern.h"
#include "peer.h"

#include "mrpool/mrpool.h"
#include "mrpool/ofi.h"

#include <inttypes.h>

/* Guard bytes before and after each payload. They are the pool's headroom and tailroom,
 * which a transport would use for its headers: registered with the payload, at no extra
 * cost. */
#define GUARD 256

/* Chunks of the peer whose keys we hold; more than a pool of this program ever has. */
#define REMOTES_MAX 64

static const size_t sizes[] = {1, 2, 7, 64, 100, 1000, 4095, 4096, 4097, 16384, 65537,
    262144, 1048576, 1048577, 4194301, 16777216, 67108864};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Transfers of one size and operation after the warm-up, in both directions. */
struct tally {
    size_t n_transfers;
    uint64_t nanoseconds;
};

struct example {
    struct options options;
    struct peer peer;
    struct ofi_endpoint endpoint;

    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct mrp_remote *remotes[REMOTES_MAX];
    size_t n_remotes;

    uint64_t n_steps; /* one transfer each, numbered alike in both processes */
    uint64_t n_bytes;
    struct tally tallies[N_SIZES][2];
};

static bool mrp_ok(const char *what, enum mrp_status status)
{
    return status == MRP_OK || complain("%s: %s", what, mrp_error_last()->text);
}

/* -- memory: a pool whose one rail is our own domain -- */

static bool memory_open(struct example *example)
{
    struct mrp_ofi_wrap_params wrap_params = MRP_OFI_WRAP_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct ofi_endpoint *endpoint = &example->endpoint;

    wrap_params.domain = endpoint->domain;
    wrap_params.info = endpoint->info;
    if (endpoint->info->domain_attr->mr_mode & FI_MR_ENDPOINT) {
        wrap_params.endpoints = &endpoint->ep;
        wrap_params.n_endpoints = 1;
    }

    pool_params.name = "messages";
    pool_params.rails = &example->provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    pool_params.never_free = true; /* what has been registered stays: idle or not */
    pool_params.headroom = GUARD;
    pool_params.tailroom = GUARD;

    return mrp_ok("context", mrp_context_create(NULL, &example->context)) &&
        mrp_ok("provider",
            mrp_ofi_provider_wrap(
                example->context, NULL, &wrap_params, &example->provider)) &&
        mrp_ok("pool", mrp_pool_create(example->context, &pool_params, &example->pool));
}

/* Regions that a failed step has left behind go with the context: no news then. */
static bool memory_close(struct example *example)
{
    bool has_failed = peer_complaint[0] != '\0';
    bool closed = true;

    for (size_t i = 0; i < example->n_remotes; i++) {
        closed &= mrp_ok("closing keys", mrp_remote_close(example->remotes[i]));
    }
    example->n_remotes = 0;
    if (example->pool != NULL) {
        closed &= mrp_ok("pool check", mrp_pool_check(example->pool));
    }
    if (example->context != NULL) { /* the pool and the provider go with it */
        enum mrp_status status = mrp_context_destroy(example->context);

        closed &= (status == MRP_ERR_LEAKED && has_failed) || mrp_ok("closing", status);
    }
    return closed;
}

/* -- regions full of pattern, between guards -- */

static uint64_t guard_seed(uint64_t seed)
{
    return seed ^ 0x5555555555555555u;
}

/* Take a region and write its guards; its payload becomes the pattern, or all wrong. */
static struct mrp_region *region_prepare(
    struct example *example, size_t size, uint64_t seed, bool is_source)
{
    struct mrp_region *region = mrp_region_alloc(example->pool, size);
    unsigned char *payload = mrp_region_address(region);

    if (region == NULL) {
        complain("region of %zu bytes: %s", size, mrp_error_last()->text);
        return NULL;
    }
    pattern_fill(payload - GUARD, GUARD, guard_seed(seed));
    pattern_fill(payload + size, GUARD, ~guard_seed(seed));
    pattern_fill(payload, size, seed);
    for (size_t i = 0; i < size && !is_source; i++) {
        payload[i] = (unsigned char)~payload[i];
    }
    return region;
}

static bool region_verify(const struct mrp_region *region, uint64_t seed)
{
    const unsigned char *payload = mrp_region_address(region);
    size_t size = mrp_region_size(region);
    size_t wrong = pattern_check(payload, size, seed);

    if (wrong != size) {
        return complain("byte %zu of %zu is wrong: 0x%02x", wrong, size, payload[wrong]);
    }
    return (pattern_check(payload - GUARD, GUARD, guard_seed(seed)) == GUARD &&
               pattern_check(payload + size, GUARD, ~guard_seed(seed)) == GUARD) ||
        complain("bytes next to a payload of %zu have been written", size);
}

/* -- the peer's regions -- */

/* Ask for the keys of the chunk that the token is about. */
static bool remote_fetch(struct example *example, struct mrp_remote **remote)
{
    struct peer_message keys;

    return peer_send(&example->peer, PEER_KEYS_WANTED, NULL, 0) &&
        peer_receive(&example->peer, PEER_KEYS, &keys) &&
        mrp_ok("the peer's keys",
            mrp_remote_open(example->provider, NULL, 0, keys.body, keys.size, remote));
}

/* From a token to what the network wants, with keys that we hold, or else fetch. */
static bool remote_resolve(struct example *example, const struct mrp_token *token,
    struct mrp_remote_region *found)
{
    enum mrp_status status;

    for (size_t i = 0; i < example->n_remotes; i++) {
        status = mrp_remote_resolve(example->remotes[i], token, found);
        if (status == MRP_OK) {
            return true;
        }
        if (status == MRP_ERR_STALE) { /* the peer has replaced that chunk */
            (void)mrp_remote_close(example->remotes[i]);
            example->remotes[i] = example->remotes[--example->n_remotes];
            break;
        }
    }
    if (example->n_remotes == REMOTES_MAX) {
        return complain("keys of %d chunks are held: no room", REMOTES_MAX);
    }
    if (!remote_fetch(example, &example->remotes[example->n_remotes])) {
        return false;
    }
    status = mrp_remote_resolve(example->remotes[example->n_remotes++], token, found);
    return mrp_ok("the peer's token", status);
}

/* Offer a region: its token, and the keys of its chunk when the peer asks for them.
 * Serves the peer's operations meanwhile. Ends when the peer is done. */
static bool region_offer(
    struct example *example, const struct mrp_region *region, uint64_t *nanoseconds)
{
    struct peer *peer = &example->peer;
    unsigned char keys[PEER_MESSAGE_MAX];
    size_t keys_size = sizeof(keys);
    struct peer_message message;
    struct mrp_token token;
    enum peer_kind kind;

    if (!mrp_ok("token", mrp_region_token(region, &token)) ||
        !peer_send(peer, PEER_TOKEN, token.bytes, sizeof(token.bytes)) ||
        !peer_receive_any(peer, &kind, &message)) {
        return false;
    }
    if (kind == PEER_KEYS_WANTED) {
        if (!mrp_ok("keys", mrp_region_key_pack(region, 1, keys, &keys_size)) ||
            !peer_send(peer, PEER_KEYS, keys, keys_size) ||
            !peer_receive_any(peer, &kind, &message)) {
            return false;
        }
    }
    *nanoseconds = strtoull((char *)message.body, NULL, 10);
    return kind == PEER_DONE || complain("message kind %d from the peer", (int)kind);
}

/* -- one step: the active side -- */

/* A completed write has left this process; only with delivery complete it has arrived.
 * Elsewhere a read of its last byte comes behind it, and so pushes it into the peer's
 * memory. */
static bool write_flush(struct example *example, const struct ofi_transfer *write)
{
    struct mrp_region *region = mrp_region_alloc(example->pool, 1);
    struct ofi_transfer read = *write;

    if (region == NULL) {
        return complain("region of 1 byte: %s", mrp_error_last()->text);
    }
    read.operation = OFI_READ;
    read.local = mrp_region_address(region);
    read.remote_address += write->size - 1;
    read.size = 1;
    return mrp_ok("descriptor", mrp_region_local_desc(region, 0, &read.local_desc)) &&
        ofi_transfer(&example->endpoint, &example->peer, &read) &&
        mrp_ok("free", mrp_region_free(region));
}

static bool region_transfer(struct example *example, const struct mrp_region *region,
    const struct mrp_remote_region *target, enum ofi_operation operation)
{
    struct ofi_transfer transfer = {.operation = operation,
        .local = mrp_region_address(region),
        .remote_address = target->address,
        .remote_key = target->key,
        .size = mrp_region_size(region)};

    /* Without FI_MR_LOCAL the descriptor is NULL, and nobody has to ask which it is. */
    return mrp_ok("descriptor", mrp_region_local_desc(region, 0, &transfer.local_desc)) &&
        ofi_transfer(&example->endpoint, &example->peer, &transfer) &&
        (operation == OFI_READ || example->endpoint.delivery_complete ||
            write_flush(example, &transfer));
}

/* A failure leaves the region to the context's end: the network may still be using it. */
static bool run_active(struct example *example, enum ofi_operation operation, size_t size,
    uint64_t seed, uint64_t *nanoseconds)
{
    bool is_source = operation == OFI_WRITE;
    struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;
    struct peer *peer = &example->peer;
    struct peer_message message;
    struct mrp_region *region;
    struct mrp_token token;
    uint64_t started;
    char text[32];

    region = region_prepare(example, size, seed, is_source);
    if (region == NULL || !peer_receive(peer, PEER_TOKEN, &message)) {
        return false;
    }
    if (message.size != sizeof(token.bytes)) {
        return complain("the peer sent a token of %zu bytes", message.size);
    }
    memcpy(token.bytes, message.body, sizeof(token.bytes));
    if (!remote_resolve(example, &token, &target)) {
        return false;
    }
    if (target.size != size) {
        return complain("the peer offers %zu bytes, not %zu", target.size, size);
    }
    started = now_ns();
    if (!region_transfer(example, region, &target, operation)) {
        return false;
    }
    *nanoseconds = now_ns() - started;
    snprintf(text, sizeof(text), "%" PRIu64, *nanoseconds);
    return region_verify(region, seed) &&
        peer_send(peer, PEER_DONE, text, strlen(text)) &&
        peer_receive(peer, PEER_VERIFIED, &message) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- one step: the passive side -- */

static bool run_passive(struct example *example, enum ofi_operation operation,
    size_t size, uint64_t seed, uint64_t *nanoseconds)
{
    bool is_source = operation == OFI_READ;
    struct mrp_region *region = region_prepare(example, size, seed, is_source);

    return region != NULL && region_offer(example, region, nanoseconds) &&
        region_verify(region, seed) &&
        peer_send(&example->peer, PEER_VERIFIED, NULL, 0) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- rounds -- */

/* Every size, written and read, in both directions. Regions are given back after each
 * transfer and taken anew for the next; that must not register either. The larger-than-huge
 * ones stay registered within MRPOOL_RETAINED_SIZE and MRPOOL_RETAINED_COUNT. */
static bool run_round(struct example *example, bool is_warm_up)
{
    for (size_t i = 0; i < N_SIZES && sizes[i] <= example->options.plan.max_size; i++) {
        for (unsigned step = 0; step < 4; step++) {
            enum ofi_operation operation = step < 2 ? OFI_WRITE : OFI_READ;
            bool is_active = (step % 2 == 0) == (example->options.role == ROLE_CLIENT);
            uint64_t seed = pattern_word(example->options.plan.seed, example->n_steps++);
            struct tally *tally = &example->tallies[i][operation];
            uint64_t nanoseconds = 0;

            if (!(is_active ? run_active : run_passive)(
                    example, operation, sizes[i], seed, &nanoseconds)) {
                return complain("while %s %zu bytes, %s side, step %" PRIu64,
                    operation == OFI_WRITE ? "writing" : "reading", sizes[i],
                    is_active ? "active" : "passive", example->n_steps);
            }
            example->n_bytes += sizes[i];
            if (!is_warm_up) {
                tally->n_transfers++;
                tally->nanoseconds += nanoseconds;
            }
        }
    }
    return true;
}

/* Registrations so far, as libfabric's domain, the provider and the pool count them. */
struct trace {
    size_t n_calls; /* fi_mr_reg, fi_mr_regv, fi_mr_regattr */
    size_t n_live; /* the provider's registrations */
    uint64_t n_growths; /* chunks the pool has ever made */
};

static bool trace_take(struct example *example, struct trace *trace)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_pool_stats stats = {.struct_size = sizeof(stats)};

    trace->n_calls = example->endpoint.n_registrations;
    if (!mrp_ok("provider", mrp_provider_query(example->provider, &info)) ||
        !mrp_ok("statistics", mrp_pool_stats(example->pool, &stats))) {
        return false;
    }
    trace->n_live = info.n_registrations;
    trace->n_growths = stats.n_growths;
    return true;
}

/* Both processes' registrations: in the warm-up, and after it. */
struct result {
    size_t n_warm_up;
    size_t n_after;
};

static bool run_rounds(struct example *example, struct result *result)
{
    struct trace warm, end;

    if (!run_round(example, true) || !trace_take(example, &warm)) {
        return false;
    }
    for (size_t round = 0; round < example->options.plan.rounds; round++) {
        if (!run_round(example, false)) {
            return false;
        }
    }
    if (!trace_take(example, &end)) {
        return false;
    }
    result->n_warm_up = warm.n_calls;
    result->n_after = end.n_calls - warm.n_calls;
    return (result->n_after == 0 && end.n_live == warm.n_live &&
               end.n_growths == warm.n_growths) ||
        complain("after the warm-up: %zu registrations, %zu live instead of %zu, pool "
                 "grown %" PRIu64 " times",
            result->n_after, end.n_live, warm.n_live, end.n_growths - warm.n_growths);
}

/* Add the peer's counts to ours. */
static bool result_exchange(struct peer *peer, struct result *result)
{
    struct peer_message message;
    size_t n_warm_up, n_after;
    char text[64];
    int size = snprintf(text, sizeof(text), "%zu registrations, %zu after the warm-up",
        result->n_warm_up, result->n_after);

    if (!peer_send(peer, PEER_RESULT, text, (size_t)size) ||
        !peer_receive(peer, PEER_RESULT, &message)) {
        return false;
    }
    if (sscanf((char *)message.body, "%zu registrations, %zu after the warm-up",
            &n_warm_up, &n_after) != 2) {
        return complain("the peer's result is not understood");
    }
    result->n_warm_up += n_warm_up;
    result->n_after += n_after;
    return result->n_after == 0 ||
        complain("%zu registrations after the warm-up", result->n_after);
}

/* -- what is printed -- */

static const char *const operation_names[] = {"write", "read"};

static void print_head(const struct example *example)
{
    const struct ofi_endpoint *endpoint = &example->endpoint;
    const struct fi_info *info = endpoint->info;
    int mr_mode = info->domain_attr->mr_mode;

    printf("One-sided operations between two processes, from and to pool regions\n\n");
    printf("  provider   %s, %s endpoints, domain %s, fabric %s\n",
        info->fabric_attr->prov_name,
        info->ep_attr->type == FI_EP_MSG ? "connected" : "connectionless",
        info->domain_attr->name, info->fabric_attr->name);
    printf("  memory     remote addresses are %s, keys %s; local descriptors %s\n",
        (mr_mode & FI_MR_VIRT_ADDR) ? "virtual" : "offsets",
        (mr_mode & FI_MR_PROV_KEY) ? "of the provider" : "of our choice",
        (mr_mode & FI_MR_LOCAL) ? "needed" : "not needed");
    printf("  completed  a write %s\n\n",
        endpoint->delivery_complete ? "has arrived"
                                    : "has left: a read of a byte follows it");
    printf(
        "%12s  %-9s %9s %12s %10s\n", "bytes", "operation", "transfers", "us", "MiB/s");
}

static void print_table(const struct example *example)
{
    for (size_t i = 0; i < N_SIZES && example->tallies[i][0].n_transfers > 0; i++) {
        for (unsigned operation = 0; operation < 2; operation++) {
            const struct tally *tally = &example->tallies[i][operation];
            double us = (double)tally->nanoseconds / 1e3 / (double)tally->n_transfers;

            printf("%12zu  %-9s %9zu %12.1f %10.1f  verified\n", sizes[i],
                operation_names[operation], tally->n_transfers, us,
                (double)sizes[i] / us * 1e6 / 1048576.0);
        }
    }
}

static void print_json(const struct example *example, const struct result *result)
{
    const char *separator = "";

    printf("{\"provider\": \"%s\", \"domain\": \"%s\", \"transfers\": %" PRIu64
           ", \"bytes\": %" PRIu64 ", \"registrations_warm_up\": %zu, "
           "\"registrations_after\": %zu, \"sizes\": [",
        example->endpoint.info->fabric_attr->prov_name,
        example->endpoint.info->domain_attr->name, example->n_steps, example->n_bytes,
        result->n_warm_up, result->n_after);
    for (size_t i = 0; i < N_SIZES && example->tallies[i][0].n_transfers > 0; i++) {
        for (unsigned operation = 0; operation < 2; operation++) {
            const struct tally *tally = &example->tallies[i][operation];

            printf("%s\n  {\"bytes\": %zu, \"operation\": \"%s\", \"transfers\": %zu, "
                   "\"nanoseconds\": %" PRIu64 "}",
                separator, sizes[i], operation_names[operation], tally->n_transfers,
                tally->nanoseconds);
            separator = ",";
        }
    }
    printf("\n]}\n");
}

static void print_result(const struct example *example, const struct result *result)
{
    if (example->options.quiet) {
        return;
    }
    if (example->options.json) {
        print_json(example, result);
        return;
    }
    print_head(example);
    print_table(example);
    printf("\nofi_rma: %" PRIu64 " transfers, %" PRIu64
           " MiB, all bytes verified, %zu registrations in warm-up, %zu after\n",
        example->n_steps, example->n_bytes >> 20, result->n_warm_up, result->n_after);
}

/* -- main -- */

static bool run(struct example *example)
{
    struct options *options = &example->options;
    struct result result = {0, 0};
    bool is_server = options->role != ROLE_CLIENT;

    if (!options_meet(options, &example->peer) || !plan_agree(options, &example->peer) ||
        !ofi_open(&example->endpoint, &options->ofi, &example->peer, is_server) ||
        !memory_open(example) || !run_rounds(example, &result) ||
        !result_exchange(&example->peer, &result)) {
        return false;
    }
    print_result(example, &result);
    return true;
}

int main(int argc, char **argv)
{
    static struct example example;
    bool good;

    options_parse(&example.options, argc, argv);
    example.peer = (struct peer)PEER_INIT(example.options.timeout);
    good = run(&example);
    if (!good) {
        peer_give_up(&example.peer);
    }
    alarm((unsigned)example.options.timeout); /* closing is a wait like any other */
    ofi_quiet(&example.endpoint);
    good &= memory_close(&example);
    ofi_close(&example.endpoint);
    peer_close(&example.peer);
    good &= peer_reap(&example.peer);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
