/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a budget of the context makes the pools give up: only what helps, nothing where
 * that would not be enough, and what another thread is giving up is waited for.
 */
#include "context/context.h"
#include "support/pool_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#define PATIENCE_S 60 /* never to be reached: a hang is the failure */

/* Another context for the fixture, with these budgets, that keeps all that is idle. */
static void create_context(struct pool_fixture *f, const struct mrp_context_params *given)
{
    struct mrp_context_params params = *given;

    params.retained_size = MRP_GIB;
    assert_int_equal(mrp_context_destroy(f->context), MRP_OK);
    assert_int_equal(mrp_context_create(&params, &f->context), MRP_OK);
    test_provider_fini(&f->networks[0]);
    test_provider_init(&f->networks[0]);
}

static struct mrp_pool *create_pool(
    struct pool_fixture *f, struct mrp_provider **rail, bool never_free)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    params.rails = rail;
    params.n_rails = rail == NULL ? 0 : 1;
    params.max_bytes = 256 * MRP_MIB;
    params.never_free = never_free;
    params.decay_ms = UINT32_MAX;
    assert_int_equal(mrp_pool_create(f->context, &params, &pool), MRP_OK);
    return pool;
}

static void create_rail(struct pool_fixture *f, uint32_t traits)
{
    f->networks[0].traits |= traits;
    assert_int_equal(mrp_provider_create(f->context, "network", test_provider_ops(),
                         &f->networks[0], &f->rails[0]),
        MRP_OK);
}

static void make_idle(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(pool, size);

    assert_non_null(region);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(pool_fixture_stats(pool).n_idle, 1);
}

static void end(struct pool_fixture *f)
{
    assert_int_equal(mrp_context_destroy(f->context), MRP_OK);
    assert_string_equal(f->networks[0].first_error, "");
    f->context = NULL;
}

static int setup(void **state)
{
    static struct pool_fixture f;

    memset(&f, 0, sizeof f);
    test_provider_init(&f.networks[0]);
    *state = &f;
    return mrp_context_create(NULL, &f.context);
}

static int teardown(void **state)
{
    struct pool_fixture *f = *state;

    if (f->context != NULL) { /* the test has failed */
        mrp_context_destroy(f->context);
    }
    test_provider_fini(&f->networks[0]);
    return 0;
}

/* -- only what helps -- */

/* Older than it is memory that nobody has pinned. */
static void pinned__evicts_what_is_pinned(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool *unpinned, *pinned, *other;
    struct mrp_region *region;

    params.max_pinned = 16 * MRP_MIB;
    create_context(f, &params);
    create_rail(f, MRP_PROVIDER_PINS);
    unpinned = create_pool(f, NULL, false);
    pinned = create_pool(f, f->rails, false);
    other = create_pool(f, f->rails, false);
    make_idle(unpinned, 32 * MRP_MIB);
    make_idle(pinned, 12 * MRP_MIB);
    region = mrp_region_alloc(other, 8 * MRP_MIB);
    assert_non_null(region);
    assert_int_equal(pool_fixture_stats(pinned).n_idle, 0);
    assert_int_equal(pool_fixture_stats(unpinned).n_idle, 1);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    end(f);
}

static void registrations__evict_what_is_registered(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool *unregistered, *registered, *other;
    struct mrp_region *region;

    params.max_registrations = 1;
    create_context(f, &params);
    create_rail(f, 0);
    unregistered = create_pool(f, NULL, false);
    registered = create_pool(f, f->rails, false);
    other = create_pool(f, f->rails, false);
    make_idle(unregistered, 32 * MRP_MIB);
    make_idle(registered, 4 * MRP_MIB);
    region = mrp_region_alloc(other, 8 * MRP_MIB);
    assert_non_null(region);
    assert_int_equal(pool_fixture_stats(registered).n_idle, 0);
    assert_int_equal(pool_fixture_stats(unregistered).n_idle, 1);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    end(f);
}

