/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_context_retain: how much idle memory a pool's context keeps, of each place.
 */
#include "pool/pool.h"
#include "recording_backend.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

static void retain(struct pool_fixture *f, int node, size_t max_size, size_t max_count)
{
    struct mrp_retention_params params = MRP_RETENTION_PARAMS_INIT;

    params.node = node;
    params.max_size = max_size;
    params.max_count = max_count;
    if (mrp_context_retain(f->context, &params) != MRP_OK) {
        fail_msg("mrp_context_retain: %s", mrp_error_last()->text);
    }
}

static size_t n_mappings(struct mrp_backend *backend)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    assert_int_equal(mrp_backend_query(backend, &info), MRP_OK);
    return info.n_mappings;
}

/* The regression of the row L1: six are deregistered and unmapped, none is lost. */
static void retain__4_of_10_layouts(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[10];
    void *addresses[10];

    retain(f, 0, MRP_UNLIMITED, 4);
    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 10; i++) { /* no two of them serve each other's requests */
        regions[i] = pool_fixture_alloc(f, ((size_t)2 * MRP_MIB) << i / 2 << i % 2 * 4);
        addresses[i] = mrp_region_address(regions[i]);
    }
    assert_int_equal(f->networks[0].n_register, 10);
    for (size_t i = 0; i < 10; i++) {
        pool_fixture_free(regions[i]);
        assert_int_equal(f->networks[0].n_deregister, i < 4 ? 0 : i - 3);
    }
    assert_int_equal(f->networks[0].n_deregister, 6);
    assert_int_equal(n_mappings(f->backend), 4);
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(mrp_region_find(f->pool, addresses[i]) != NULL, i >= 6);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_evictions, 6);
    pool_fixture_check_registrations(f, 1);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    assert_int_equal(f->networks[0].n_deregister, 10);
    assert_int_equal(n_mappings(f->backend), 0);
}

/* Both ways, with regions out: nothing of them is lost. The row L5. */
static void retain__changes_while_regions_are_out(void **state)
{
    static const size_t counts[] = {8, 2, 5, 0, 8};
    struct pool_fixture *f = *state;
    struct mrp_region *regions[8], *held[8];
    struct mrp_pool_stats stats;

    retain(f, 0, MRP_UNLIMITED, 8);
    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_region_alloc_many(f->pool, 2 * MRP_MIB, 8, held), 8);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(mrp_region_alloc_many(f->pool, 3 * MRP_MIB, 8, regions), 8);
        retain(f, 0, MRP_UNLIMITED, counts[i]);
        assert_int_equal(mrp_region_free_many(regions, 8, NULL), MRP_OK);
        stats = pool_fixture_stats(f->pool);
        assert_int_equal(stats.n_idle, counts[i]);
        assert_int_equal(stats.idle_size, counts[i] * 3 * MRP_MIB);
        assert_int_equal(stats.n_large, 8);
        pool_fixture_check_registrations(f, 1);
    }
    retain(f, 0, 10 * MRP_MIB, 8); /* now at once, and by bytes */
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 3);
    retain(f, 0, 0, 8);
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 0);
    assert_int_equal(mrp_region_free_many(held, 8, NULL), MRP_OK);
    assert_int_equal(f->networks[0].n_live, 0);
}

/* What a pool keeps for good counts against no bounds, and goes with it. */
static void retain__leaves_what_never_frees(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[8];

    params.never_free = true;
    retain(f, 0, MRP_UNLIMITED, 2);
    pool_fixture_create(f, &params);
    for (size_t round = 0; round < 3; round++) {
        assert_int_equal(mrp_region_alloc_many(f->pool, 2 * MRP_MIB, 8, regions), 8);
        assert_int_equal(mrp_region_free_many(regions, 8, NULL), MRP_OK);
        assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
        retain(f, 0, 0, 0);
        assert_int_equal(pool_fixture_stats(f->pool).n_idle, 8);
        assert_int_equal(f->networks[0].n_register, 8);
        assert_int_equal(f->networks[0].n_deregister, 0);
    }
}

/* -- places -- */

struct device {
    struct recording_backend recorder; /* first */
    int number;
};

static enum mrp_status map_on_device(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    mapping->device = ((struct device *)state)->number;
    return recording_map(state, request, mapping);
}

static struct mrp_pool *add_device_pool(
    struct pool_fixture *f, struct device *device, const char *name)
{
    static struct mrp_backend_ops ops;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    ops = *recording_ops();
    ops.memory_kind = MRP_MEMORY_CUDA;
    ops.map = map_on_device;
    assert_int_equal(
        mrp_backend_create_custom(f->context, name, &ops, device, &params.backend),
        MRP_OK);
    assert_int_equal(mrp_pool_create(f->context, &params, &pool), MRP_OK);
    return pool;
}

