/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Placement: the NUMA node of a pool and of a request. A backend of the test's own plays
 * a machine of many nodes, and remembers what it was asked for.
 */
#include "pool/pool.h"
#include "recording_backend.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define N_NODES 4 /* MRP_NODE(0) to MRP_NODE(3); and 0, the pool's */
#define NODE_OUT_OF_ORDER MRP_NODE(9)

/* -- a machine of many nodes -- */

static struct machine {
    struct recording_backend recorder;
    pthread_mutex_t mutex;
    struct {
        char *address;
        size_t size;
        int node;
    } mappings[256]; /* address NULL: none */
    bool is_deaf; /* maps, wherever it was asked to */
} machine;

static enum mrp_status machine_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    enum mrp_status status;
    size_t i = 0;

    if (request->node == NODE_OUT_OF_ORDER) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "machine: node 9 is out of order");
    }
    pthread_mutex_lock(&machine.mutex);
    status = recording_map(state, request, mapping);
    while (i + 1 < N_OF(machine.mappings) && machine.mappings[i].address != NULL) {
        i++;
    }
    if (status == MRP_OK) {
        mapping->node = machine.is_deaf ? 0 : request->node;
        machine.mappings[i].address = mapping->address;
        machine.mappings[i].size = mapping->size;
        machine.mappings[i].node = request->node;
    }
    pthread_mutex_unlock(&machine.mutex);
    return status;
}

static enum mrp_status machine_unmap(void *state, const struct mrp_mapping *mapping)
{
    enum mrp_status status;

    pthread_mutex_lock(&machine.mutex);
    for (size_t i = 0; i < N_OF(machine.mappings); i++) {
        if (machine.mappings[i].address == mapping->address) {
            machine.mappings[i].address = NULL;
        }
    }
    status = recording_unmap(state, mapping);
    pthread_mutex_unlock(&machine.mutex);
    return status;
}

/* The node that the memory of a region was asked to be on. */
static int node_of(const struct mrp_region *region)
{
    const char *address = mrp_region_address(region);
    int node = -1;

    pthread_mutex_lock(&machine.mutex);
    for (size_t i = 0; i < N_OF(machine.mappings); i++) {
        const char *begin = machine.mappings[i].address;

        if (begin != NULL && address >= begin &&
            address < begin + machine.mappings[i].size) {
            node = machine.mappings[i].node;
        }
    }
    pthread_mutex_unlock(&machine.mutex);
    return node;
}

static size_t n_mappings(void)
{
    return machine.recorder.n_mapped - machine.recorder.n_unmapped;
}

static int setup(void **state)
{
    machine = (struct machine){.mutex = PTHREAD_MUTEX_INITIALIZER};
    return pool_fixture_setup(state);
}

static struct mrp_pool_params machine_params(struct pool_fixture *f, int node)
{
    static const struct mrp_backend_ops ops = {
        .struct_size = sizeof ops,
        .kind = "machine",
        .purpose = "has many nodes",
        .map = machine_map,
        .unmap = machine_unmap,
    };
    struct mrp_pool_params params = pool_fixture_params(f);

    assert_int_equal(mrp_backend_create_custom(
                         f->context, NULL, &ops, &machine.recorder, &params.backend),
        MRP_OK);
    params.node = node;
    return params;
}

static struct mrp_region *alloc_on(
    struct pool_fixture *f, size_t size, int node, uint32_t flags)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    request.node = node;
    request.flags = flags;
    return mrp_region_alloc_with(f->pool, size, &request);
}

static struct mrp_region *take_on(struct pool_fixture *f, size_t size, int node)
{
    struct mrp_region *region = alloc_on(f, size, node, 0);

    if (region == NULL) {
        fail_msg("%zu bytes of node %d: %s", size, node - 1, mrp_error_last()->text);
    }
    assert_int_equal(node_of(region), node != 0 ? node : f->pool->node);
    return region;
}

/* -- the pool's node -- */

