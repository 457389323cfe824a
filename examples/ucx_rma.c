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
 *     keys once per chunk, unpacked for our endpoint                 rma_steps.h
 *   - that nothing is registered after one round of all sizes        run_rounds
 *   - in which order things are closed                               main
 *
 * The steps that both processes run are explained in rma_steps.h; here is what UCX adds, and
 * steps in which one counts in a region of the other.
 */
#include "rma_steps.h"
#include "ucx_endpoint.h"
#include "ucx_rma_options.h"

#include "mrpool/mrpool.h"
#include "mrpool/ucx.h"

/* Atomic additions of one step; the fetched values tell whether each was done once. */
#define N_ADDS 16

struct example {
    struct options options;
    struct rma rma;
    struct ucx_endpoint endpoint;
    uint64_t n_bytes;
    bool is_direct; /* the peer's region was mapped here */
    struct tally tallies[N_SIZES][2];
    size_t n_atomics;
};

/* -- memory: a pool whose one rail is our own context -- */

static bool memory_open(struct example *example)
{
    struct rma *rma = &example->rma;
    struct mrp_ucx_wrap_params wrap_params = MRP_UCX_WRAP_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;

    /* One thread, one context: no lock to pass. */
    wrap_params.context = example->endpoint.context;
    wrap_params.features = UCP_FEATURE_RMA | UCP_FEATURE_AMO64;
    rma->key_endpoint = example->endpoint.ep;

    pool_params.name = "messages";
    pool_params.rails = &rma->provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_ALL;
    pool_params.never_free = true; /* what has been registered stays: idle or not */
    pool_params.headroom = GUARD;
    pool_params.tailroom = GUARD;

    if (!mrp_ok("context", mrp_context_create(NULL, &rma->context)) ||
        !mrp_ok("provider",
            mrp_ucx_provider_wrap(rma->context, NULL, &wrap_params, &rma->provider))) {
        return false;
    }
    if (example->options.ucx_memory &&
        !mrp_ok(
            "backend", mrp_provider_backend(rma->provider, NULL, &pool_params.backend))) {
        return false;
    }
    return mrp_ok("pool", mrp_pool_create(rma->context, &pool_params, &rma->pool));
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
    return ucx_transfer(&example->endpoint, &example->rma.peer, transfer);
}

/* Whether UCX has mapped the peer's memory into this process: a plain memcpy then. */
static bool is_mapped_here(const struct mrp_remote_region *target)
{
    void *address;

    return ucp_rkey_ptr(target->handle, target->address, &address) == UCS_OK;
}

/* A failure leaves the region to the context's end: the network may still be using it. */
static bool run_active(struct example *example, enum ucx_operation operation, size_t size,
    uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;
    struct ucx_transfer transfer = {.operation = operation};
    struct mrp_region *region =
        region_prepare(&example->rma, size, seed, operation == UCX_PUT);
    uint64_t started;

    if (region == NULL || !target_receive(&example->rma, size, &target)) {
        return false;
    }
    example->is_direct = is_mapped_here(&target);
    started = now_ns();
    if (!region_transfer(example, region, &target, &transfer)) {
        return false;
    }
    *nanoseconds = now_ns() - started;
    return region_verify(region, seed) && active_end(&example->rma, region, *nanoseconds);
}

