/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The time line that quarantine is for, between two processes over libfabric: a peer has
 * the key of a buffer; the transfer is aborted; the buffer gets a new owner; then the
 * peer writes.
 *
 *     freed        the new owner finds the peer's bytes in its buffer
 *     abandoned    nobody gets the buffer before the peer is known to have ended
 *     revoked      the network refuses what the peer writes
 */
#include "ofi_writer.h"
#include "pool/pool.h"

#define SIZE 1000
#define N_OWNERS 64
#define OWN 0x11 /* of new owners */
#define LIVE 0x22
#define LATE 0x5a

/* The side whose memory it is. */
struct service {
    struct peer *peer;
    struct mrp_context *context;
    struct mrp_provider *rail;
    struct mrp_pool *pool;
};

static void open_service(struct service *service, struct peer *peer, bool isolate)
{
    struct mrp_ofi_wrap_params wrap = MRP_OFI_WRAP_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    service->peer = peer;
    PEER_CHECK(mrp_context_create(NULL, &service->context) == MRP_OK);
    wrap.domain = peer->domain;
    wrap.info = peer->info;
    PEER_CHECK(
        mrp_ofi_provider_wrap(service->context, NULL, &wrap, &service->rail) == MRP_OK);
    params.rails = &service->rail;
    params.n_rails = 1;
    params.access = MRP_ACCESS_REMOTE;
    params.isolate = isolate;
    params.max_bytes = 64 << 20;
    PEER_CHECK(mrp_pool_create(service->context, &params, &service->pool) == MRP_OK);
}

static void close_service(struct service *service)
{
    PEER_CHECK(mrp_pool_check(service->pool) == MRP_OK);
    PEER_CHECK(mrp_pool_destroy(service->pool) == MRP_OK);
    PEER_CHECK(mrp_context_destroy(service->context) == MRP_OK);
    writer_end(service->peer);
}

/* What a peer knows of a region for as long as it likes. */
struct invitation {
    uint64_t address, key;
    unsigned char *memory;
};

static struct mrp_region *take(struct service *service, struct invitation *invitation)
{
    struct mrp_region *region = mrp_region_alloc(service->pool, SIZE);

    PEER_CHECK(region != NULL);
    PEER_CHECK(mrp_region_remote_addr(region, 0, &invitation->address) == MRP_OK);
    PEER_CHECK(mrp_region_remote_key(region, 0, &invitation->key) == MRP_OK);
    invitation->memory = mrp_region_address(region);
    return region;
}

static enum writer_result write_to(
    struct service *service, const struct invitation *invitation, unsigned char value)
{
    return writer_write(service->peer, invitation->address, invitation->key, SIZE, value);
}

/* A transfer that comes to its end: the peer has the key, and writes once. */
static struct mrp_region *transfer(struct service *service, struct invitation *invitation)
{
    struct mrp_region *region = take(service, invitation);

    PEER_CHECK(write_to(service, invitation, LIVE) == WRITER_DONE);
    PEER_CHECK(writer_sees(service->peer, invitation->memory, SIZE, LIVE));
    return region;
}

/* What was sent before has arrived, or never will. tcp drops the connection on which a
 * write was refused, and what was sent on it before the peer knows. */
static void settle(struct service *service)
{
    struct invitation invitation;
    struct mrp_region *region = take(service, &invitation);
    bool arrives = false;

    for (int i = 0; i < 5 && !arrives; i++) {
        write_to(service, &invitation, LIVE);
        writer_pump_for(service->peer, 0.2);
        arrives = writer_holds(invitation.memory, SIZE, LIVE);
    }
    PEER_CHECK(arrives);
    PEER_CHECK(mrp_region_free(region) == MRP_OK);
}

struct owners {
    struct mrp_region *regions[N_OWNERS];
    bool has_memory; /* one of them got what the peer writes to */
};

static void take_owners(
    struct service *service, struct owners *owners, const struct invitation *invitation)
{
    PEER_CHECK(mrp_region_alloc_many(service->pool, SIZE, N_OWNERS, owners->regions) ==
        N_OWNERS);
    owners->has_memory = false;
    for (size_t i = 0; i < N_OWNERS; i++) {
        unsigned char *memory = mrp_region_address(owners->regions[i]);

        owners->has_memory = owners->has_memory || memory == invitation->memory;
        memset(memory, OWN, SIZE);
    }
}

/* Whether each still has what it wrote. */
static bool are_intact(const struct owners *owners)
{
    for (size_t i = 0; i < N_OWNERS; i++) {
        if (!writer_holds(mrp_region_address(owners->regions[i]), SIZE, OWN)) {
            return false;
        }
    }
    return true;
}

static void free_owners(struct owners *owners)
{
    PEER_CHECK(mrp_region_free_many(owners->regions, N_OWNERS, NULL) == MRP_OK);
}

/* -- the three time lines -- */

static void run_freed(struct peer *peer, pid_t writer)
{
    struct invitation invitation;
    struct service service;
    struct owners owners;

    (void)writer;
    open_service(&service, peer, false);
    PEER_CHECK(mrp_region_free(transfer(&service, &invitation)) == MRP_OK); /* aborted */
    take_owners(&service, &owners, &invitation);
    PEER_CHECK(owners.has_memory && are_intact(&owners));
    PEER_CHECK(write_to(&service, &invitation, LATE) == WRITER_DONE);
    PEER_CHECK(writer_sees(peer, invitation.memory, SIZE, LATE));
    PEER_CHECK(!are_intact(&owners)); /* which nobody told its owner */
    free_owners(&owners);
    close_service(&service);
}

