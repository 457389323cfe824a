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
 *     keys once per chunk, when the peer asks for them               rma_steps.h
 *   - that nothing is registered after one round of all sizes        run_rounds
 *
 * The steps that both processes run are explained in rma_steps.h; here is what libfabric adds.
 */
#include "ofi_endpoint.h"
#include "ofi_rma_options.h"
#include "rma_steps.h"

#include "mrpool/mrpool.h"
#include "mrpool/ofi.h"

struct example {
    struct options options;
    struct rma rma;
    struct ofi_endpoint endpoint;
    uint64_t n_bytes;
    struct tally tallies[N_SIZES][2];
};

/* -- memory: a pool whose one rail is our own domain -- */

static bool memory_open(struct example *example)
{
    struct rma *rma = &example->rma;
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
    pool_params.rails = &rma->provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    pool_params.never_free = true; /* what has been registered stays: idle or not */
    pool_params.headroom = GUARD;
    pool_params.tailroom = GUARD;

    return mrp_ok("context", mrp_context_create(NULL, &rma->context)) &&
        mrp_ok("provider",
            mrp_ofi_provider_wrap(rma->context, NULL, &wrap_params, &rma->provider)) &&
        mrp_ok("pool", mrp_pool_create(rma->context, &pool_params, &rma->pool));
}

/* -- one step -- */

/* A completed write has left this process; only with delivery complete it has arrived.
 * Elsewhere a read of its last byte comes behind it, and so pushes it into the peer's
 * memory. */
static bool write_flush(struct example *example, const struct ofi_transfer *write)
{
    struct mrp_region *region = mrp_region_alloc(example->rma.pool, 1);
    struct ofi_transfer read = *write;

    if (region == NULL) {
        return complain("region of 1 byte: %s", mrp_error_last()->text);
    }
    read.operation = OFI_READ;
    read.local = mrp_region_address(region);
    read.remote_address += write->size - 1;
    read.size = 1;
    return mrp_ok("descriptor", mrp_region_local_desc(region, 0, &read.local_desc)) &&
        ofi_transfer(&example->endpoint, &example->rma.peer, &read) &&
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
        ofi_transfer(&example->endpoint, &example->rma.peer, &transfer) &&
        (operation == OFI_READ || example->endpoint.delivery_complete ||
            write_flush(example, &transfer));
}

/* A failure leaves the region to the context's end: the network may still be using it. */
static bool run_active(struct example *example, enum ofi_operation operation, size_t size,
    uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_remote_region target = MRP_REMOTE_REGION_INIT;
    struct mrp_region *region =
        region_prepare(&example->rma, size, seed, operation == OFI_WRITE);
    uint64_t started;

    if (region == NULL || !target_receive(&example->rma, size, &target)) {
        return false;
    }
    started = now_ns();
    if (!region_transfer(example, region, &target, operation)) {
        return false;
    }
    *nanoseconds = now_ns() - started;
    return region_verify(region, seed) && active_end(&example->rma, region, *nanoseconds);
}

static bool run_passive(struct example *example, enum ofi_operation operation,
    size_t size, uint64_t seed, uint64_t *nanoseconds)
{
    struct mrp_region *region =
        region_prepare(&example->rma, size, seed, operation == OFI_READ);

    return region != NULL && region_offer(&example->rma, region, nanoseconds) &&
        region_verify(region, seed) && passive_end(&example->rma, region);
}

/* -- rounds -- */

/* Every size, written and read, in both directions. Regions are given back after each
 * transfer and taken anew for the next; that must not register either. */
static bool run_round(struct example *example, bool is_warm_up)
{
    const struct rma_options *options = &example->options.rma;

    for (size_t i = 0; i < N_SIZES && sizes[i] <= options->plan.max_size; i++) {
        for (unsigned step = 0; step < 4; step++) {
            enum ofi_operation operation = step < 2 ? OFI_WRITE : OFI_READ;
            bool is_active = (step % 2 == 0) == (options->role == ROLE_CLIENT);
            uint64_t seed = pattern_word(options->plan.seed, example->rma.n_steps++);
            struct tally *tally = &example->tallies[i][operation];
            uint64_t nanoseconds = 0;

            if (!(is_active ? run_active : run_passive)(
                    example, operation, sizes[i], seed, &nanoseconds)) {
                return complain("while %s %zu bytes, %s side, step %" PRIu64,
                    operation == OFI_WRITE ? "writing" : "reading", sizes[i],
                    is_active ? "active" : "passive", example->rma.n_steps);
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

/* Both processes' registrations, as libfabric's domain counts them (fi_mr_reg, fi_mr_regv,
 * fi_mr_regattr): in the warm-up, and after it. */
struct result {
    size_t n_warm_up;
    size_t n_after;
};

static bool run_rounds(struct example *example, struct result *result)
{
    struct rma *rma = &example->rma;
    struct trace warm;

    if (!run_round(example, true) || !trace_take(rma->provider, &warm)) {
        return false;
    }
    result->n_warm_up = example->endpoint.n_registrations;
    for (size_t round = 0; round < example->options.rma.plan.rounds; round++) {
        if (!run_round(example, false)) {
            return false;
        }
    }
    result->n_after = example->endpoint.n_registrations - result->n_warm_up;
    return trace_compare(rma->provider, &warm);
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
}

static void print_json(const struct example *example, const struct result *result)
{
    const char *separator = "";

    printf("{\"provider\": \"%s\", \"domain\": \"%s\", \"transfers\": %" PRIu64
           ", \"bytes\": %" PRIu64 ", \"registrations_warm_up\": %zu, "
           "\"registrations_after\": %zu, \"sizes\": [",
        example->endpoint.info->fabric_attr->prov_name,
        example->endpoint.info->domain_attr->name, example->rma.n_steps, example->n_bytes,
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
    if (example->options.rma.quiet) {
        return;
    }
    if (example->options.json) {
        print_json(example, result);
        return;
    }
    print_head(example);
    tallies_print(example->tallies, operation_names);
    printf("\nofi_rma: %" PRIu64 " transfers, %" PRIu64
           " MiB, all bytes verified, %zu registrations in warm-up, %zu after\n",
        example->rma.n_steps, example->n_bytes >> 20, result->n_warm_up, result->n_after);
}

/* -- main -- */

static bool run(struct example *example)
{
    struct rma_options *options = &example->options.rma;
    const struct ofi_options *ofi = &example->options.ofi;
    struct peer *peer = &example->rma.peer;
    struct result result = {0, 0};
    char network[100];

    snprintf(network, sizeof(network), "libfabric's %s with %s endpoints", ofi->provider,
        ofi->type == FI_EP_MSG ? "connected" : "connectionless");
    if (!rma_meet(options, peer) || !plan_agree(options, peer, network) ||
        !ofi_open(&example->endpoint, ofi, peer, options->role != ROLE_CLIENT) ||
        !memory_open(example) || !run_rounds(example, &result) ||
        !result_exchange(peer, &result)) {
        return false;
    }
    print_result(example, &result);
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
    ofi_quiet(&example.endpoint);
    good &= remotes_close(rma);
    good &= context_close(rma->context, rma->pool);
    ofi_close(&example.endpoint);
    peer_close(&rma->peer);
    good &= peer_reap(&rma->peer);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
