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
 *     keys once per chunk, when the peer asks for them               rma_steps.h
 *   - that nothing is registered after one round of all sizes        run_rounds
 *
 * The steps that both processes run are explained in rma_steps.h; here is what verbs adds.
 */
#include "rma_steps.h"
#include "verbs_endpoint.h"
#include "verbs_rma_options.h"

#include "mrpool/mrpool.h"
#include "mrpool/verbs.h"

/* Words of a step of compare-and-swaps; two operations on each of them. */
#define N_WORDS 16

enum kind {
    KIND_WRITE,
    KIND_READ,
    KIND_SWAP,
    N_KINDS
};
static const char *const kind_names[N_KINDS] = {"write", "read", "compare-and-swap"};

/* Steps of one kind after the warm-up, in both directions. */
struct kind_tally {
    size_t n_steps;
    uint64_t n_bytes, nanoseconds;
};

struct example {
    struct options options;
    struct rma rma;
    struct verbs_endpoint endpoint;
    struct kind_tally tallies[N_KINDS];
};

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
    return mrp_ok("context", mrp_context_create(NULL, &example->rma.context)) &&
        mrp_ok("provider",
            mrp_provider_open(
                example->rma.context, "verbs", &params, &example->rma.provider));
}

static bool network_open(struct example *example)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct rma *rma = &example->rma;
    const struct mrp_verbs_native *opened;
    const void *native;

    if (!provider_open(example) ||
        !mrp_ok("provider", mrp_provider_query(rma->provider, &info)) ||
        !mrp_ok("native", mrp_provider_native(rma->provider, &native))) {
        return false;
    }
    if ((info.access & MRP_ACCESS_REMOTE_ATOMIC) == 0) {
        return complain("%s has no atomic operations", info.device);
    }
    params.name = "messages";
    params.rails = &rma->provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    params.never_free = true; /* what has been registered stays: idle or not */
    params.headroom = GUARD;
    params.tailroom = GUARD;
    opened = native;
    return mrp_ok("pool", mrp_pool_create(rma->context, &params, &rma->pool)) &&
        verbs_open(&example->endpoint, opened->pd, opened->port, opened->gid_index) &&
        verbs_connect(&example->endpoint, &rma->peer);
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
        region_prepare(&example->rma, N_WORDS * sizeof(uint64_t), seed, true);
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

/* -- one step -- */

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
    struct mrp_region *region = mrp_region_alloc(example->rma.pool, 1);
    struct verbs_operation read;

    if (region == NULL) {
        return complain("region of 1 byte: %s", mrp_error_last()->text);
    }
    if (!operation_of(region, target, IBV_WR_RDMA_READ, &read)) {
        return false;
    }
    read.remote_address += write->size - 1;
    return verbs_transfer(&example->endpoint, &example->rma.peer, &read) &&
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
            !verbs_wait(&example->endpoint, &example->rma.peer)) {
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
        verbs_transfer(&example->endpoint, &example->rma.peer, &operation) &&
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
    struct mrp_region *region =
        region_prepare(&example->rma, size, seed, kind == KIND_WRITE);
    uint64_t started;

    if (region == NULL || !target_receive(&example->rma, size, &target)) {
        return false;
    }
    started = now_ns();
    if (!region_operate(example, region, &target, kind, seed)) {
        return false;
    }
    *nanoseconds = now_ns() - started;
    return operated_verify(region, kind, seed) &&
        active_end(&example->rma, region, *nanoseconds);
}

static bool run_passive(struct example *example, enum kind kind, size_t size,
    uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_region *region = kind == KIND_SWAP
        ? words_prepare(example, seed)
        : region_prepare(&example->rma, size, seed, kind == KIND_READ);

    return region != NULL && region_offer(&example->rma, region, nanoseconds) &&
        operated_verify(region, kind, seed) && passive_end(&example->rma, region);
}

/* -- rounds -- */

static bool run_step(
    struct example *example, enum kind kind, size_t size, bool is_active, bool is_warm_up)
{
    uint64_t seed = pattern_word(example->options.rma.plan.seed, example->rma.n_steps++);
    struct kind_tally *tally = &example->tallies[kind];
    uint64_t nanoseconds = 0;

    if (!(is_active ? run_active : run_passive)(
            example, kind, size, seed, &nanoseconds)) {
        return complain("%s of %zu bytes, %s side, step %" PRIu64, kind_names[kind], size,
            is_active ? "active" : "passive", example->rma.n_steps);
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
    bool is_client = example->options.rma.role == ROLE_CLIENT;

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
    const struct plan *plan = &example->options.rma.plan;

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

static bool run_rounds(struct example *example, struct trace *warm)
{
    struct rma *rma = &example->rma;

    if (!run_round(example, true) || !trace_take(rma->provider, warm)) {
        return false;
    }
    for (size_t round = 0; round < example->options.rma.plan.rounds; round++) {
        if (!run_round(example, false)) {
            return false;
        }
    }
    return trace_compare(rma->provider, warm);
}

/* -- what is printed -- */

static void print_result(const struct example *example, uint64_t n_registrations)
{
    const struct verbs_endpoint *endpoint = &example->endpoint;
    uint64_t n_bytes = 0;

    if (example->options.rma.quiet) {
        return;
    }
    printf("One-sided operations between two processes, from and to pool regions\n\n");
    printf("  device     %s port %u, %s, GID index %d, MTU %u\n\n",
        ibv_get_device_name(endpoint->pd->context->device), endpoint->port,
        endpoint->attr.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand",
        endpoint->gid_index, 128u << endpoint->attr.active_mtu);
    printf("%-17s %8s %12s %12s\n", "operation", "steps", "bytes", "us per step");
    for (size_t kind = 0; kind < N_KINDS; kind++) {
        const struct kind_tally *tally = &example->tallies[kind];

        n_bytes += tally->n_bytes;
        printf("%-17s %8zu %12" PRIu64 " %12.1f  verified\n", kind_names[kind],
            tally->n_steps, tally->n_bytes,
            (double)tally->nanoseconds / 1e3 / (double)tally->n_steps);
    }
    printf("\nverbs_rma: %" PRIu64 " steps, %" PRIu64 " bytes after the warm-up, all "
           "verified, %" PRIu64 " registrations, 0 after the warm-up\n",
        example->rma.n_steps, n_bytes, n_registrations);
}

/* -- main -- */

static bool run(struct example *example)
{
    struct rma_options *options = &example->options.rma;
    struct peer *peer = &example->rma.peer;
    struct peer_message message;
    struct trace trace;

    if (!rma_meet(options, peer) || !plan_agree(options, peer, "verbs") ||
        !network_open(example) || !run_rounds(example, &trace) ||
        !peer_send(peer, PEER_RESULT, NULL, 0) ||
        !peer_receive(peer, PEER_RESULT, &message)) {
        return false;
    }
    print_result(example, trace.n_made);
    return true;
}

int main(int argc, char **argv)
{
    static struct example example;
    struct rma *rma = &example.rma;
    bool good;

    options_parse(&example.options, argc, argv);
    rma->peer = (struct peer)PEER_INIT(example.options.rma.timeout);
    good = run(&example);
    if (!good) {
        peer_give_up(&rma->peer);
    }
    alarm((unsigned)example.options.rma.timeout); /* closing is a wait like any other */
    good &= remotes_close(rma);
    verbs_close(&example.endpoint); /* before the domain that it was made in */
    good &= context_close(rma->context, rma->pool);
    peer_close(&rma->peer);
    good &= peer_reap(&rma->peer);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
