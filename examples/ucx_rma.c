/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One-sided puts, gets and atomics between two processes over UCX, from and to pool
 * regions.
 *
 * The program is a small transport: it opens its own context, worker and endpoint
 * (ucx_endpoint.h), wraps the context as a provider, and lets a pool register memory with
 * it. What to look at:
 *   - what a transport hands to mrpool: the ucp_context_h            memory_open
 *   - regions in memory that UCX allocates itself                    memory_open
 *   - what its send path asks for: address and memory handle         region_transfer
 *   - how a peer gets at a region: a token of 32 bytes per region,
 *     keys once per chunk, unpacked for our endpoint                 remote_resolve
 *   - that nothing is registered after one round of all sizes        run_rounds
 *   - in which order things are closed                               main
 *
 * Both processes run the same steps. In each step one is active: it puts to, gets from,
 * or counts in a region of the other, which stays passive. Then both verify their region,
 * each byte of the payload and of the guards around it.
 */
#include "pattern.h"
#include "peer.h"
#include "ucx_endpoint.h"
#include "ucx_rma_options.h"

#include "mrpool/mrpool.h"
#include "mrpool/ucx.h"

/* Guard bytes before and after each payload. They are the pool's headroom and tailroom,
 * which a transport would use for its headers: registered with the payload, at no extra
 * cost. */
#define GUARD 256

/* Chunks of the peer whose keys we hold; more than a pool of this program ever has. */
#define REMOTES_MAX 64

static const size_t sizes[] = {1, 2, 7, 64, 100, 1000, 4095, 4096, 4097, 16384, 65537,
    262144, 1048577, 4194301, 16777216, 67108864};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Atomic additions of one step; the fetched values tell whether each was done once. */
#define N_ADDS 16

struct tally {
    size_t n_transfers;
    uint64_t nanoseconds;
};

struct example {
    struct options options;
    struct peer peer;
    struct ucx_endpoint endpoint;

    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct mrp_remote *remotes[REMOTES_MAX];
    size_t n_remotes;

    uint64_t n_steps; /* numbered alike in both processes */
    uint64_t n_bytes;
    bool is_direct; /* the peer's region was mapped here */
    struct tally tallies[N_SIZES][2];
    size_t n_atomics;
};

static bool mrp_ok(const char *what, enum mrp_status status)
{
    return status == MRP_OK || complain("%s: %s", what, mrp_error_last()->text);
}

/* -- memory: a pool whose one rail is our own context -- */

static bool memory_open(struct example *example)
{
    struct mrp_ucx_wrap_params wrap_params = MRP_UCX_WRAP_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;

    /* One thread, one context: no lock to pass. */
    wrap_params.context = example->endpoint.context;
    wrap_params.features = UCP_FEATURE_RMA | UCP_FEATURE_AMO64;

    pool_params.name = "messages";
    pool_params.rails = &example->provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_ALL;
    pool_params.never_free = true; /* what has been registered stays: idle or not */
    pool_params.headroom = GUARD;
    pool_params.tailroom = GUARD;

    if (!mrp_ok("context", mrp_context_create(NULL, &example->context)) ||
        !mrp_ok("provider",
            mrp_ucx_provider_wrap(
                example->context, NULL, &wrap_params, &example->provider))) {
        return false;
    }
    if (example->options.ucx_memory &&
        !mrp_ok("backend",
            mrp_provider_backend(example->provider, NULL, &pool_params.backend))) {
        return false;
    }
    return mrp_ok(
        "pool", mrp_pool_create(example->context, &pool_params, &example->pool));
}

/* Keys belong to the endpoint: they go before it. */
static bool remotes_close(struct example *example)
{
    bool closed = true;

    for (size_t i = 0; i < example->n_remotes; i++) {
        closed &= mrp_ok("closing keys", mrp_remote_close(example->remotes[i]));
    }
    example->n_remotes = 0;
    return closed;
}