static void pool__asks_for_its_node(void **state)
{
    static const size_t sizes[] = {0, 1000, 100 * 1000, 5 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, MRP_NODE(2));
    struct mrp_region *region;

    pool_fixture_create(f, &params);
    assert_int_equal(n_mappings(), 0); /* the node was tried, and given back */
    for (size_t i = 0; i < N_OF(sizes); i++) {
        region = pool_fixture_alloc(f, sizes[i]);
        assert_int_equal(node_of(region), MRP_NODE(2));
        pool_fixture_free(region);
        pool_fixture_free(take_on(f, sizes[i], MRP_NODE(2)));
        pool_fixture_free(take_on(f, sizes[i], 0));
    }
    assert_int_equal(n_mappings(), 2); /* its own node, by name or not, is one */
}

static void pool__refuses_a_node_it_cannot_have(void **state)
{
    static _Alignas(4096) char memory[MRP_MIB];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, NODE_OUT_OF_ORDER);
    struct mrp_backend_params array = MRP_BACKEND_PARAMS_INIT;

    assert_refused(
        mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_MEMORY, "out of order");
    params.node = MRP_NODE(1);
    machine.is_deaf = true;
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_UNSUPPORTED,
        "cannot bind to a NUMA node");
    assert_int_equal(n_mappings(), 0);
    params.node = -1;
    assert_refused(
        mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_INVALID, "node is -1");
    params.node = MRP_NODE(0);
    assert_int_equal(
        mrp_backend_create(f->context, "malloc", NULL, &params.backend), MRP_OK);
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_UNSUPPORTED,
        "backend malloc cannot bind to node 0");
    array.address = memory;
    array.size = sizeof memory;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &array, &params.backend), MRP_OK);
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_UNSUPPORTED,
        "backend array cannot bind to node 0");
    params = pool_fixture_params(f);
    params.node = MRP_NODE(1000);
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_INVALID,
        "NUMA node 1000 is not among");
}

/* -- a request's node -- */

/* Random sizes of all tiers and beyond, of nodes in turn, freed and taken again. */
static void mix(struct pool_fixture *f)
{
    struct mrp_region *regions[200];
    uint64_t seed = 1;
    size_t n_before = 0;

    for (int round = 0; round < 3; round++) {
        seed = 1; /* the same again, which what was freed serves */
        for (size_t i = 0; i < N_OF(regions); i++) {
            size_t size = (size_t)1 << pool_fixture_random(&seed) % 19;

            size += pool_fixture_random(&seed) % size;
            regions[i] = take_on(f, i % 16 == 0 ? 3 * MRP_MIB : size,
                (int)(pool_fixture_random(&seed) % (N_NODES + 1)));
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        for (size_t i = 0; i < N_OF(regions); i++) {
            pool_fixture_free(regions[i]);
        }
        assert_true(round == 0 || n_mappings() == n_before);
        n_before = n_mappings();
    }
}

static void alloc_with__nodes_share_no_chunk(void **state)
{
    static const enum mrp_checks checks[] = {
        MRP_CHECKS_STATE, MRP_CHECKS_NONE, MRP_CHECKS_FULL};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(checks); i++) {
        struct mrp_pool_params params = machine_params(f, i == 0 ? 0 : MRP_NODE(0));

        params.checks = checks[i];
        params.tiers[MRP_TIER_HUGE].max_size = i == 0 ? 512 * MRP_KIB : 0;
        pool_fixture_create(f, &params);
        mix(f);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
        assert_int_equal(n_mappings(), 0);
    }
}

static void alloc_with__idle_regions_stay_on_their_node(void **state)
{
    static const int nodes[] = {0, MRP_NODE(0), MRP_NODE(1), MRP_NODE(2)};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, 0);

    pool_fixture_create(f, &params);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < N_OF(nodes); i++) {
            pool_fixture_free(take_on(f, 2 * MRP_MIB, nodes[i]));
            assert_int_equal(n_mappings(), round == 0 ? i + 1 : N_OF(nodes));
        }
    }
    assert_none(alloc_on(f, 2 * MRP_MIB, MRP_NODE(3), MRP_REQUEST_NOGROW), MRP_ERR_AGAIN,
        "no idle region");
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, N_OF(nodes));
}

