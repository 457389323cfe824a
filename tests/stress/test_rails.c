/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rails that come and go while four threads take and give back regions, register their
 * own memory, ask for keys, resolve addresses, ensure and trim.
 *
 * Each rail gives keys that name it and the registration's address, so that a mixture of
 * two rails, or of two chunks, is seen.
 */
#include "mrpool/thread.h"
#include "stress.h"

#include <sched.h>
#include <time.h>

#define N_WORKERS 4
#define N_NETWORKS 4
#define N_HELD 6
#define KEY(network, base) ((uint64_t)(network) << 56 | (uint64_t)(uintptr_t)(base))
#define NETWORK_OF(key) ((key) >> 56)
#define BASE_OF(key) ((key) & (((uint64_t)1 << 56) - 1))

/* A network that remembers nothing: its keys say it all. */
struct network {
    uint64_t number; /* from 1 on */
    atomic_size_t n_live, n_register;
    atomic_size_t fail_every; /* 0: never */
    struct mrp_provider *provider;
};

static enum mrp_status register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct network *network = state;
    size_t every = atomic_load(&network->fail_every);

    if (every != 0 && atomic_fetch_add(&network->n_register, 1) % every == every - 1) {
        return mrp_fail(MRP_ERR_REGISTER, 0, "network %d refuses", (int)network->number);
    }
    atomic_fetch_add(&network->n_live, 1);
    registration->remote_key = KEY(network->number, request->address);
    registration->local_desc = (void *)(uintptr_t)KEY(network->number, request->address);
    registration->native = registration->local_desc;
    registration->key_size = 8;
    /* remote addresses that differ from rail to rail */
    registration->remote_base = KEY(network->number, request->address);
    return MRP_OK;
}

static enum mrp_status deregister_memory(
    void *state, const struct mrp_registration *registration)
{
    struct network *network = state;

    STRESS_CHECK(NETWORK_OF(registration->remote_key) == network->number);
    atomic_fetch_sub(&network->n_live, 1);
    return MRP_OK;
}

static const struct mrp_provider_ops ops = {
    .struct_size = sizeof ops,
    .abi = MRP_PROVIDER_ABI,
    .module = "tagged",
    .purpose = "keys that name the rail and the memory",
    .register_memory = register_memory,
    .deregister_memory = deregister_memory,
};

struct load {
    struct stress_world world;
    struct network networks[N_NETWORKS];
    atomic_bool is_over;
    atomic_size_t n_resolved, n_changes, n_ensured, n_refused;
    struct mrp_region *region;
};

/* Whether the status is one that a rail which comes and goes may give. */
static bool may_be(enum mrp_status status)
{
    return status == MRP_OK || status == MRP_ERR_UNSUPPORTED ||
        status == MRP_ERR_UNAVAILABLE;
}

/* What a lookup tells belongs together: one rail, one registration. */
static void resolve(struct load *load, struct mrp_region *region, unsigned rail)
{
    struct mrp_region_info info = MRP_REGION_INFO_INIT;
    char *address = mrp_region_address(region);
    struct mrp_wire wire = MRP_WIRE_INIT;
    enum mrp_status status = mrp_resolve(load->world.pool, address, 8, rail, &wire);
    uint64_t base;

    STRESS_CHECK(may_be(status));
    if (status != MRP_OK) {
        return;
    }
    STRESS_CHECK(mrp_region_query(region, &info) == MRP_OK);
    base = (uintptr_t)info.chunk_address;
    STRESS_CHECK(BASE_OF(wire.remote_key) == base);
    STRESS_CHECK((uintptr_t)wire.local_desc == wire.remote_key);
    STRESS_CHECK((uintptr_t)wire.native == wire.remote_key);
    STRESS_CHECK(wire.remote_addr == wire.remote_key + wire.offset);
    atomic_fetch_add(&load->n_resolved, 1);
}

static void ask_for_keys(struct load *load, struct mrp_region *region, unsigned rail)
{
    unsigned char buffer[4096];
    size_t size = sizeof buffer;
    uint64_t key = 0;

    STRESS_CHECK(may_be(mrp_region_remote_key(region, rail, &key)));
    if (mrp_region_native_key(region, rail, buffer, &size) == MRP_OK) {
        STRESS_CHECK(size == 8);
    }
    size = sizeof buffer;
    if (mrp_region_key_pack(region, (uint64_t)1 << rail, buffer, &size) == MRP_OK) {
        STRESS_CHECK(size == 56);
    }
    if (mrp_region_ensure(region, (uint64_t)1 << rail) == MRP_OK) {
        atomic_fetch_add(&load->n_ensured, 1);
    } else {
        enum mrp_status status = mrp_error_last()->status;

        STRESS_CHECK(may_be(status) || status == MRP_ERR_REGISTER);
    }
}

