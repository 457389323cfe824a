/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A life of growth, regrouping, eviction and trim in which one call of the system or of the
 * network fails, or two in a row: each in turn. Nothing is lost, the next request works.
 */
#include "pool/growth.h"
#include "recording_backend.h"
#include "small_chunks.h"

#define PAGE 4096
#define N_MOST 1200

struct world {
    struct mrp_context *context;
    struct test_provider networks[2];
    struct mrp_provider *rails[2];
    struct recording_backend recorder;
    struct mrp_backend *backend;
    struct mrp_pool *pool;
    size_t n_maps, map_fail_at, map_fail_count; /* of the backend */
    struct mrp_region *regions[N_MOST];
    size_t n, n_failed;
};

static enum mrp_status faulty_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct world *world = state;

    world->n_maps++;
    if (world->map_fail_at != 0 && world->n_maps >= world->map_fail_at &&
        world->n_maps < world->map_fail_at + world->map_fail_count) {
        return mrp_fail(MRP_ERR_MEMORY, 12, "faulty: as told");
    }
    return recording_map(&world->recorder, request, mapping);
}

static enum mrp_status faulty_unmap(void *state, const struct mrp_mapping *mapping)
{
    return recording_unmap(&((struct world *)state)->recorder, mapping);
}

static const struct mrp_backend_ops *faulty_ops(void)
{
    static const struct mrp_backend_ops ops = {
        .struct_size = sizeof ops,
        .kind = "faulty",
        .purpose = "fails where it is told to",
        .map = faulty_map,
        .unmap = faulty_unmap,
    };

    return &ops;
}

static void begin(struct world *world)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    memset(world, 0, sizeof *world);
    assert_int_equal(mrp_context_create(NULL, &world->context), MRP_OK);
    for (size_t i = 0; i < 2; i++) {
        test_provider_init(&world->networks[i]);
        assert_int_equal(mrp_provider_create(world->context, i == 0 ? "a" : "b",
                             test_provider_ops(), &world->networks[i], &world->rails[i]),
            MRP_OK);
    }
    assert_int_equal(mrp_backend_create_custom(
                         world->context, "faulty", faulty_ops(), world, &world->backend),
        MRP_OK);
    params.backend = world->backend;
    params.rails = world->rails;
    params.n_rails = 2;
    params.max_bytes = 4 * CHUNK;
    params.chunk_min = params.chunk_max = CHUNK;
    params.decay_ms = UINT32_MAX;
    assert_int_equal(mrp_pool_create(world->context, &params, &world->pool), MRP_OK);
}

static struct mrp_context_stats stats_of(struct world *world)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_int_equal(mrp_context_stats(world->context, &stats), MRP_OK);
    return stats;
}

/* What failed has a sentence; the same request then works, if it did so without faults. */
static struct mrp_region *take(struct world *world, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(world->pool, size);

    if (region == NULL) {
        world->n_failed++;
        assert_true(mrp_is_no_more(mrp_error_last()->status));
        assert_true(strlen(mrp_error_last()->text) > 10);
        region = mrp_region_alloc(world->pool, size);
    }
    if (region == NULL) {
        fail_msg("the second try for %zu bytes: %s", size, mrp_error_last()->text);
    }
    memset(mrp_region_address(region), 0x11, size);
    return region;
}

static void take_many(struct world *world, size_t n, size_t size)
{
    for (size_t i = 0; i < n; i++) {
        world->regions[world->n++] = take(world, size);
    }
}

