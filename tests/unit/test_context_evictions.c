/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a budget of the context makes the pools give up: only what helps, nothing where
 * that would not be enough, and what another thread is giving up is waited for.
 */
#include "context/context.h"
#include "gate.h"
#include "standing_clock.h"

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

/* The network refuses what the budget allows once something has gone: more goes for it. */
static void network__refuses_after_the_budget(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool *pools[2], *other;
    struct mrp_region *region;

    params.max_registrations = 2;
    create_context(f, &params);
    create_rail(f, 0);
    other = create_pool(f, f->rails, false);
    for (size_t i = 0; i < 2; i++) {
        pools[i] = create_pool(f, f->rails, false);
        make_idle(pools[i], 8 * MRP_MIB);
    }
    test_provider_fail_next(&f->networks[0], 1, 1, MRP_ERR_LIMIT);
    region = mrp_region_alloc(other, 8 * MRP_MIB);
    if (region == NULL) {
        fail_msg("%s", mrp_error_last()->text);
    }
    assert_int_equal(pool_fixture_stats(pools[0]).n_idle, 0);
    assert_int_equal(pool_fixture_stats(pools[1]).n_idle, 0);
    pool_fixture_free(region);
    end(f);
}

/* A rail that has to register the older one holds it meanwhile. */
static void held__has_others_go_in_its_stead(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct beside joining = {.policy = MRP_RAIL_EAGER};
    struct pool_fixture *f = *state;
    struct mrp_region *older, *younger, *live, *region;
    struct mrp_pool *other;
    struct gate gate;

    params.max_bytes = 48 * MRP_MIB;
    create_context(f, &params);
    create_rail(f, 0);
    joining.provider = f->rails[0];
    f->pool = create_pool(f, NULL, false);
    other = create_pool(f, NULL, false);
    older = pool_fixture_alloc(f, 16 * MRP_MIB);
    younger = pool_fixture_alloc(f, 16 * MRP_MIB);
    live = mrp_region_alloc(other, 16 * MRP_MIB);
    assert_non_null(live);
    pool_fixture_free(older);
    pool_fixture_free(younger);
    gate_init(&gate, 1);
    gate_at(&f->networks[0], &gate);
    beside_begin(&joining, f, beside_add);
    gate_await(&gate);
    region = mrp_region_alloc(other, 16 * MRP_MIB);
    gate_open(&gate);
    assert_int_equal(beside_end(&joining), MRP_OK);
    if (region == NULL) {
        fail_msg("beside the hold: %s", mrp_error_last()->text);
    }
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    pool_fixture_free(region);
    pool_fixture_free(live);
    end(f);
}

/* No memory that goes makes a network register more at once than it ever does. */
static void too_large__for_a_network_evicts_nothing(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool *giving, *bare, *registered;
    struct mrp_provider *rail;
    struct test_provider narrow;
    struct mrp_region *region;
    unsigned number;

    create_context(f, &params);
    create_rail(f, 0);
    test_provider_init(&narrow);
    narrow.max_size = 4 * MRP_MIB;
    assert_int_equal(
        mrp_provider_create(f->context, "narrow", test_provider_ops(), &narrow, &rail),
        MRP_OK);
    giving = create_pool(f, f->rails, false);
    bare = create_pool(f, NULL, false);
    registered = create_pool(f, &rail, false);
    make_idle(giving, 16 * MRP_MIB);
    region = mrp_region_alloc(bare, 16 * MRP_MIB);
    assert_non_null(region);
    assert_refused(mrp_pool_rail_add(bare, rail, MRP_RAIL_EAGER, &number), MRP_ERR_LIMIT,
        "at most 4194304 bytes");
    assert_int_equal(pool_fixture_stats(giving).n_idle, 1);
    assert_none(mrp_region_alloc(registered, 16 * MRP_MIB), MRP_ERR_LIMIT,
        "at most 4194304 bytes");
    assert_int_equal(pool_fixture_stats(giving).n_idle, 1);
    pool_fixture_free(region);
    end(f);
    assert_string_equal(narrow.first_error, "");
    test_provider_fini(&narrow);
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

struct asking {
    struct mrp_waiter waiter;
    atomic_size_t n_calls;
    enum mrp_status status;
};

static void notify(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    struct asking *asking = waiter->user;

    (void)region;
    asking->status = status;
    asking->n_calls++;
}

/* An event loop does not wait for another thread's network: it is told when that has done.
 * The clock stands, so that even the shortest wait would not end. */
static void async__returns_beside_an_eviction(void **state)
{
    static const size_t sizes[] = {20 * MRP_MIB, 64};
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct pool_fixture *f = *state;

    params.max_bytes = 32 * MRP_MIB;
    for (size_t i = 0; i < 2; i++) {
        struct asking asking = {.waiter = MRP_WAITER_INIT(notify, &asking)};
        struct mrp_region *region = NULL;
        struct beside trim = {.rail = 0};
        struct mrp_pool *other;
        enum mrp_status status;
        struct gate gate;

        create_context(f, &params);
        create_rail(f, 0);
        f->pool = create_pool(f, f->rails, false);
        other = create_pool(f, NULL, false);
        make_idle(f->pool, 32 * MRP_MIB - 64 * MRP_KIB);
        gate_init(&gate, 1);
        gate_at_deregister(&f->networks[0], &gate);
        beside_begin(&trim, f, beside_trim);
        gate_await(&gate);
        stand_still();
        alarm(PATIENCE_S);
        status = mrp_region_alloc_async(other, sizes[i], &asking.waiter, &region);
        alarm(0);
        go_on_again();
        assert_int_equal(status, MRP_ERR_AGAIN);
        assert_int_equal(asking.n_calls, 0);
        gate_open(&gate);
        assert_int_equal(beside_end(&trim), MRP_OK);
        f->networks[0].on_deregister = NULL; /* the gate goes before the fixture */
        assert_int_equal(asking.n_calls, 1);
        assert_int_equal(asking.status, MRP_ERR_AGAIN); /* a chunk is to be made */
        assert_int_equal(
            mrp_region_alloc_async(other, sizes[i], &asking.waiter, &region), MRP_OK);
        pool_fixture_free(region);
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
            network__refuses_after_the_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(
            held__has_others_go_in_its_stead, setup, teardown),
        cmocka_unit_test_setup_teardown(
            too_large__for_a_network_evicts_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(
            trim__fails_no_request_that_its_memory_serves, setup, teardown),
        cmocka_unit_test_setup_teardown(
            async__returns_beside_an_eviction, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
