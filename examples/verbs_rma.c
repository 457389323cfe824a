/* SPDX-License-Identifier: BSD-3-Clause
 *
 * RDMA writes, reads and compare-and-swaps between two processes over verbs, from and to
 * pool regions.
 *
 * The program is a small transport that lets mrpool open the device, and makes its queue
 * pair (verbs_endpoint.h) in the protection domain that the pool registers in. What to
 * look at:
 *   - how a transport gets at device, domain, port and address       network_open
 *   - what its send path asks for: address, lkey; rkey from a token  operation_of
 *   - how a peer gets at a region: a token of 32 bytes per region,
 *     keys once per chunk, when the peer asks for them               remote_resolve
 *   - that nothing is registered after one round of all sizes        run_rounds
 *
 * Both processes run the same steps. In each step one is active: it operates on a region
 * of the other, which stays passive. Then both verify their region, each byte of the
 * payload and of the guards around it.
 */
#include "pattern.h"
#include "peer.h"
#include "verbs_endpoint.h"
#include "verbs_rma_options.h"

#include "mrpool/mrpool.h"
#include "mrpool/verbs.h"

/* Guard bytes around each payload: the pool's headroom and tailroom, registered with it. */
#define GUARD 256

/* Words of a step of compare-and-swaps; two operations on each of them. */
#define N_WORDS 16

/* Chunks of the peer whose keys we hold; more than a pool of this program ever has. */
#define REMOTES_MAX 64

static const size_t sizes[] = {1, 2, 7, 64, 100, 1000, 4095, 4096, 4097, 16384, 65537,
    262144, 1048576, 1048577, 4194301, 16777216};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

enum kind {
    KIND_WRITE,
    KIND_READ,
    KIND_SWAP,
    N_KINDS
};
static const char *const kind_names[N_KINDS] = {"write", "read", "compare-and-swap"};

/* Steps of one kind after the warm-up, in both directions. */
struct tally {
    size_t n_steps;
    uint64_t n_bytes, nanoseconds;
};

struct example {
    struct options options;
    struct peer peer;
    struct verbs_endpoint endpoint;

    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct mrp_remote *remotes[REMOTES_MAX];
    size_t n_remotes;

    uint64_t n_steps; /* numbered alike in both processes */
    struct tally tallies[N_KINDS];
};

static bool mrp_ok(const char *what, enum mrp_status status)
{
    return status == MRP_OK || complain("%s: %s", what, mrp_error_last()->text);
}

/* -- the device, a pool that registers with it, a queue pair beside that -- */

static bool provider_open(struct example *example)
{
    const struct options *options = &example->options;
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    char text[256];
    int size = snprintf(text, sizeof(text), "port=%u", options->device_port);

    if (options->device != NULL) {
        size += snprintf(
            text + size, sizeof(text) - (size_t)size, ",device=%s", options->device);
    }
    if (options->gid_index >= 0) {
        snprintf(text + size, sizeof(text) - (size_t)size, ",gid_index=%d",
            options->gid_index);
    }
    params.options = text;
    return mrp_ok("context", mrp_context_create(NULL, &example->context)) &&
        mrp_ok("provider",
            mrp_provider_open(example->context, "verbs", &params, &example->provider));
}

static bool network_open(struct example *example)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    const struct mrp_verbs_native *opened;
    const void *native;

    if (!provider_open(example) ||
        !mrp_ok("provider", mrp_provider_query(example->provider, &info)) ||
        !mrp_ok("native", mrp_provider_native(example->provider, &native))) {
        return false;
    }
    if ((info.access & MRP_ACCESS_REMOTE_ATOMIC) == 0) {
        return complain("%s has no atomic operations", info.device);
    }
    params.name = "messages";
    params.rails = &example->provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    params.never_free = true; /* what has been registered stays: idle or not */
    params.headroom = GUARD;
    params.tailroom = GUARD;
    opened = native;
    return mrp_ok("pool", mrp_pool_create(example->context, &params, &example->pool)) &&
        verbs_open(&example->endpoint, opened->pd, opened->port, opened->gid_index) &&
        verbs_connect(&example->endpoint, &example->peer);
}

/* The queue pair goes before the domain that it is made in. Regions that a failed step has
 * left behind go with the context: no news then. */
