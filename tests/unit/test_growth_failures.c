/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth that fails anywhere: a rail at any call, a backend at any mapping. A request then
 * either succeeds or says why not; nothing is lost, and the next one succeeds.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

#include <stdlib.h>

#define N_REGIONS 40

static const size_t sizes[] = {100, 64 * MRP_KIB, MRP_MIB, 2 * MRP_MIB, 1500 * MRP_KIB};

static struct mrp_pool_params small_params(struct pool_fixture *f, size_t n_rails)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.n_rails = n_rails;
    params.chunk_min = params.chunk_max = MRP_MIB;
    return params;
}

/* Take and give back in a fixed order, whatever fails. @return how many requests did. */
static size_t run_workload(struct pool_fixture *f, enum mrp_status wanted)
{
    struct mrp_region *regions[N_REGIONS] = {NULL};
    size_t n_failed = 0;

    for (size_t i = 0; i < 3 * N_REGIONS; i++) {
        struct mrp_region **slot = &regions[i * 7 % N_REGIONS];

        if (*slot != NULL) {
            pool_fixture_free(*slot);
            *slot = NULL;
            continue;
        }
        mrp_error_clear();
        *slot = mrp_region_alloc(f->pool, sizes[i % 5]);
        if (*slot == NULL) {
            assert_int_equal(mrp_error_last()->status, wanted);
            assert_string_not_equal(mrp_error_last()->text, "");
            n_failed++;
            pool_fixture_check_registrations(f, f->pool->n_rails);
            *slot = pool_fixture_alloc(f, sizes[i % 5]); /* the next one succeeds */
        }
    }
    pool_fixture_check_registrations(f, f->pool->n_rails);
    for (size_t i = 0; i < N_REGIONS; i++) {
        if (regions[i] != NULL) {
            pool_fixture_free(regions[i]);
        }
    }
    return n_failed;
}

static void end_pool(struct pool_fixture *f)
{
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    for (size_t i = 0; i < POOL_FIXTURE_RAILS; i++) {
        assert_int_equal(f->networks[i].n_live, 0);
        assert_string_equal(f->networks[i].first_error, "");
    }
}

static size_t count_calls(struct pool_fixture *f, size_t n_rails)
{
    struct mrp_pool_params params = small_params(f, n_rails);
    size_t before = f->networks[0].n_register;

    pool_fixture_create(f, &params);
    assert_int_equal(run_workload(f, MRP_OK), 0);
    end_pool(f);
    return f->networks[0].n_register - before;
}

/* `count` calls in a row fail from every call on every rail on. */
static void fail_everywhere(
    struct pool_fixture *f, size_t count, enum mrp_status status, size_t n_wanted)
{
    size_t n_calls = count_calls(f, 3);

    assert_true(n_calls > 10);
    for (size_t rail = 0; rail < 3; rail++) {
        for (size_t call = 1; call <= n_calls; call++) {
            struct mrp_pool_params params = small_params(f, 3);

            pool_fixture_create(f, &params);
            test_provider_fail_next(&f->networks[rail], call, count, status);
            assert_int_equal(run_workload(f, status), n_wanted);
            f->networks[rail].fail_at = 0;
            end_pool(f);
        }
    }
}

static void register__failing_once_is_tried_again(void **state)
{
    fail_everywhere(*state, 1, MRP_ERR_REGISTER, 0);
    fail_everywhere(*state, 1, MRP_ERR_LIMIT, 0);
    fail_everywhere(*state, 1, MRP_ERR_MEMORY, 0);
}

static void register__failing_twice_fails_one_request(void **state)
{
    fail_everywhere(*state, 2, MRP_ERR_REGISTER, 1);
}

/* Other failures are not a matter of room. */
static void register__failing_otherwise_is_not_tried_again(void **state)
{
    fail_everywhere(*state, 1, MRP_ERR_SYSTEM, 1);
}

static void register__failing_for_good_still_gives_what_is_there(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_params(f, 2);
    struct mrp_region *regions[1000];
    size_t n = 0;

    pool_fixture_create(f, &params);
    regions[n++] = pool_fixture_alloc(f, 10000);
    test_provider_fail_next(&f->networks[1], 1, 0, MRP_ERR_REGISTER);
    while ((regions[n] = mrp_region_alloc(f->pool, 10000)) != NULL) {
        n++;
    }
    assert_int_equal(n, MRP_MIB / 10240); /* the whole first chunk */
    for (size_t i = 0; i < 5; i++) {
        assert_none(mrp_region_alloc(f->pool, 1), MRP_ERR_REGISTER, "fails as told");
        assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_REGISTER, "as told");
    }
    pool_fixture_check_registrations(f, 2);
    f->networks[1].fail_at = 0;
    regions[n++] = pool_fixture_alloc(f, 1);
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
}

/* Many threads meet failing calls: each request ends, one way or the other. */
struct worker {
    struct pool_fixture *f;
    uint64_t seed;
    size_t n_ok, n_failed, n_wrong;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct mrp_region *regions[20] = {NULL};

    for (size_t i = 0; i < 2000; i++) {
        struct mrp_region **slot = &regions[pool_fixture_random(&worker->seed) % 20];

        if (*slot != NULL) {
            worker->n_wrong += mrp_region_free(*slot) != MRP_OK;
            *slot = NULL;
            continue;
        }
        *slot = mrp_region_alloc(
            worker->f->pool, sizes[pool_fixture_random(&worker->seed) % 5]);
        if (*slot != NULL) {
            worker->n_ok++;
            continue;
        }
        worker->n_failed++;
        worker->n_wrong += mrp_error_last()->status != MRP_ERR_REGISTER;
    }
    for (size_t i = 0; i < 20; i++) {
        worker->n_wrong += regions[i] != NULL && mrp_region_free(regions[i]) != MRP_OK;
    }
    return NULL;
}