/* Chunks whose slabs have gone are idle likewise. */
static void alloc_with__emptied_chunks_stay_on_their_node(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, 0);

    pool_fixture_create(f, &params);
    pool_fixture_free(take_on(f, 1000, MRP_NODE(1)));
    assert_int_equal(mrp_pool_trim(f->pool, SIZE_MAX, NULL), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
    pool_fixture_free(take_on(f, 1000, MRP_NODE(2)));
    pool_fixture_free(take_on(f, 1000, 0));
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
    assert_int_equal(n_mappings(), 3);
    pool_fixture_free(take_on(f, 500, MRP_NODE(1)));
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    assert_int_equal(n_mappings(), 3);
}

/* Without caches, that is: those are for the pool's own memory. */
static void alloc_with__caches_only_the_pools_own(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, MRP_NODE(0));
    struct mrp_region *region;

    pool_fixture_create(f, &params);
    region = take_on(f, 100, MRP_NODE(1));
    assert_int_equal(region->cache, 0);
    pool_fixture_free(region);
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
    assert_ptr_equal(take_on(f, 100, MRP_NODE(1)), region);
    pool_fixture_free(region);
    region = take_on(f, 100, MRP_NODE(0));
    assert_int_not_equal(region->cache, 0);
    pool_fixture_free(region);
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
}

static void alloc_with__statistics_are_of_all_nodes(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, 0);
    struct mrp_tier_stats before, after;
    struct mrp_region *region;

    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 100));
    before = pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL];
    region = take_on(f, 100, MRP_NODE(1));
    after = pool_fixture_stats(f->pool).tiers[MRP_TIER_SMALL];
    assert_int_equal(after.n_classes, before.n_classes);
    assert_int_equal(after.n_live, 1);
    assert_true(after.n_regions > before.n_regions);
    assert_int_equal(pool_fixture_query(region).tier, MRP_TIER_SMALL);
    assert_int_equal(pool_fixture_stats(f->pool).n_chunks, 2);
    pool_fixture_free(region);
}

static void alloc_with__refuses_what_cannot_be(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, 0);

    pool_fixture_create(f, &params);
    assert_none(alloc_on(f, 100, -1, 0), MRP_ERR_INVALID, "node is -1");
    assert_none(alloc_on(f, 100, MRP_NODE(0), MRP_REQUEST_NOGROW), MRP_ERR_AGAIN,
        "no memory of node 0 yet");
    assert_none(alloc_on(f, 100, MRP_NODE(0), MRP_REQUEST_NOWAIT), MRP_ERR_AGAIN,
        "no memory of node 0 yet");
    for (int i = 0; i < 5; i++) { /* takes no room in the table */
        assert_none(
            alloc_on(f, 100, NODE_OUT_OF_ORDER, 0), MRP_ERR_MEMORY, "out of order");
        assert_none(alloc_on(f, 5 * MRP_MIB, NODE_OUT_OF_ORDER, 0), MRP_ERR_MEMORY,
            "out of order");
    }
    for (int n = 0; n < 3; n++) {
        pool_fixture_free(take_on(f, 100, MRP_NODE(n)));
    }
    assert_none(alloc_on(f, 100, MRP_NODE(3), 0), MRP_ERR_LIMIT,
        "52 size classes on each of 4 nodes, of 250 in all, none for node 3");
    pool_fixture_free(take_on(f, 100, MRP_NODE(2)));
    pool_fixture_free(take_on(f, 5 * MRP_MIB, MRP_NODE(3))); /* needs none */
}

static void alloc_with__a_node_the_backend_ignores(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, 0);

    machine.is_deaf = true;
    pool_fixture_create(f, &params);
    assert_none(alloc_on(f, 100, MRP_NODE(1), 0), MRP_ERR_UNSUPPORTED,
        "cannot bind to a NUMA node");
    assert_none(alloc_on(f, 5 * MRP_MIB, MRP_NODE(1), 0), MRP_ERR_UNSUPPORTED,
        "cannot bind to a NUMA node");
    assert_int_equal(n_mappings(), 0);
    pool_fixture_check_registrations(f, 1);
}

/* -- at once -- */

struct worker {
    struct pool_fixture *f;
    uint64_t seed;
    const char *problem;
};