static struct mrp_region *take(struct load *load, struct stress_thread *thread,
    unsigned char *memory, size_t memory_size)
{
    struct mrp_pool *pool = load->world.pool;
    struct mrp_region *region = NULL;

    switch (stress_random(thread) % 4) {
    case 0:
        STRESS_CHECK(
            mrp_region_register(pool, memory, memory_size, NULL, &region) == MRP_OK ||
            mrp_error_last()->status == MRP_ERR_REGISTER);
        return region;
    case 1:
        region = mrp_region_alloc(pool, MRP_MIB + stress_random(thread) % MRP_MIB);
        break;
    default:
        region = mrp_region_alloc(pool, 100 + stress_random(thread) % 60000);
    }
    STRESS_CHECK(region != NULL || mrp_error_last()->status == MRP_ERR_REGISTER);
    if (region != NULL) {
        stress_fill(region, thread->number);
    }
    return region;
}

static void work(struct load *load, struct stress_thread *thread)
{
    struct mrp_region *held[N_HELD] = {NULL};
    unsigned char *memory = malloc(N_HELD * (size_t)8192);

    for (size_t round = 0; !atomic_load(&load->is_over) && stress_goes_on(); round++) {
        size_t i = round % N_HELD;

        if (held[i] != NULL) {
            STRESS_CHECK(mrp_region_free(held[i]) == MRP_OK);
        }
        held[i] = take(load, thread, memory + i * 8192, 8192);
        if (held[i] != NULL) {
            for (size_t n = 0; n < 16; n++) {
                resolve(load, held[i], stress_random(thread) % (N_NETWORKS + 1));
            }
            ask_for_keys(load, held[i], stress_random(thread) % (N_NETWORKS + 1));
        }
        if (round % 32 == 31) {
            STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
            STRESS_CHECK(mrp_pool_trim(load->world.pool, 0, NULL) == MRP_OK);
        }
    }
    for (size_t i = 0; i < N_HELD; i++) {
        STRESS_CHECK(held[i] == NULL || mrp_region_free(held[i]) == MRP_OK);
    }
    STRESS_CHECK(mrp_thread_flush(load->world.pool) == MRP_OK);
    free(memory);
}

/* Add and remove, in every order, with every policy; some fail. */
static void change_rails(struct load *load, struct stress_thread *thread)
{
    unsigned rails[N_NETWORKS];
    bool is_there[N_NETWORKS] = {false};
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (now = start; now.tv_sec - start.tv_sec < 2 && stress_goes_on();
         clock_gettime(CLOCK_MONOTONIC, &now)) {
        size_t i = stress_random(thread) % N_NETWORKS;
        enum mrp_status status;

        if (!is_there[i]) {
            status = mrp_pool_rail_add(load->world.pool, load->networks[i].provider,
                (enum mrp_rail_policy)(stress_random(thread) % 3), &rails[i]);
            is_there[i] = status == MRP_OK;
            STRESS_CHECK(status == MRP_OK || status == MRP_ERR_REGISTER);
        } else if (stress_random(thread) % 4 == 0) {
            STRESS_CHECK(
                mrp_pool_rail_fail(load->world.pool, rails[i], "pulled") == MRP_OK);
        } else {
            is_there[i] = false;
            STRESS_CHECK(mrp_pool_rail_remove(load->world.pool, rails[i]) == MRP_OK);
            STRESS_CHECK(atomic_load(&load->networks[i].n_live) == 0);
        }
        if (!is_there[i]) { /* nobody of the pool is inside it: it can be closed */
            STRESS_CHECK(mrp_provider_close(load->networks[i].provider) == MRP_OK);
            STRESS_CHECK(mrp_provider_create(load->world.context, NULL, &ops,
                             &load->networks[i], &load->networks[i].provider) == MRP_OK);
        }
        atomic_fetch_add(&load->n_changes, 1);
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL); /* rails that are there */
    }
    for (size_t i = 0; i < N_NETWORKS; i++) {
        if (is_there[i]) {
            STRESS_CHECK(mrp_pool_rail_remove(load->world.pool, rails[i]) == MRP_OK);
        }
    }
    atomic_store(&load->is_over, true);
}

static void run_thread(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number == N_WORKERS) {
        change_rails(load, thread);
    } else {
        work(load, thread);
    }
}

/* A pool without rails, and networks that may be some. */
static void create(
    struct load *load, const struct mrp_pool_params *params, size_t fail_every)
{
    memset(load, 0, sizeof *load);
    stress_create(&load->world, params);
    for (size_t i = 0; i < N_NETWORKS; i++) {
        load->networks[i].number = i + 1;
        /* what fails is the joining of a rail, and sometimes growth */
        atomic_store(&load->networks[i].fail_every, i % 2 == 1 ? fail_every : 0);
        assert_int_equal(mrp_provider_create(load->world.context, NULL, &ops,
                             &load->networks[i], &load->networks[i].provider),
            MRP_OK);
    }
    /* its keys are of another kind */
    assert_int_equal(mrp_pool_rail_remove(load->world.pool, 0), MRP_OK);
}