static bool run_passive(struct example *example, enum ucx_operation operation,
    size_t size, uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_region *region =
        region_prepare(&example->rma, size, seed, operation == UCX_GET);

    return region != NULL && region_offer(&example->rma, region, nanoseconds) &&
        region_verify(region, seed) && passive_end(&example->rma, region);
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
    struct mrp_region *region =
        region_prepare(&example->rma, sizeof(uint64_t), seed, true);
    uint64_t value = pattern_word(seed, 0), sum = value + N_ADDS * (N_ADDS + 1) / 2;
    struct ucx_transfer swap = {.operation = UCX_SWAP, .operand = ~value, .compare = sum};

    if (region == NULL || !target_receive(&example->rma, sizeof(uint64_t), &target)) {
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
        guards_verify(region, seed) && active_end(&example->rma, region, 0);
}

static bool run_atomics_passive(struct example *example, uint64_t seed)
{
    struct mrp_region *region =
        region_prepare(&example->rma, sizeof(uint64_t), seed, true);
    uint64_t *word = mrp_region_address(region), value = pattern_word(seed, 0), ignored;

    if (region == NULL) {
        return false;
    }
    *word = value;
    return region_offer(&example->rma, region, &ignored) &&
        (*word == ~value ||
            complain("after the atomics the word is %#" PRIx64 ", not %#" PRIx64, *word,
                ~value)) &&
        guards_verify(region, seed) && passive_end(&example->rma, region);
}

/* -- rounds -- */

static bool run_size(struct example *example, size_t i, bool is_warm_up)
{
    bool is_client = example->options.rma.role == ROLE_CLIENT;

    for (unsigned step = 0; step < 4; step++) {
        enum ucx_operation operation = step < 2 ? UCX_PUT : UCX_GET;
        bool is_active = (step % 2 == 0) == is_client;
        uint64_t seed =
            pattern_word(example->options.rma.plan.seed, example->rma.n_steps++);
        struct tally *tally = &example->tallies[i][operation];
        uint64_t nanoseconds = 0;

        if (!(is_active ? run_active : run_passive)(
                example, operation, sizes[i], seed, &nanoseconds)) {
            return complain("while %s %zu bytes, %s side, step %" PRIu64,
                operation == UCX_PUT ? "putting" : "getting", sizes[i],
                is_active ? "active" : "passive", example->rma.n_steps);
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
    const struct rma_options *options = &example->options.rma;

    for (size_t i = 0; i < N_SIZES && sizes[i] <= options->plan.max_size; i++) {
        if (!run_size(example, i, is_warm_up)) {
            return false;
        }
    }
    for (unsigned step = 0; step < 2; step++) {
        uint64_t seed = pattern_word(options->plan.seed, example->rma.n_steps++);
        bool is_active = (step == 0) == (options->role == ROLE_CLIENT);

        if (!(is_active ? run_atomics_active : run_atomics_passive)(example, seed)) {
            return complain("in the atomics, step %" PRIu64, example->rma.n_steps);
        }
        example->n_atomics += N_ADDS + 2;
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
    static const char *const names[] = {"put", "get"};
    const struct mrp_ucx_native *opened;
    const void *native;

    if (example->options.rma.quiet) {
        return true;
    }
    if (!mrp_ok("native", mrp_provider_native(example->rma.provider, &native))) {
        return false;
    }
    opened = native;
    printf("One-sided operations between two processes, from and to pool regions\n\n");
    printf("  transports  %s\n", opened->resources);
    printf("  memory      %s; the peer's regions are %s\n\n",
        example->options.ucx_memory ? "allocated by UCX" : "mapped by mrpool",
        example->is_direct ? "mapped here" : "not mapped here");
    tallies_print(example->tallies, names);
    printf("\nucx_rma: %" PRIu64 " steps, %" PRIu64 " MiB and %zu atomics, all verified, "
           "%" PRIu64 " registrations in warm-up, 0 after\n",
        example->rma.n_steps, example->n_bytes >> 20, example->n_atomics, trace->n_made);
    return true;
}

/* -- main -- */

static bool run(struct example *example)
{
    struct rma_options *options = &example->options.rma;
    struct peer *peer = &example->rma.peer;
    struct trace trace = {0, 0};

    return rma_meet(options, peer) && plan_agree(options, peer, "UCX") &&
        ucx_open(&example->endpoint, &example->options.ucx, peer) &&
        memory_open(example) && run_rounds(example, &trace) && result_exchange(peer) &&
        print_result(example, &trace);
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
    good &= remotes_close(rma); /* keys before their endpoint, */
    ucx_quiet(&example.endpoint); /* what moves data before the memory, */
    good &= context_close(rma->context, rma->pool);
    ucx_close(&example.endpoint); /* and the context last */
    peer_close(&rma->peer);
    good &= peer_reap(&rma->peer);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