/* Regions that a failed step has left behind go with the context: no news then. */
static bool memory_close(struct example *example)
{
    bool has_failed = peer_complaint[0] != '\0';
    bool closed = true;

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

static bool guards_verify(const struct mrp_region *region, uint64_t seed)
{
    const unsigned char *payload = mrp_region_address(region);
    size_t size = mrp_region_size(region);

    return (pattern_check(payload - GUARD, GUARD, guard_seed(seed)) == GUARD &&
               pattern_check(payload + size, GUARD, ~guard_seed(seed)) == GUARD) ||
        complain("bytes next to a payload of %zu have been written", size);
}

static bool region_verify(const struct mrp_region *region, uint64_t seed)
{
    const unsigned char *payload = mrp_region_address(region);
    size_t size = mrp_region_size(region);
    size_t wrong = pattern_check(payload, size, seed);

    if (wrong != size) {
        return complain("byte %zu of %zu is wrong: 0x%02x", wrong, size, payload[wrong]);
    }
    return guards_verify(region, seed);
}

/* -- the peer's regions -- */

/* Ask for the keys of the chunk that the token is about, and unpack ours of them. */
static bool remote_fetch(struct example *example, struct mrp_remote **remote)
{
    struct peer_message keys;

    return peer_send(&example->peer, PEER_KEYS_WANTED, NULL, 0) &&
        peer_receive(&example->peer, PEER_KEYS, &keys) &&
        mrp_ok("the peer's keys",
            mrp_remote_open(example->provider, example->endpoint.ep, 0, keys.body,
                keys.size, remote));
}

/* From a token to what the network wants, with keys that we hold, or else fetch. */
static bool remote_resolve(struct example *example, const struct mrp_token *token,
    struct mrp_remote_region *found)
{
    for (size_t i = 0; i < example->n_remotes; i++) {
        enum mrp_status status = mrp_remote_resolve(example->remotes[i], token, found);

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
    return remote_fetch(example, &example->remotes[example->n_remotes]) &&
        mrp_ok("the peer's token",
            mrp_remote_resolve(example->remotes[example->n_remotes++], token, found));
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

/* What the peer offers next, which has to have our size. */
static bool target_receive(
    struct example *example, size_t size, struct mrp_remote_region *target)
{
    struct peer_message message;
    struct mrp_token token;

    if (!peer_receive(&example->peer, PEER_TOKEN, &message)) {
        return false;
    }
    if (message.size != sizeof(token.bytes)) {
        return complain("the peer sent a token of %zu bytes", message.size);
    }
    memcpy(token.bytes, message.body, sizeof(token.bytes));
    return remote_resolve(example, &token, target) &&
        (target->size == size ||
            complain("the peer offers %zu bytes, not %zu", target->size, size));
}

/* -- one step -- */

static bool region_transfer(struct example *example, const struct mrp_region *region,
    const struct mrp_remote_region *target, struct ucx_transfer *transfer)
{
    void *memh;

    if (!mrp_ok("memory handle", mrp_region_local_desc(region, 0, &memh))) {
        return false;
    }
    transfer->local = mrp_region_address(region);
    transfer->local_memh = memh;
    transfer->size = mrp_region_size(region);
    transfer->remote_address = target->address;
    transfer->remote_key = target->handle;
    return ucx_transfer(&example->endpoint, &example->peer, transfer);
}

/* Whether UCX has mapped the peer's memory into this process: a plain memcpy then. */
static bool is_mapped_here(const struct mrp_remote_region *target)
{
    void *address;

    return ucp_rkey_ptr(target->handle, target->address, &address) == UCS_OK;
}

/* Tell the peer that the transfer is over, and hear that its bytes are right. */
static bool step_end(
    struct example *example, struct mrp_region *region, uint64_t nanoseconds)
{
    struct peer_message message;
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu64, nanoseconds);
    return peer_send(&example->peer, PEER_DONE, text, strlen(text)) &&
        peer_receive(&example->peer, PEER_VERIFIED, &message) &&
        mrp_ok("free", mrp_region_free(region));
}

/* A failure leaves the region to the context's end: the network may still be using it. */
static bool run_active(struct example *example, enum ucx_operation operation, size_t size,
    uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;
    struct ucx_transfer transfer = {.operation = operation};
    struct mrp_region *region = region_prepare(example, size, seed, operation == UCX_PUT);
    uint64_t started;

    if (region == NULL || !target_receive(example, size, &target)) {
        return false;
    }
    example->is_direct = is_mapped_here(&target);
    started = now_ns();
    if (!region_transfer(example, region, &target, &transfer)) {
        return false;
    }
    *nanoseconds = now_ns() - started;
    return region_verify(region, seed) && step_end(example, region, *nanoseconds);
}

static bool run_passive(struct example *example, enum ucx_operation operation,
    size_t size, uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_region *region = region_prepare(example, size, seed, operation == UCX_GET);

    return region != NULL && region_offer(example, region, nanoseconds) &&
        region_verify(region, seed) &&
        peer_send(&example->peer, PEER_VERIFIED, NULL, 0) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- one step of atomics: N_ADDS additions, a swap that matches, one that does not -- */

static bool atomic_run(struct example *example, const struct mrp_region *region,
    const struct mrp_remote_region *target, struct ucx_transfer *transfer,
    uint64_t wanted)
{
    const uint64_t *fetched = mrp_region_address(region);

    return region_transfer(example, region, target, transfer) &&
        (*fetched == wanted ||
            complain("an atomic fetched %#" PRIx64 ", not %#" PRIx64, *fetched, wanted));
}

static bool run_atomics_active(struct example *example, uint64_t seed)
{
    struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;
    struct mrp_region *region = region_prepare(example, sizeof(uint64_t), seed, true);
    uint64_t value = pattern_word(seed, 0), sum = value + N_ADDS * (N_ADDS + 1) / 2;
    struct ucx_transfer swap = {.operation = UCX_SWAP, .operand = ~value, .compare = sum};

    if (region == NULL || !target_receive(example, sizeof(uint64_t), &target)) {
        return false;
    }
    for (uint64_t i = 1; i <= N_ADDS; i++) {
        struct ucx_transfer add = {.operation = UCX_ADD, .operand = i};

        if (!atomic_run(example, region, &target, &add, value)) {
            return false;
        }
        value += i;
    }
    return atomic_run(example, region, &target, &swap, sum) && /* matches */
        atomic_run(example, region, &target, &swap, swap.operand) &&
        guards_verify(region, seed) && step_end(example, region, 0);
}

static bool run_atomics_passive(struct example *example, uint64_t seed)
{
    struct mrp_region *region = region_prepare(example, sizeof(uint64_t), seed, true);
    uint64_t *word = mrp_region_address(region), value = pattern_word(seed, 0), ignored;

    if (region == NULL) {
        return false;
    }
    *word = value;
    return region_offer(example, region, &ignored) &&
        (*word == ~value ||
            complain("after the atomics the word is %#" PRIx64 ", not %#" PRIx64, *word,
                ~value)) &&
        guards_verify(region, seed) &&
        peer_send(&example->peer, PEER_VERIFIED, NULL, 0) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- rounds -- */

static bool run_size(struct example *example, size_t i, bool is_warm_up)
{
    bool is_client = example->options.role == ROLE_CLIENT;

    for (unsigned step = 0; step < 4; step++) {
        enum ucx_operation operation = step < 2 ? UCX_PUT : UCX_GET;
        bool is_active = (step % 2 == 0) == is_client;
        uint64_t seed = pattern_word(example->options.plan.seed, example->n_steps++);
        struct tally *tally = &example->tallies[i][operation];
        uint64_t nanoseconds = 0;

        if (!(is_active ? run_active : run_passive)(
                example, operation, sizes[i], seed, &nanoseconds)) {
            return complain("while %s %zu bytes, %s side, step %" PRIu64,
                operation == UCX_PUT ? "putting" : "getting", sizes[i],
                is_active ? "active" : "passive", example->n_steps);
        }
        example->n_bytes += sizes[i];
        if (!is_warm_up) {
            tally->n_transfers++;
            tally->nanoseconds += nanoseconds;
        }
    }
    return true;
}

/* Every size, put and got, in both directions; then atomics. Regions are given back after
 * each step and taken anew for the next; that must not register either. */
static bool run_round(struct example *example, bool is_warm_up)
{
    bool is_client = example->options.role == ROLE_CLIENT;

    for (size_t i = 0; i < N_SIZES && sizes[i] <= example->options.plan.max_size; i++) {
        if (!run_size(example, i, is_warm_up)) {
            return false;
        }
    }
    for (unsigned step = 0; step < 2; step++) {
        uint64_t seed = pattern_word(example->options.plan.seed, example->n_steps++);

        if (!((step == 0) == is_client ? run_atomics_active : run_atomics_passive)(
                example, seed)) {
            return complain("in the atomics, step %" PRIu64, example->n_steps);
        }
        example->n_atomics += N_ADDS + 2;
    }
    return true;
}

/* Registrations so far, as the provider and the pool count them. */
struct trace {
    size_t n_live;
    uint64_t n_growths; /* chunks the pool has ever made */
};

static bool trace_take(struct example *example, struct trace *trace)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_pool_stats stats = {.struct_size = sizeof(stats)};

    if (!mrp_ok("provider", mrp_provider_query(example->provider, &info)) ||
        !mrp_ok("statistics", mrp_pool_stats(example->pool, &stats))) {
        return false;
    }
    trace->n_live = info.n_registrations;
    trace->n_growths = stats.n_growths;
    return true;
}

static bool run_rounds(struct example *example, struct trace *warm)
{
    struct trace end;

    if (!run_round(example, true) || !trace_take(example, warm)) {
        return false;
    }
    for (size_t round = 0; round < example->options.plan.rounds; round++) {
        if (!run_round(example, false)) {
            return false;
        }
    }
    return trace_take(example, &end) &&
        ((end.n_live == warm->n_live && end.n_growths == warm->n_growths) ||
            complain("after the warm-up: %zu registrations live instead of %zu, pool "
                     "grown %" PRIu64 " times",
                end.n_live, warm->n_live, end.n_growths - warm->n_growths));
}

/* Nothing of ours is in flight to the peer once it has said the same. */
static bool result_exchange(struct peer *peer)
{
    struct peer_message message;

    return peer_send(peer, PEER_RESULT, NULL, 0) &&
        peer_receive(peer, PEER_RESULT, &message);
}

/* -- what is printed -- */

static bool print_result(const struct example *example, const struct trace *trace)
{
    const struct mrp_ucx_native *native;

    if (example->options.quiet) {
        return true;
    }
    if (!mrp_ok(
            "native", mrp_provider_native(example->provider, (const void **)&native))) {
        return false;
    }
    printf("One-sided operations between two processes, from and to pool regions\n\n");
    printf("  transports  %s\n", native->resources);
    printf("  memory      %s; the peer's regions are %s\n\n",
        example->options.ucx_memory ? "allocated by UCX" : "mapped by mrpool",
        example->is_direct ? "mapped here" : "not mapped here");
    printf(
        "%12s  %-9s %9s %12s %10s\n", "bytes", "operation", "transfers", "us", "MiB/s");
    for (size_t i = 0; i < N_SIZES && example->tallies[i][0].n_transfers > 0; i++) {
        for (unsigned operation = 0; operation < 2; operation++) {
            const struct tally *tally = &example->tallies[i][operation];
            double us = (double)tally->nanoseconds / 1e3 / (double)tally->n_transfers;

            printf("%12zu  %-9s %9zu %12.1f %10.1f  verified\n", sizes[i],
                operation == UCX_PUT ? "put" : "get", tally->n_transfers, us,
                (double)sizes[i] / us * 1e6 / 1048576.0);
        }
    }
    printf("\nucx_rma: %" PRIu64 " steps, %" PRIu64 " MiB and %zu atomics, all verified, "
           "%zu registrations in warm-up, 0 after\n",
        example->n_steps, example->n_bytes >> 20, example->n_atomics, trace->n_live);
    return true;
}

/* -- main -- */

static bool run(struct example *example)
{
    struct options *options = &example->options;
    struct trace trace = {0, 0};

    return options_meet(options, &example->peer) && plan_agree(options, &example->peer) &&
        ucx_open(&example->endpoint, &options->ucx, &example->peer) &&
        memory_open(example) && run_rounds(example, &trace) &&
        result_exchange(&example->peer) && print_result(example, &trace);
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
    good &= remotes_close(&example); /* keys before their endpoint, */
    ucx_quiet(&example.endpoint); /* what moves data before the memory, */
    good &= memory_close(&example);
    ucx_close(&example.endpoint); /* and the context last */
    peer_close(&example.peer);
    good &= peer_reap(&example.peer);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