static void give_last(struct world *world, size_t n)
{
    world->n -= n;
    assert_int_equal(mrp_region_free_many(world->regions + world->n, n, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(world->pool), MRP_OK);
}

/* Everything that maps, registers and gives back; within the budget all the time. */
static void live(struct world *world)
{
    take_many(world, PAGES_OF(2), PAGE); /* growth */
    give_last(world, PAGES_OF(2) - 1); /* one chunk can be emptied */
    take_many(world, 20, 64 * MRP_KIB); /* regrouping, growth */
    take_many(world, 1, CHUNK); /* growth at the cap */
    give_last(world, 21);
    take_many(world, 1, CHUNK + CHUNK / 2); /* larger than huge: regrouping, eviction */
    give_last(world, 1);
    take_many(world, PAGES_OF(3), PAGE); /* eviction of the idle large one */
    give_last(world, PAGES_OF(3));
    assert_int_equal(mrp_pool_trim(world->pool, CHUNK, NULL), MRP_OK);
    take_many(world, 30, 40000);
    give_last(world, 31);
}

/* All that was not parked has gone; what is parked goes with its provider. */
static void end(struct world *world, size_t n_parked)
{
    struct mrp_context_stats stats;

    if (mrp_pool_check(world->pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    assert_int_equal(mrp_pool_trim(world->pool, 0, NULL), MRP_OK);
    stats = stats_of(world);
    assert_int_equal(stats.n_chunks, 0);
    assert_int_equal(stats.charged_size, stats.parked_size);
    assert_int_equal(stats.n_charged, n_parked); /* of one rail each */
    assert_int_equal(stats.n_retained, 0);
    assert_int_equal(stats.n_parked, n_parked);
    assert_int_equal(world->networks[0].n_live + world->networks[1].n_live, n_parked);
    assert_int_equal(world->recorder.n_mapped - world->recorder.n_unmapped, n_parked);
    if (mrp_pool_destroy(world->pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    mrp_context_destroy(world->context);
    assert_int_equal(world->recorder.n_mapped, world->recorder.n_unmapped);
    for (size_t i = 0; i < 2; i++) {
        if (n_parked == 0) {
            assert_string_equal(world->networks[i].first_error, "");
        }
        test_provider_fini(&world->networks[i]);
    }
}

/* How often each part is asked where nothing fails. */
static void count(size_t *n_maps, size_t *n_registrations, size_t *n_deregistrations)
{
    static struct world world;

    begin(&world);
    live(&world);
    *n_maps = world.n_maps;
    *n_registrations = world.networks[0].n_register;
    *n_deregistrations = world.networks[0].n_deregister;
    assert_int_equal(world.n_failed, 0);
    end(&world, 0);
    assert_in_range(*n_maps, 5, 100);
    assert_in_range(*n_deregistrations, 2, 100);
}

static void mapping__that_fails_anywhere_loses_nothing(void **state)
{
    static struct world world;
    size_t n_maps, n_registrations, n_deregistrations;

    (void)state;
    count(&n_maps, &n_registrations, &n_deregistrations);
    for (size_t n_times = 1; n_times <= 2; n_times++) {
        for (size_t i = 1; i <= n_maps; i++) {
            begin(&world);
            world.map_fail_at = i;
            world.map_fail_count = n_times;
            live(&world);
            assert_true(world.n_failed <= n_times - 1); /* each request tries again */
            end(&world, 0);
        }
    }
}

static void registration__that_fails_anywhere_loses_nothing(void **state)
{
    static const enum mrp_status statuses[] = {
        MRP_ERR_REGISTER, MRP_ERR_LIMIT, MRP_ERR_MEMORY};
    static struct world world;
    size_t n_maps, n_registrations, n_deregistrations;

    (void)state;
    count(&n_maps, &n_registrations, &n_deregistrations);
    for (size_t n_times = 1; n_times <= 2; n_times++) {
        for (size_t i = 1; i <= 2 * n_registrations; i++) {
            struct test_provider *network = &world.networks[i % 2];

            begin(&world);
            test_provider_fail_next(network, (i + 1) / 2, n_times, statuses[i % 3]);
            live(&world);
            assert_true(network->n_failed >= 1);
            assert_true(world.n_failed <= n_times - 1);
            end(&world, 0);
        }
    }
}

/* Memory that the network keeps is parked, and everything else goes on. */
static void deregistration__that_fails_anywhere_parks(void **state)
{
    static struct world world;
    size_t n_maps, n_registrations, n_deregistrations;

    (void)state;
    count(&n_maps, &n_registrations, &n_deregistrations);
    for (size_t i = 1; i <= n_deregistrations; i++) {
        begin(&world);
        world.networks[1].deregister_fail_at = i;
        world.networks[1].deregister_fail_count = 1;
        live(&world);
        assert_int_equal(world.n_failed, 0);
        assert_int_equal(stats_of(&world).n_parked, 1);
        end(&world, 1);
    }
}

static void trim__parks_what_the_network_keeps(void **state)
{
    static struct world world;
    size_t released = 0;

    (void)state;
    begin(&world);
    take_many(&world, PAGES_OF(3), PAGE);
    give_last(&world, PAGES_OF(3));
    world.networks[0].deregister_fail_at = 1;
    world.networks[0].deregister_fail_count = 2;
    assert_int_equal(mrp_pool_trim(world.pool, 0, &released), MRP_OK);
    assert_int_equal(released, CHUNK); /* the system has the third alone */
    assert_int_equal(stats_of(&world).n_parked, 2);
    assert_int_equal(stats_of(&world).parked_size, 2 * CHUNK);
    take_many(&world, PAGES_OF(4), PAGE);
    give_last(&world, PAGES_OF(4));
    end(&world, 2);
}

/* The network never works: every request says so, and costs nothing. */
static void growth__without_a_network_fails_each_time_alike(void **state)
{
    static const size_t sizes[] = {1, PAGE, 64 * MRP_KIB, CHUNK, 2 * CHUNK};
    static struct world world;

    (void)state;
    begin(&world);
    test_provider_fail_next(&world.networks[1], 1, 0, MRP_ERR_REGISTER);
    for (size_t i = 0; i < 25; i++) {
        assert_none(
            mrp_region_alloc(world.pool, sizes[i % 5]), MRP_ERR_REGISTER, "as told");
        assert_int_equal(stats_of(&world).n_chunks, 0);
        assert_int_equal(stats_of(&world).charged_size, 0);
        assert_int_equal(world.networks[0].n_live, 0);
    }
    end(&world, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapping__that_fails_anywhere_loses_nothing),
        cmocka_unit_test(registration__that_fails_anywhere_loses_nothing),
        cmocka_unit_test(deregistration__that_fails_anywhere_parks),
        cmocka_unit_test(trim__parks_what_the_network_keeps),
        cmocka_unit_test(growth__without_a_network_fails_each_time_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