static void fail_every_third(struct test_provider *provider, void *address, size_t size)
{
    (void)address;
    (void)size;
    if ((provider->n_register + 2) % 5 < 2) {
        test_provider_fail_next(provider, 1, 1, MRP_ERR_REGISTER);
    }
}

static void register__failing_under_four_threads(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_params(f, 2);
    struct worker workers[4];
    pthread_t threads[4];
    size_t n_failed = 0;

    f->networks[1].on_register = fail_every_third;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 4; i++) {
        workers[i] = (struct worker){.f = f, .seed = i};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].n_wrong, 0);
        assert_true(workers[i].n_ok > 0);
        n_failed += workers[i].n_failed;
    }
    assert_true(f->networks[1].n_failed >= n_failed);
    assert_true(f->networks[1].n_failed > 0);
    pool_fixture_check_registrations(f, 2);
}

/* -- deregistration that fails: the memory is parked, not unmapped -- */

static void deregister__failing_parks_the_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_region *region;
    char *address;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    address = mrp_region_address(region);
    pool_fixture_free(region);
    f->networks[0].deregister_fail_at = 1;
    f->networks[0].deregister_fail_count = 1;
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(mrp_context_stats(f->context, &stats), MRP_OK);
    assert_int_equal(stats.n_parked, 1);
    assert_true(stats.parked_size >= 2 * MRP_MIB);
    address[0] = 1; /* still mapped: the network may write there */
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB));
    f->networks[0].n_live--; /* the lost one */
}

/* -- a backend that fails -- */

struct flaky {
    size_t n_maps, n_live, fail_at, fail_count;
    enum mrp_status status;
};

static enum mrp_status flaky_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct flaky *flaky = state;

    flaky->n_maps++;
    if (flaky->fail_at != 0 && flaky->n_maps - flaky->fail_at < flaky->fail_count) {
        return mrp_fail(flaky->status, 12, "flaky: mapping %zu fails", flaky->n_maps);
    }
    mapping->size = mrp_align_up(request->size, request->alignment);
    mapping->address = aligned_alloc(request->alignment, mapping->size);
    mapping->page_size = 4096;
    flaky->n_live += mapping->address != NULL;
    return mapping->address != NULL ? MRP_OK
                                    : mrp_fail(MRP_ERR_MEMORY, 0, "aligned_alloc");
}

static enum mrp_status flaky_unmap(void *state, const struct mrp_mapping *mapping)
{
    struct flaky *flaky = state;

    flaky->n_live--;
    free(mapping->address);
    return MRP_OK;
}

static const struct mrp_backend_ops flaky_ops = {
    .struct_size = sizeof flaky_ops,
    .kind = "flaky",
    .purpose = "fails where it is told to",
    .map = flaky_map,
    .unmap = flaky_unmap,
};

static size_t run_flaky(struct pool_fixture *f, struct flaky *flaky)
{
    struct mrp_pool_params params = small_params(f, 1);
    size_t n_failed;

    assert_int_equal(
        mrp_backend_create_custom(f->context, NULL, &flaky_ops, flaky, &params.backend),
        MRP_OK);
    pool_fixture_create(f, &params);
    n_failed = run_workload(f, flaky->status);
    end_pool(f);
    assert_int_equal(flaky->n_live, 0);
    assert_int_equal(mrp_backend_destroy(params.backend), MRP_OK);
    return n_failed;
}

static void map__failing_at_every_call(void **state)
{
    struct flaky never = {0};
    struct pool_fixture *f = *state;

    assert_int_equal(run_flaky(f, &never), 0);
    assert_true(never.n_maps > 10);
    for (size_t call = 1; call <= never.n_maps; call++) {
        struct flaky once = {.fail_at = call, .fail_count = 1, .status = MRP_ERR_MEMORY};
        struct flaky twice = {.fail_at = call, .fail_count = 2, .status = MRP_ERR_MEMORY};
        struct flaky system = {
            .fail_at = call, .fail_count = 1, .status = MRP_ERR_SYSTEM};

        assert_int_equal(run_flaky(f, &once), 0);
        /* one request at most: where free memory can be regrouped, there is a third try */
        assert_in_range(run_flaky(f, &twice), 0, 1);
        assert_int_equal(run_flaky(f, &system), 1);
    }
}

static void map__failing_calls_no_rail(void **state)
{
    struct flaky flaky = {.fail_at = 1, .fail_count = 99, .status = MRP_ERR_MEMORY};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_params(f, 1);

    assert_int_equal(
        mrp_backend_create_custom(f->context, NULL, &flaky_ops, &flaky, &params.backend),
        MRP_OK);
    pool_fixture_create(f, &params);
    assert_none(mrp_region_alloc(f->pool, 1), MRP_ERR_MEMORY, "flaky: mapping 2 fails");
    assert_int_equal(f->networks[0].n_register, 0);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    flaky.fail_at = 0;
    pool_fixture_free(pool_fixture_alloc(f, 1));
    end_pool(f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(register__failing_once_is_tried_again),
        POOL_TEST(register__failing_twice_fails_one_request),
        POOL_TEST(register__failing_otherwise_is_not_tried_again),
        POOL_TEST(register__failing_for_good_still_gives_what_is_there),
        POOL_TEST(register__failing_under_four_threads),
        POOL_TEST(deregister__failing_parks_the_memory),
        POOL_TEST(map__failing_at_every_call),
        POOL_TEST(map__failing_calls_no_rail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