static void run(size_t fail_every)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load;

    params.chunk_min = params.chunk_max = MRP_MIB;
    params.max_bytes = 512 * MRP_MIB;
    create(&load, &params, fail_every);
    stress_run(N_WORKERS + 1, run_thread, &load);
    for (size_t i = 0; i < N_NETWORKS; i++) {
        assert_int_equal(atomic_load(&load.networks[i].n_live), 0);
    }
    stress_check_rest(load.world.pool);
    print_message("%zu changes of rails, %zu addresses resolved, %zu regions ensured\n",
        atomic_load(&load.n_changes), atomic_load(&load.n_resolved),
        atomic_load(&load.n_ensured));
    assert_true(atomic_load(&load.n_changes) > 0);
    stress_destroy(&load.world);
}

static void rails__come_and_go_beside_everything(void **state)
{
    (void)state;
    run(0);
}

static void rails__come_and_go_and_fail(void **state)
{
    (void)state;
    run(7);
}

/* -- one lookup, two rails -- */

/* Nothing but the lookup, so that it is there that a thread stands still. */
static void resolve_often(struct load *load, char *address)
{
    struct mrp_wire wire = MRP_WIRE_INIT;
    size_t n_mixed = 0, n_resolved = 0;

    for (size_t n = 0; n < 100; n++) {
        if (mrp_resolve(load->world.pool, address, 8, 0, &wire) == MRP_OK) {
            n_resolved++;
            n_mixed += (uintptr_t)wire.local_desc != wire.remote_key ||
                (uintptr_t)wire.native != wire.remote_key ||
                wire.remote_addr != wire.remote_key + wire.offset;
        }
    }
    atomic_fetch_add(&load->n_resolved, n_resolved);
    STRESS_CHECK(n_mixed == 0);
}

/* Two rails take turns at one index. */
static void change_often(struct load *load)
{
    struct timespec start, now;
    unsigned rail = 99;

    clock_gettime(CLOCK_MONOTONIC, &start);
    for (now = start; now.tv_sec - start.tv_sec < 2 && stress_goes_on();
         clock_gettime(CLOCK_MONOTONIC, &now)) {
        struct network *network = &load->networks[load->n_changes % 2];

        STRESS_CHECK(mrp_pool_rail_add(load->world.pool, network->provider,
                         MRP_RAIL_EAGER, &rail) == MRP_OK);
        STRESS_CHECK(rail == 0);
        if (load->n_changes % 8 == 0) { /* let the others run while it is there */
            nanosleep(&(struct timespec){.tv_nsec = 10000}, NULL);
        }
        STRESS_CHECK(mrp_pool_rail_remove(load->world.pool, 0) == MRP_OK);
        atomic_fetch_add(&load->n_changes, 1);
    }
    atomic_store(&load->is_over, true);
}

/* On one processor, so that lookups stand still half-way while the rail changes. */
static void take_turns(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number == 0) {
        change_often(load);
    }
    while (!atomic_load(&load->is_over) && stress_goes_on()) {
        resolve_often(load, mrp_region_address(load->region));
    }
}

static void resolve__mixes_no_two_rails(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    cpu_set_t one, all;
    struct load load;

    (void)state;
    create(&load, &params, 0);
    load.region = mrp_region_alloc(load.world.pool, 2 * MRP_MIB);
    assert_non_null(load.region);
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    stress_run(3, take_turns, &load);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(mrp_region_free(load.region), MRP_OK);
    print_message("%zu changes of rails, %zu addresses resolved\n",
        atomic_load(&load.n_changes), atomic_load(&load.n_resolved));
    stress_destroy(&load.world);
}

/* -- requests that are refused -- */

static void not_called(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    (void)waiter;
    (void)region;
    (void)status;
}

/* Who cannot have memory finds out whether to wait for some, what rails there are meanwhile
 * and whatever becomes of them. */
static void be_refused(struct load *load)
{
    struct mrp_waiter waiter = MRP_WAITER_INIT(not_called, NULL);
    struct mrp_region *region;

    STRESS_CHECK(mrp_region_alloc(load->world.pool, 64 * MRP_MIB) == NULL);
    STRESS_CHECK(mrp_region_alloc_async(
                     load->world.pool, 64 * MRP_MIB, &waiter, &region) == MRP_ERR_LIMIT);
    atomic_fetch_add(&load->n_refused, 2);
}

static void refuse(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    if (thread->number == 0) {
        change_often(load);
    }
    while (!atomic_load(&load->is_over) && stress_goes_on()) {
        be_refused(load);
    }
}

static void rails__come_and_go_beside_refusals(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct load load;

    (void)state;
    params.max_bytes = 32 * MRP_MIB;
    create(&load, &params, 0);
    stress_run(2, refuse, &load);
    print_message("%zu changes of rails, %zu requests refused\n",
        atomic_load(&load.n_changes), atomic_load(&load.n_refused));
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rails__come_and_go_beside_everything),
        cmocka_unit_test(rails__come_and_go_and_fail),
        cmocka_unit_test(rails__come_and_go_beside_refusals),
        cmocka_unit_test(resolve__mixes_no_two_rails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