static void run_abandoned(struct peer *peer, pid_t writer)
{
    const uint64_t connection = 7;
    struct invitation invitation;
    struct service service;
    struct owners owners;
    size_t n_regions;

    (void)writer;
    open_service(&service, peer, false);
    PEER_CHECK(mrp_region_abandon(transfer(&service, &invitation), connection) == MRP_OK);
    for (int i = 0; i < 3; i++) {
        take_owners(&service, &owners, &invitation);
        PEER_CHECK(!owners.has_memory);
        PEER_CHECK(write_to(&service, &invitation, LATE) == WRITER_DONE);
        PEER_CHECK(writer_sees(peer, invitation.memory, SIZE, LATE)); /* it does arrive */
        memset(invitation.memory, 0, SIZE);
        PEER_CHECK(are_intact(&owners));
        free_owners(&owners);
    }
    /* the peer has answered: its writes are over */
    PEER_CHECK(mrp_pool_drained(service.pool, connection, &n_regions) == MRP_OK);
    PEER_CHECK(n_regions == 1);
    take_owners(&service, &owners, &invitation);
    PEER_CHECK(owners.has_memory);
    settle(&service);
    PEER_CHECK(are_intact(&owners));
    free_owners(&owners);
    close_service(&service);
}

static void run_revoked(struct peer *peer, pid_t writer)
{
    struct invitation invitation;
    struct service service;
    struct owners owners;
    struct mrp_pool_stats stats = MRP_POOL_STATS_INIT;
    struct mrp_region *region;

    (void)writer;
    setenv("MRPOOL_OFI_REVOKES", "on", 1); /* no write has begun */
    open_service(&service, peer, true);
    region = transfer(&service, &invitation);
    PEER_CHECK(mrp_region_abandon(region, 7) == MRP_OK); /* and nobody ever drains it */
    PEER_CHECK(mrp_quarantine_revoke(service.pool, 0) == 1);
    take_owners(&service, &owners, &invitation);
    write_to(&service, &invitation, LATE); /* tcp tells nobody that it was refused */
    settle(&service);
    PEER_CHECK(are_intact(&owners));
    PEER_CHECK(mrp_pool_stats(service.pool, &stats) == MRP_OK);
    PEER_CHECK(stats.n_revoked == 1 && stats.n_quarantined == 0);
    free_owners(&owners);
    close_service(&service);
}

/* Where the network does not refuse, nothing is revoked unless the caller insists. */
static void run_kept(struct peer *peer, pid_t writer)
{
    struct invitation invitation;
    struct service service;
    struct owners owners;

    (void)writer;
    open_service(&service, peer, true);
    PEER_CHECK(mrp_region_abandon(transfer(&service, &invitation), 7) == MRP_OK);
    PEER_CHECK(mrp_quarantine_revoke(service.pool, 0) == 0);
    take_owners(&service, &owners, &invitation);
    PEER_CHECK(!owners.has_memory);
    write_to(&service, &invitation, LATE);
    PEER_CHECK(writer_sees(peer, invitation.memory, SIZE, LATE));
    PEER_CHECK(are_intact(&owners));
    PEER_CHECK(mrp_pool_drained(service.pool, 7, NULL) == MRP_OK);
    free_owners(&owners);
    close_service(&service);
}

static void timeline__freed(void **state)
{
    writer_test(*state, run_freed);
}

static void timeline__abandoned(void **state)
{
    writer_test(*state, run_abandoned);
}

static void timeline__revoked(void **state)
{
    const struct peer_case *test = *state;

    if (test->mr_mode_wanted == FI_MR_VIRT_ADDR) {
        printf(
            "SKIP: %s: writes with keys that are gone: test_ofi_revoke.c\n", test->name);
        skip();
    }
    writer_test(*state, run_revoked);
}

static void timeline__kept(void **state)
{
    writer_test(*state, run_kept);
}

static struct peer_case cases[] = {
    {"tcp", "tcp", WRITER_LOCALHOST, FI_EP_RDM, WRITER_MR_ALL, 0, false, true},
    {"tcp_virtual", "tcp", WRITER_LOCALHOST, FI_EP_RDM, WRITER_MR_BASIC, WRITER_MR_BASIC,
        false, true},
    {"sockets", "sockets", WRITER_LOCALHOST, FI_EP_RDM, WRITER_MR_ALL, 0, false, true},
    {"shm_offsets", "shm", NULL, FI_EP_RDM, WRITER_MR_SCALABLE, WRITER_MR_SCALABLE, false,
        true},
    {"shm", "shm", NULL, FI_EP_RDM, WRITER_MR_ALL, FI_MR_VIRT_ADDR, false, true},
};

#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static const struct {
    const char *name;
    CMUnitTestFunction run;
} timelines[] = {{"freed", timeline__freed}, {"abandoned", timeline__abandoned},
    {"kept", timeline__kept}, {"revoked", timeline__revoked}};

#define N_TIMELINES (sizeof(timelines) / sizeof(timelines[0]))

/* An argument is a pattern of the cases to run: "tcp*". */
int main(int n_arguments, char **arguments)
{
    static char names[N_CASES * N_TIMELINES][64];
    struct CMUnitTest tests[N_CASES * N_TIMELINES];

    if (n_arguments > 1) {
        cmocka_set_test_filter(arguments[1]);
    }
    for (size_t i = 0; i < N_CASES * N_TIMELINES; i++) {
        struct peer_case *test = &cases[i / N_TIMELINES];

        snprintf(names[i], sizeof(names[i]), "%s__%s", test->name,
            timelines[i % N_TIMELINES].name);
        tests[i] = (struct CMUnitTest){
            names[i], timelines[i % N_TIMELINES].run, NULL, NULL, test};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