static void use_4(struct mrp_pool *pool)
{
    struct mrp_region *regions[4];

    assert_int_equal(mrp_region_alloc_many(pool, 2 * MRP_MIB, 4, regions), 4);
    assert_int_equal(mrp_region_free_many(regions, 4, NULL), MRP_OK);
}

static void retain__is_per_device(void **state)
{
    struct mrp_retention_params params = MRP_RETENTION_PARAMS_INIT;
    static struct device recorders[2]; /* until the context goes */
    struct pool_fixture *f = *state;
    struct mrp_pool *devices[2];

    recorders[1].number = 1;
    params.kind = MRP_MEMORY_CUDA;
    params.device = 1;
    params.max_count = 1;
    params.max_size = MRP_UNLIMITED;
    assert_int_equal(mrp_context_retain(f->context, &params), MRP_OK);
    retain(f, 0, MRP_UNLIMITED, 2);
    pool_fixture_create(f, NULL);
    devices[0] = add_device_pool(f, &recorders[0], "device-0");
    devices[1] = add_device_pool(f, &recorders[1], "device-1");
    for (size_t round = 0; round < 3; round++) {
        use_4(f->pool);
        use_4(devices[0]);
        use_4(devices[1]);
        assert_int_equal(pool_fixture_stats(f->pool).n_idle, 2);
        assert_int_equal(pool_fixture_stats(devices[0]).n_idle, 4);
        assert_int_equal(pool_fixture_stats(devices[1]).n_idle, 1);
    }
    params.device = 0;
    params.max_count = 3;
    assert_int_equal(mrp_context_retain(f->context, &params), MRP_OK);
    assert_int_equal(pool_fixture_stats(devices[0]).n_idle, 3);
    assert_int_equal(mrp_pool_destroy(devices[0]), MRP_OK);
    assert_int_equal(mrp_pool_destroy(devices[1]), MRP_OK);
    assert_int_equal(recorders[0].recorder.n_mapped, recorders[0].recorder.n_unmapped);
    assert_int_equal(recorders[1].recorder.n_mapped, recorders[1].recorder.n_unmapped);
}

/* Memory bound to a node has bounds of its own, beside that bound to none. */
static void retain__is_per_node(void **state)
{
    struct mrp_backend_params backend = MRP_BACKEND_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *probe;
    struct mrp_pool *bound;

    retain(f, MRP_NODE(0), MRP_UNLIMITED, 1);
    pool_fixture_create(f, NULL);
    backend.pages = MRP_PAGES_4K;
    backend.prefault = -1;
    backend.node = MRP_NODE(0);
    assert_int_equal(
        mrp_backend_create(f->context, "mmap", &backend, &params.backend), MRP_OK);
    assert_int_equal(mrp_pool_create(f->context, &params, &bound), MRP_OK);
    probe = mrp_region_alloc(bound, 2 * MRP_MIB);
    if (probe == NULL) {
        test_skip("retain__is_per_node", mrp_error_last()->text);
    } else {
        assert_int_equal(mrp_region_free(probe), MRP_OK);
        use_4(f->pool);
        use_4(bound);
        assert_int_equal(pool_fixture_stats(f->pool).n_idle, 4);
        assert_int_equal(pool_fixture_stats(bound).n_idle, 1);
    }
    assert_int_equal(mrp_pool_destroy(bound), MRP_OK);
}

static void retain__wrong_arguments_are_refused(void **state)
{
    struct mrp_retention_params params = MRP_RETENTION_PARAMS_INIT;
    struct pool_fixture *f = *state;

    assert_refused(mrp_context_retain(NULL, &params), MRP_ERR_STALE, "");
    params.kind = (enum mrp_memory_kind)3;
    assert_refused(mrp_context_retain(f->context, &params), MRP_ERR_INVALID, "kind is 3");
    params.kind = MRP_MEMORY_HOST;
    params.device = 1;
    assert_refused(mrp_context_retain(f->context, &params), MRP_ERR_INVALID,
        "host memory has no device");
    params.kind = MRP_MEMORY_ROCM;
    params.device = -1;
    assert_refused(
        mrp_context_retain(f->context, &params), MRP_ERR_INVALID, "count from 0");
    params.device = 0;
    params.node = -2;
    assert_refused(
        mrp_context_retain(f->context, &params), MRP_ERR_INVALID, "node is -2");
    params.struct_size = 4;
    assert_refused(
        mrp_context_retain(f->context, &params), MRP_ERR_INVALID, "struct_size is 4");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(retain__4_of_10_layouts),
        POOL_TEST(retain__changes_while_regions_are_out),
        POOL_TEST(retain__leaves_what_never_frees),
        POOL_TEST(retain__is_per_device),
        POOL_TEST(retain__is_per_node),
        POOL_TEST(retain__wrong_arguments_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