/* What a pool that never frees keeps nobody else can have. */
static void kept__memory_is_no_reason_to_evict(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool *keeping, *giving, *other;

    params.max_bytes = 32 * MRP_MIB;
    create_context(f, &params);
    create_rail(f, 0);
    keeping = create_pool(f, f->rails, true);
    giving = create_pool(f, f->rails, false);
    other = create_pool(f, f->rails, false);
    make_idle(keeping, 24 * MRP_MIB);
    make_idle(giving, 2 * MRP_MIB);
    assert_none(mrp_region_alloc(other, 16 * MRP_MIB), MRP_ERR_LIMIT, "context's");
    assert_int_equal(pool_fixture_stats(giving).n_idle, 1);
    end(f);
}

/* No more goes than is wanted, the oldest first. */
static void bytes__evict_the_oldest_that_do(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool *pools[3], *other;
    struct mrp_region *region;

    params.max_bytes = 32 * MRP_MIB;
    create_context(f, &params);
    create_rail(f, 0);
    other = create_pool(f, f->rails, false);
    for (size_t i = 0; i < 3; i++) {
        pools[i] = create_pool(f, f->rails, false);
        make_idle(pools[i], 8 * MRP_MIB);
    }
    region = mrp_region_alloc(other, 20 * MRP_MIB); /* 12 more than there are left */
    assert_non_null(region);
    assert_int_equal(pool_fixture_stats(pools[0]).n_idle, 0);
    assert_int_equal(pool_fixture_stats(pools[1]).n_idle, 0);
    assert_int_equal(pool_fixture_stats(pools[2]).n_idle, 1);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    end(f);
}

/* -- what is on its way -- */

static struct mrp_budget *budget;
static _Atomic uint64_t n_refusals_before;
static atomic_bool is_evicting;

/* The network takes its time: until somebody has been refused meanwhile. */
static void deregister_slowly(struct test_provider *network, void *address, size_t size)
{
    time_t until = time(NULL) + PATIENCE_S;

    (void)network;
    (void)address;
    (void)size;
    if (atomic_exchange(&is_evicting, true)) {
        return;
    }
    while (mrp_load_relaxed(&budget->n_refusals) == n_refusals_before &&
        time(NULL) < until) {
        sched_yield();
    }
}

static void *trim(void *pool)
{
    mrp_pool_trim(pool, 0, NULL);
    return NULL;
}

/* A trim has the memory in its hands that the budget lacks: of the pool that asks, or of
 * another one. Without the trim it would have been idle, and evicted. */
static void trim__fails_no_request_that_its_memory_serves(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_context_state *context;
    struct mrp_pool *pools[2];
    struct mrp_region *region;
    pthread_t trimmer;

    params.max_bytes = 32 * MRP_MIB;
    create_context(f, &params);
    create_rail(f, 0);
    f->networks[0].on_deregister = deregister_slowly;
    assert_int_equal(mrp_context_get(f->context, &context), MRP_OK);
    budget = &context->budget;
    for (size_t i = 0; i < 2; i++) {
        pools[i] = create_pool(f, f->rails, false);
    }
    for (size_t i = 0; i < 2; i++) {
        is_evicting = true; /* not before the trim */
        mrp_context_trim(f->context, 0);
        make_idle(pools[0], 20 * MRP_MIB);
        n_refusals_before = mrp_load_relaxed(&budget->n_refusals);
        is_evicting = false;
        assert_int_equal(pthread_create(&trimmer, NULL, trim, pools[0]), 0);
        while (!is_evicting) {
            sched_yield();
        }
        region = mrp_region_alloc(pools[i], 20 * MRP_MIB);
        if (region == NULL) {
            fail_msg("%s", mrp_error_last()->text);
        }
        pthread_join(trimmer, NULL);
        assert_int_equal(mrp_region_free(region), MRP_OK);
    }
    end(f);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pinned__evicts_what_is_pinned, setup, teardown),
        cmocka_unit_test_setup_teardown(
            registrations__evict_what_is_registered, setup, teardown),
        cmocka_unit_test_setup_teardown(
            kept__memory_is_no_reason_to_evict, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes__evict_the_oldest_that_do, setup, teardown),
        cmocka_unit_test_setup_teardown(
            trim__fails_no_request_that_its_memory_serves, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
