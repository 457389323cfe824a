/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Callbacks of a provider that use another pool, as they may, or trim the context: they
 * meet the chunk that their own thread is just registering or deregistering.
 */
#include "rails.h"

#include <unistd.h>

#define PATIENCE_S \
    60 /* never to be reached: a thread that waits for itself does for ever */

enum use {
    ALLOCATES, /* from another pool, and the context's memory is used up */
    TRIMS
};

struct user {
    struct mrp_context *context;
    struct mrp_pool *other;
    enum use use;
    size_t n_calls;
    enum mrp_status status;
};

static void use_context(struct test_provider *network, void *address, size_t size)
{
    struct user *user = network->hook_user;
    struct mrp_region *region;

    (void)address;
    (void)size;
    if (user->n_calls++ > 0) {
        return;
    }
    if (user->use == TRIMS) {
        user->status = mrp_context_trim(user->context, 0);
        return;
    }
    region = mrp_region_alloc(user->other, 12 * MRP_MIB);
    user->status = region != NULL ? MRP_OK : mrp_error_last()->status;
    if (region != NULL) {
        mrp_region_free(region);
    }
}

static struct mrp_pool *create(struct mrp_context *context, struct mrp_backend *backend)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool = NULL;

    params.backend = backend;
    params.access = MRP_ACCESS_ALL;
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    return pool;
}

/* An idle chunk that takes the context's budget, and a rail that is added or removed. */
static void use_beside_change(enum use use, bool is_removal)
{
    struct mrp_context_params narrow = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_backend_params plain = MRP_BACKEND_PARAMS_INIT;
    struct pool_fixture f = {.pool = NULL};
    struct user user = {.use = use};
    struct mrp_region *region;
    unsigned rail = 9;

    narrow.max_bytes = 16 * MRP_MIB;
    assert_int_equal(mrp_context_create(&narrow, &f.context), MRP_OK);
    plain.pages = MRP_PAGES_4K;
    plain.prefault = -1;
    assert_int_equal(mrp_backend_create(f.context, "mmap", &plain, &f.backend), MRP_OK);
    test_provider_init(&f.networks[0]);
    f.networks[0].hook_user = &user;
    *(is_removal ? &f.networks[0].on_deregister : &f.networks[0].on_register) =
        use_context;
    assert_int_equal(mrp_provider_create(f.context, "network", test_provider_ops(),
                         &f.networks[0], &f.rails[0]),
        MRP_OK);
    f.pool = create(f.context, f.backend);
    user.other = create(f.context, f.backend);
    user.context = f.context;
    if (is_removal) {
        assert_int_equal(add(&f, f.rails[0], MRP_RAIL_EAGER), 0);
    }
    region = pool_fixture_alloc(&f, 12 * MRP_MIB);
    pool_fixture_free(region);
    assert_int_equal(pool_fixture_stats(f.pool).n_idle, 1);
    alarm(PATIENCE_S);
    assert_int_equal(is_removal
            ? mrp_pool_rail_remove(f.pool, 0)
            : mrp_pool_rail_add(f.pool, f.rails[0], MRP_RAIL_EAGER, &rail),
        MRP_OK);
    alarm(0);
    assert_true(user.n_calls > 0);
    if (use == TRIMS) {
        assert_int_equal(user.status, MRP_OK);
    } else if (user.status != MRP_OK) { /* what it evicts comes when the hold ends */
        assert_int_equal(user.status, MRP_ERR_LIMIT);
    }
    assert_int_equal(pool_fixture_stats(f.pool).n_idle, 0); /* and it does come */
    assert_int_equal(f.networks[0].n_live, 0);
    assert_int_equal(mrp_pool_check(f.pool), MRP_OK);
    assert_int_equal(mrp_pool_check(user.other), MRP_OK);
    region = mrp_region_alloc(user.other, 12 * MRP_MIB);
    assert_non_null(region);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_context_destroy(f.context), MRP_OK);
    assert_string_equal(f.networks[0].first_error, "");
    test_provider_fini(&f.networks[0]);
}

static void add__whose_network_allocates_elsewhere(void **state)
{
    (void)state;
    use_beside_change(ALLOCATES, false);
}

static void add__whose_network_trims_the_context(void **state)
{
    (void)state;
    use_beside_change(TRIMS, false);
}

static void remove__whose_network_allocates_elsewhere(void **state)
{
    (void)state;
    use_beside_change(ALLOCATES, true);
}

static void remove__whose_network_trims_the_context(void **state)
{
    (void)state;
    use_beside_change(TRIMS, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add__whose_network_allocates_elsewhere),
        cmocka_unit_test(add__whose_network_trims_the_context),
        cmocka_unit_test(remove__whose_network_allocates_elsewhere),
        cmocka_unit_test(remove__whose_network_trims_the_context),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