static void *work(void *user)
{
    struct worker *worker = user;
    struct mrp_region *regions[16] = {NULL};
    struct mrp_pool_stats stats = MRP_POOL_STATS_INIT;

    for (int i = 0; i < 4000 && worker->problem == NULL; i++) {
        struct mrp_region **region =
            &regions[pool_fixture_random(&worker->seed) % N_OF(regions)];
        int node = (int)(pool_fixture_random(&worker->seed) % N_NODES);

        if (*region != NULL && mrp_region_free(*region) != MRP_OK) {
            worker->problem = "free";
        }
        *region = alloc_on(worker->f, (size_t)1000 << node, node, 0);
        if (*region == NULL || node_of(*region) != node) {
            worker->problem = *region == NULL ? mrp_error_last()->text : "wrong node";
        }
        if (i % 500 == 0) {
            mrp_pool_stats(worker->f->pool, &stats);
        }
    }
    for (size_t i = 0; i < N_OF(regions); i++) {
        if (regions[i] != NULL) {
            mrp_region_free(regions[i]);
        }
    }
    return NULL;
}

static void alloc_with__nodes_are_added_by_several_threads(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = machine_params(f, 0);
    struct worker workers[3];
    pthread_t threads[N_OF(workers)];

    pool_fixture_create(f, &params);
    for (size_t i = 0; i < N_OF(workers); i++) {
        workers[i] = (struct worker){f, i + 1, NULL};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < N_OF(workers); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        if (workers[i].problem != NULL) {
            fail_msg("%s", workers[i].problem);
        }
    }
    assert_int_equal(mrp_n_classes(&f->pool->classes), N_NODES * f->pool->classes.n_base);
}

/* -- this machine -- */

static void check_bound(struct mrp_region *region)
{
    char *address = mrp_region_address(region);
    unsigned long nodes[16] = {0};
    int mode = -1, node = -1;

    *address = 1;
    assert_int_equal(
        syscall(SYS_get_mempolicy, &mode, nodes, 8 * sizeof nodes, address, MPOL_F_ADDR),
        0);
    assert_int_equal(mode, MPOL_BIND);
    assert_int_equal(nodes[0], 1);
    assert_int_equal(
        syscall(SYS_get_mempolicy, &node, NULL, 0, address, MPOL_F_NODE | MPOL_F_ADDR),
        0);
    assert_int_equal(node, 0);
}

static void node_0__is_where_memory_is(void **state)
{
    static const size_t sizes[] = {100, 100 * 1000, 5 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    for (int by_request = 0; by_request < 2; by_request++) {
        params.node = by_request ? 0 : MRP_NODE(0);
        if (mrp_pool_create(f->context, &params, &f->pool) != MRP_OK) {
            test_skip(__func__, mrp_error_last()->text);
            return;
        }
        for (size_t i = 0; i < N_OF(sizes); i++) {
            struct mrp_region *region = alloc_on(f, sizes[i], MRP_NODE(0), 0);

            assert_non_null(region);
            check_bound(region);
            pool_fixture_free(region);
        }
        assert_none(alloc_on(f, 100, MRP_NODE(1000), 0), MRP_ERR_INVALID,
            "NUMA node 1000 is not among");
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

#define PLACE_TEST(function) \
    cmocka_unit_test_setup_teardown(function, setup, pool_fixture_teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        PLACE_TEST(pool__asks_for_its_node),
        PLACE_TEST(pool__refuses_a_node_it_cannot_have),
        PLACE_TEST(alloc_with__nodes_share_no_chunk),
        PLACE_TEST(alloc_with__idle_regions_stay_on_their_node),
        PLACE_TEST(alloc_with__emptied_chunks_stay_on_their_node),
        PLACE_TEST(alloc_with__caches_only_the_pools_own),
        PLACE_TEST(alloc_with__statistics_are_of_all_nodes),
        PLACE_TEST(alloc_with__refuses_what_cannot_be),
        PLACE_TEST(alloc_with__a_node_the_backend_ignores),
        PLACE_TEST(alloc_with__nodes_are_added_by_several_threads),
        PLACE_TEST(node_0__is_where_memory_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