static bool network_close(struct example *example)
{
    bool has_failed = peer_complaint[0] != '\0', closed = true;

    for (size_t i = 0; i < example->n_remotes; i++) {
        closed &= mrp_ok("closing keys", mrp_remote_close(example->remotes[i]));
    }
    if (example->pool != NULL) {
        closed &= mrp_ok("pool check", mrp_pool_check(example->pool));
    }
    verbs_close(&example->endpoint);
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

/* -- words to compare and swap: every other one is expected to be what it is -- */

static uint64_t word_before(uint64_t seed, size_t index)
{
    return pattern_word(seed, index);
}

static uint64_t word_after(uint64_t seed, size_t index)
{
    return index % 2 == 0 ? pattern_word(~seed, index) : word_before(seed, index);
}

static struct mrp_region *words_prepare(struct example *example, uint64_t seed)
{
    struct mrp_region *region =
        region_prepare(example, N_WORDS * sizeof(uint64_t), seed, true);
    uint64_t *words = mrp_region_address(region);

    for (size_t i = 0; region != NULL && i < N_WORDS; i++) {
        words[i] = word_before(seed, i);
    }
    return region;
}

static bool words_verify(const struct mrp_region *region, uint64_t seed)
{
    const uint64_t *words = mrp_region_address(region);

    for (size_t i = 0; i < N_WORDS; i++) {
        if (words[i] != word_after(seed, i)) {
            return complain("word %zu is %#" PRIx64 ", not %#" PRIx64, i, words[i],
                word_after(seed, i));
        }
    }
    return guards_verify(region, seed);
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

/* Offer a region: its token, and the keys of its chunk when the peer asks for them. Ends
 * when the peer is done. */
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

static bool operation_of(const struct mrp_region *region,
    const struct mrp_remote_region *target, enum ibv_wr_opcode opcode,
    struct verbs_operation *operation)
{
    void *lkey;

    *operation = (struct verbs_operation){.opcode = opcode,
        .local = mrp_region_address(region),
        .size = mrp_region_size(region),
        .remote_address = target->address,
        .rkey = (uint32_t)target->key};
    if (!mrp_ok("local key", mrp_region_local_desc(region, 0, &lkey))) {
        return false;
    }
    operation->lkey = (uint32_t)(uintptr_t)lkey;
    return true;
}

/* A write has completed when the peer's device has it; a read of its last byte comes
 * behind it, and so pushes it into the peer's memory. */
static bool write_flush(struct example *example, const struct verbs_operation *write,
    const struct mrp_remote_region *target)
{
    struct mrp_region *region = mrp_region_alloc(example->pool, 1);
    struct verbs_operation read;

    if (region == NULL) {
        return complain("region of 1 byte: %s", mrp_error_last()->text);
    }
    if (!operation_of(region, target, IBV_WR_RDMA_READ, &read)) {
        return false;
    }
    read.remote_address += write->size - 1;
    return verbs_transfer(&example->endpoint, &example->peer, &read) &&
        mrp_ok("free", mrp_region_free(region));
}

/* Two per word: one that is to succeed at even words, and one after it that never is. */
static bool swap_words(struct example *example, const struct mrp_region *region,
    const struct mrp_remote_region *target, uint64_t seed)
{
    uint64_t *words = mrp_region_address(region);
    struct verbs_operation swap;

    if (!operation_of(region, target, IBV_WR_ATOMIC_CMP_AND_SWP, &swap)) {
        return false;
    }
    swap.size = sizeof(uint64_t);
    for (size_t i = 0; i < 2 * N_WORDS; i++) {
        size_t index = i / 2;
        uint64_t now = i % 2 == 0 ? word_before(seed, index) : word_after(seed, index);

        swap.expected = i % 2 == 0 && index % 2 == 0 ? now : ~now;
        swap.desired = pattern_word(~seed, index);
        swap.local = (unsigned char *)&words[index];
        swap.remote_address = target->address + index * sizeof(uint64_t);
        if (!verbs_start(&example->endpoint, &swap) ||
            !verbs_wait(&example->endpoint, &example->peer)) {
            return false;
        }
        if (words[index] != now) {
            return complain(
                "word %zu was %#" PRIx64 ", not %#" PRIx64, index, words[index], now);
        }
    }
    return true;
}

static bool region_operate(struct example *example, const struct mrp_region *region,
    const struct mrp_remote_region *target, enum kind kind, uint64_t seed)
{
    struct verbs_operation operation;

    if (kind == KIND_SWAP) {
        return swap_words(example, region, target, seed);
    }
    return operation_of(region, target,
               kind == KIND_WRITE ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, &operation) &&
        verbs_transfer(&example->endpoint, &example->peer, &operation) &&
        (kind == KIND_READ || write_flush(example, &operation, target));
}

static bool operated_verify(
    const struct mrp_region *region, enum kind kind, uint64_t seed)
{
    return kind == KIND_SWAP ? words_verify(region, seed) : region_verify(region, seed);
}

/* A failure leaves the region to the context's end: the network may still be using it. */
static bool run_active(struct example *example, enum kind kind, size_t size,
    uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;
    struct peer *peer = &example->peer;
    struct peer_message message;
    struct mrp_region *region;
    struct mrp_token token;
    uint64_t started;
    char text[32];

    region = region_prepare(example, size, seed, kind == KIND_WRITE);
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
    if (!region_operate(example, region, &target, kind, seed)) {
        return false;
    }
    *nanoseconds = now_ns() - started;
    snprintf(text, sizeof(text), "%" PRIu64, *nanoseconds);
    return operated_verify(region, kind, seed) &&
        peer_send(peer, PEER_DONE, text, strlen(text)) &&
        peer_receive(peer, PEER_VERIFIED, &message) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- one step: the passive side -- */

static bool run_passive(struct example *example, enum kind kind, size_t size,
    uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_region *region = kind == KIND_SWAP
        ? words_prepare(example, seed)
        : region_prepare(example, size, seed, kind == KIND_READ);

    return region != NULL && region_offer(example, region, nanoseconds) &&
        operated_verify(region, kind, seed) &&
        peer_send(&example->peer, PEER_VERIFIED, NULL, 0) &&
        mrp_ok("free", mrp_region_free(region));
}

/* -- rounds -- */

static bool run_step(
    struct example *example, enum kind kind, size_t size, bool is_active, bool is_warm_up)
{
    uint64_t seed = pattern_word(example->options.plan.seed, example->n_steps++);
    struct tally *tally = &example->tallies[kind];
    uint64_t nanoseconds = 0;

    if (!(is_active ? run_active : run_passive)(
            example, kind, size, seed, &nanoseconds)) {
        return complain("%s of %zu bytes, %s side, step %" PRIu64, kind_names[kind], size,
            is_active ? "active" : "passive", example->n_steps);
    }
    if (!is_warm_up) {
        tally->n_steps++;
        tally->n_bytes += size;
        tally->nanoseconds += nanoseconds;
    }
    return true;
}

/* Both directions of every kind; words have a size of their own. */
static bool run_size(struct example *example, size_t size, bool is_warm_up)
{
    bool is_client = example->options.role == ROLE_CLIENT;

    for (int step = 0; step < 2 * N_KINDS; step++) {
        enum kind kind = (enum kind)(step / 2);

        if (!run_step(example, kind,
                kind == KIND_SWAP ? N_WORDS * sizeof(uint64_t) : size,
                (step % 2 == 0) == is_client, is_warm_up)) {
            return false;
        }
    }
    return true;
}

static bool run_round(struct example *example, bool is_warm_up)
{
    const struct plan *plan = &example->options.plan;

    if (plan->only_size > 0) {
        return run_size(example, plan->only_size, is_warm_up);
    }
    for (size_t i = 0; i < N_SIZES && sizes[i] <= plan->max_size; i++) {
        if (!run_size(example, sizes[i], is_warm_up)) {
            return false;
        }
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

static bool run_rounds(struct example *example, size_t *n_registrations)
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
    *n_registrations = warm.n_live;
    return trace_take(example, &end) &&
        ((end.n_live == warm.n_live && end.n_growths == warm.n_growths) ||
            complain("after the warm-up: %zu registrations live instead of %zu, pool "
                     "grown %" PRIu64 " times",
                end.n_live, warm.n_live, end.n_growths - warm.n_growths));
}

/* -- what is printed -- */

static void print_result(const struct example *example, size_t n_registrations)
{
    const struct verbs_endpoint *endpoint = &example->endpoint;
    uint64_t n_bytes = 0;

    if (example->options.quiet) {
        return;
    }
    printf("One-sided operations between two processes, from and to pool regions\n\n");
    printf("  device     %s port %u, %s, GID index %d, MTU %u\n\n",
        ibv_get_device_name(endpoint->pd->context->device), endpoint->port,
        endpoint->attr.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand",
        endpoint->gid_index, 128u << endpoint->attr.active_mtu);
    printf("%-17s %8s %12s %12s\n", "operation", "steps", "bytes", "us per step");
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        const struct tally *tally = &example->tallies[kind];

        n_bytes += tally->n_bytes;
        printf("%-17s %8zu %12" PRIu64 " %12.1f  verified\n", kind_names[kind],
            tally->n_steps, tally->n_bytes,
            (double)tally->nanoseconds / 1e3 / (double)tally->n_steps);
    }
    printf("\nverbs_rma: %" PRIu64 " steps, %" PRIu64 " bytes after the warm-up, all "
           "verified, %zu registrations, 0 after the warm-up\n",
        example->n_steps, n_bytes, n_registrations);
}

/* -- main -- */

static bool run(struct example *example)
{
    struct options *options = &example->options;
    struct peer_message message;
    size_t n_registrations = 0;

    if (!options_meet(options, &example->peer) || !plan_agree(options, &example->peer) ||
        !network_open(example) || !run_rounds(example, &n_registrations) ||
        !peer_send(&example->peer, PEER_RESULT, NULL, 0) ||
        !peer_receive(&example->peer, PEER_RESULT, &message)) {
        return false;
    }
    print_result(example, n_registrations);
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
    good &= network_close(&example);
    peer_close(&example.peer);
    good &= peer_reap(&example.peer);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
